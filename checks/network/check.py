"""The network check: every way to one app tried apart, so that machine, app and edge are told apart."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from checks.catalog import CheckKind, MeasureInfo, ProbeKit
from checks.finding import Finding, Measure, State
from checks.limits import Profile, profile_of
from checks.network.way import Trip, travel
from checks.problem import Problem, finding_of
from checks.reason import Reason
from checks.target import Target
from checks.units import Duration, Ratio

Route = Literal["private", "proxy", "public"]
_REMEMBERED: Final = 20


class Way(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way: `private` is one machine on the private network, `proxy` is flycast, `public` is the edge."""

    name: str
    url: str
    route: Route
    local: bool = False


class NetworkOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ways to one app. `may_sleep`: only private ways are tried then, for the others wake it.

    `slow_dns`, `slow_connect`: over these a way is degraded in production. `loss`: of the last 20 tries.
    """

    ways: tuple[Way, ...]
    may_sleep: bool = False
    timeout: Duration = Duration(2)
    slow_dns: Duration = Duration(0.5)
    slow_connect: Duration = Duration(0.1)
    loss: Ratio = Ratio(0.05)
    profile: Profile = "auto"


class NetworkCheck:
    """Tries every way at once."""

    def __init__(self, target: Target, options: NetworkOptions, kit: ProbeKit) -> None:
        self._app = target.key.service
        self._options = options
        self._kit = kit
        self._production = profile_of(target.key.env, options.profile) == "production"
        self._ways = tuple(way for way in options.ways if way.route == "private" or not options.may_sleep)
        self._history = {way.name: deque[bool](maxlen=_REMEMBERED) for way in self._ways}

    async def probe(self) -> Finding:
        within_s = float(self._options.timeout)
        trips = await asyncio.gather(
            *(travel(way.url, self._kit, within_s=within_s, local=way.local) for way in self._ways)
        )
        seen = tuple(zip(self._ways, trips, strict=True))
        for way, trip in seen:
            self._history[way.name].append(trip.failure is None)
        problems = (*blame(self._app, seen), *self._slow(seen), *self._losses(seen))
        return finding_of(
            problems,
            fine=f"all {len(seen)} ways to {self._app} answer",
            measures=tuple(self._measures(seen)),
        )

    async def close(self) -> None:
        """Nothing is kept open."""

    def _slow(self, seen: tuple[tuple[Way, Trip], ...]) -> Iterator[Problem]:
        if not self._production:
            return
        limits = {"dns": self._options.slow_dns, "connect": self._options.slow_connect}
        for way, trip in seen:
            for step, took_s in trip.times:
                if step in limits and took_s > limits[step]:
                    took = f"{took_s * 1000:.0f} ms (limit {limits[step]})"
                    words = f"{step} to {way.name} of {self._app} took {took}"
                    yield Problem(state=State.DEGRADED, reason=Reason.SLOW, message=words)

    def _losses(self, seen: tuple[tuple[Way, Trip], ...]) -> Iterator[Problem]:
        for way, trip in seen:
            tries = self._history[way.name]
            lost = tries.count(False)
            if trip.failure is None and len(tries) == _REMEMBERED and lost / len(tries) > self._options.loss:
                words = f"{lost} of the last {len(tries)} tries of {way.name} of {self._app} were lost"
                yield Problem(state=State.DEGRADED, reason=Reason.NET_LOSS, message=words)

    def _measures(self, seen: tuple[tuple[Way, Trip], ...]) -> Iterator[Measure]:
        for way, trip in seen:
            labels = (("way", way.name), ("route", way.route))
            yield Measure(name="gaia_network_way_up", value=float(trip.failure is None), labels=labels)
            for step, took_s in trip.times:
                yield Measure(name=f"gaia_network_{step}_seconds", value=took_s, labels=labels)


def blame(app: str, seen: tuple[tuple[Way, Trip], ...]) -> Iterator[Problem]:
    """Pure: which part is at fault, from which ways fail and which do not."""
    by_route: dict[Route, list[tuple[Way, Trip]]] = {"private": [], "proxy": [], "public": []}
    for way, trip in seen:
        by_route[way.route].append((way, trip))
    failed = {route: [one for one in ways if one[1].failure is not None] for route, ways in by_route.items()}
    private, lost = by_route["private"], failed["private"]
    if private and len(lost) == len(private):
        yield _problem(State.DOWN, f"{app} does not answer on any of its {len(private)} machines", lost)
        return
    for one in lost:
        yield _problem(
            State.DEGRADED, f"one machine of {app} is bad and {len(private) - len(lost)} are well", [one]
        )
    # A way further out is only to blame where the one before it works.
    inside_works = len(lost) < len(private) or not private
    if failed["proxy"]:
        told = "its machines answer and the proxy does not" if private else "the proxy does not answer"
        yield _problem(State.DOWN if inside_works else State.DEGRADED, f"{app}: {told}", failed["proxy"])
    elif failed["public"]:
        inside = by_route["proxy"] or private
        told = (
            "everything inside answers and the public edge does not" if inside else "the edge does not answer"
        )
        yield _problem(State.DOWN, f"{app}: {told}", failed["public"])


def _problem(state: State, start: str, ways: list[tuple[Way, Trip]]) -> Problem:
    way, trip = ways[0]
    words = f"{start}: {way.name} {trip.why}"
    return Problem(state=state, reason=trip.failure or Reason.UNREACHABLE, message=words, urgent=True)


def _gauge(name: str, text: str) -> MeasureInfo:
    return MeasureInfo(name=f"gaia_network_{name}", type="gauge", help=text, labels=("way", "route"))


MEASURES: Final = (
    _gauge("way_up", "1 when the way was gone to its end."),
    _gauge("dns_seconds", "Time to the addresses."),
    _gauge("connect_seconds", "Time to a connection."),
    _gauge("tls_seconds", "Time of the TLS handshake."),
    _gauge("ttfb_seconds", "Time to the answer's first byte."),
)
KIND: Final = CheckKind(name="network", options=NetworkOptions, build=NetworkCheck, measures=MEASURES)
