"""Ways that work and are slow, lossy, or soon without a certificate: pure."""

from __future__ import annotations

from collections.abc import Iterator

from checks.finding import State
from checks.limits import chosen
from checks.network.memory import REMEMBERED, Memory
from checks.network.options import Way
from checks.network.thresholds import Thresholds
from checks.network.way import Trip
from checks.problem import Problem, over
from checks.reason import Reason
from checks.units import Duration


def judge(
    way: Way, trip: Trip, memory: Memory, limits: Thresholds, *, app: str, region: str
) -> Iterator[Problem]:
    """What is worth a word about one way. `region`: the agent's own."""
    to = f"{way.name} of {app}"
    times = dict(trip.times)
    dns_s, connect_s = times.get("dns"), times.get("connect")
    yield from over(
        chosen(limits.dns),
        dns_s,
        Reason.SLOW,
        lambda at: f"dns to {to} took {_ms(dns_s)} (limit {Duration(at)})",
    )
    if way.region and region and way.region != region:
        yield from _far(connect_s, memory, limits, to, f"{region} to {way.region}")
    else:
        yield from over(
            chosen(limits.connect),
            connect_s,
            Reason.SLOW,
            lambda at: f"connect to {to} took {_ms(connect_s)} (limit {Duration(at)})",
        )
    if trip.failure is None:
        # While it fails that is said already.
        lost = memory.tries.count(False)
        yield from over(
            chosen(limits.loss),
            memory.loss,
            Reason.NET_LOSS,
            lambda at: f"{lost} of the last {REMEMBERED} tries of {to} were lost (limit {at:.0%})",
        )
    yield from _certificate(trip, limits, to)


def _far(connect_s: float | None, memory: Memory, limits: Thresholds, to: str, how: str) -> Iterator[Problem]:
    """Another region is as far as it is: only its own usual time says what is slow."""
    usual_s = memory.usual_connect_s
    if connect_s is None or not usual_s:
        return
    times = connect_s / usual_s
    yield from over(
        chosen(limits.times_usual),
        times,
        Reason.SLOW,
        lambda at: (
            f"connect to {to} ({how}) took {_ms(connect_s)}, {times:.1f} times its median of a day, "
            f"{_ms(usual_s)} (limit {at:g} times)"
        ),
    )


def _certificate(trip: Trip, limits: Thresholds, to: str) -> Iterator[Problem]:
    limit, left_s = chosen(limits.certificate_left), trip.certificate_left_s
    if limit is None or left_s is None:
        return
    reached = next((at for at in (limit.critical, limit.warn) if at is not None and left_s <= at), None)
    if reached is None:
        return
    words = f"the certificate on {to} ends in {left_s / 86400:.0f} days (limit {Duration(reached)}): renew it"
    yield Problem(
        state=State.DEGRADED, reason=Reason.TLS_EXPIRING, message=words, urgent=reached == limit.critical
    )


def _ms(took_s: float | None) -> str:
    return f"{(took_s or 0) * 1000:.0f} ms"
