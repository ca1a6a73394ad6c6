"""What one server's own numbers mean: connections, memory, CPU, clients cut or turned away. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from checks.finding import State
from checks.limits import chosen
from checks.nats.server import Server, Varz
from checks.nats.thresholds import Thresholds
from checks.problem import Problem, over
from checks.reason import Reason
from checks.units import Duration

_NO_DATE: Final = "0001-01-01"
_MB: Final = 2**20
_REJECTED: Final = ("Authentication Failure", "Authentication Timeout")
_NAMED: Final = 3


def judge(
    now: Server, before: Server | None, limits: Thresholds, *, shown: str, machine_bytes: int | None = None
) -> tuple[Problem, ...]:
    """Every problem one server shows of itself. `before` is its previous reading."""
    return (
        *_connections(now.varz, limits, shown),
        *_load(now.varz, before, limits, shown, machine_bytes),
        *_cut_clients(now, before, limits, shown),
        *_restart(now.varz, before, shown),
        *_certificate(now, limits, shown),
    )


def _connections(varz: Varz, limits: Thresholds, shown: str) -> tuple[Problem, ...]:
    most = varz.max_connections
    if most <= 0:
        return ()
    if varz.connections >= most:
        words = (
            f"{shown} takes no further client: {varz.connections} of {most}; find the leak or raise the limit"
        )
        return (Problem(state=State.DOWN, reason=Reason.NATS_MAX_CONNECTIONS, message=words, urgent=True),)
    return over(
        chosen(limits.connections),
        varz.connections / most,
        Reason.NATS_CONNECTIONS_HIGH,
        lambda at: (
            f"{shown} has {varz.connections} of {most} connections taken "
            f"({varz.connections / most:.0%}, limit {at:.0%})"
        ),
    )


def _load(
    varz: Varz, before: Server | None, limits: Thresholds, shown: str, machine_bytes: int | None
) -> Iterator[Problem]:
    most = varz.memory_limit(machine_bytes)
    if most:
        yield from over(
            chosen(limits.memory),
            varz.mem / most,
            Reason.NATS_MEMORY,
            lambda at: (
                f"{shown} uses {varz.mem // _MB} of {most // _MB} MB memory ({varz.mem / most:.0%}, "
                f"limit {at:.0%}): see its slow consumers and memory streams, or give it more"
            ),
        )
    if before is None:
        return
    # One busy second is no news: the lower of two looks in a row counts.
    busy = min(varz.cpu_ratio, before.varz.cpu_ratio)
    yield from over(
        chosen(limits.cpu),
        busy,
        Reason.NATS_CPU,
        lambda at: (
            f"{shown} keeps {varz.gomaxprocs or varz.cores} CPUs {busy:.0%} busy over two looks "
            f"(limit {at:.0%}): see who sends most in /connz?sort=msgs_from"
        ),
    )


def _cut_clients(now: Server, before: Server | None, limits: Thresholds, shown: str) -> Iterator[Problem]:
    if before is None or before.varz.server_id != now.varz.server_id or now.at_s <= before.at_s:
        return
    minutes = (now.at_s - before.at_s) / 60
    cut = now.varz.slow_consumers - before.varz.slow_consumers
    if cut > 0:
        names = [one.who for one in now.closed if one.reason.startswith("Slow Consumer")]
        who = ", ".join(dict.fromkeys(names[:cut])) or "names unknown without the list of closed connections"
        yield from over(
            chosen(limits.slow_consumers_per_minute),
            max(cut / max(minutes, 1.0), 1.0),
            Reason.NATS_SLOW_CONSUMER,
            lambda at: f"{shown} cut {cut} slow consumers since the last look (limit {at:g} a minute): {who}",
        )
    stale = now.varz.stale_connections - before.varz.stale_connections
    yield from over(
        chosen(limits.stale_per_minute),
        stale / max(minutes, 1.0),
        Reason.NATS_STALE_CONNECTIONS,
        lambda at: f"{stale} connections to {shown} went stale since the last look (limit {at:g} a minute)",
    )
    yield from _rejected(now, before, minutes, limits, shown)


def _rejected(
    now: Server, before: Server, minutes: float, limits: Thresholds, shown: str
) -> Iterator[Problem]:
    """Clients turned away since the last look, as far as the list of closed connections reaches back."""
    # By the server's own clock, both of them.
    since_s = _seconds(before.varz.now) or 0.0
    turned_away = [
        one for one in now.closed if one.reason in _REJECTED and (_seconds(one.stop) or 0.0) > since_s
    ]
    whence = ", ".join(dict.fromkeys(one.who for one in turned_away[:_NAMED]))
    yield from over(
        chosen(limits.rejected_per_minute),
        len(turned_away) / max(minutes, 1.0),
        Reason.NATS_CLIENTS_REJECTED,
        lambda at: (
            f"{shown} turned {len(turned_away)} clients away for their credentials since the last look "
            f"(limit {at:g} a minute): {whence}"
        ),
    )


def _certificate(now: Server, limits: Thresholds, shown: str) -> Iterator[Problem]:
    """The certificate the server itself serves; an unset date reads as the year 1."""
    text = now.varz.tls_cert_not_after
    limit = chosen(limits.certificate_left)
    if not text or text.startswith(_NO_DATE) or limit is None:
        return
    ends_s = _seconds(text)
    if ends_s is None:
        return
    left_s = ends_s - now.wall_s
    reached = next((at for at in (limit.critical, limit.warn) if at is not None and left_s <= at), None)
    if reached is None:
        return
    words = (
        f"the certificate of {shown} ends in {left_s / 86400:.0f} days (limit {Duration(reached)}): renew it"
    )
    urgent = reached == limit.critical
    yield Problem(state=State.DEGRADED, reason=Reason.TLS_EXPIRING, message=words, urgent=urgent)


def _seconds(rfc3339: str) -> float | None:
    try:
        return datetime.fromisoformat(rfc3339).timestamp()
    except ValueError:
        return None


def _restart(varz: Varz, before: Server | None, shown: str) -> Iterator[Problem]:
    if before is not None and before.varz.server_id not in ("", varz.server_id):
        words = f"{shown} restarted since the last look (now {varz.version}, up since {varz.start})"
        yield Problem(state=State.UP, reason=Reason.NATS_RESTARTED, message=words)
    elif before is not None and before.varz.config_digest not in ("", varz.config_digest):
        words = f"{shown} runs with another configuration since the last look (now {varz.config_digest[:19]})"
        yield Problem(state=State.UP, reason=Reason.NATS_RESTARTED, message=words)
