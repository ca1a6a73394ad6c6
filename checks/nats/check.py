"""The look at a NATS server or cluster: a fresh client per server, then what monitoring and JetStream say."""

from __future__ import annotations

import asyncio
from typing import Final

from msgspec.structs import replace

from checks.catalog import ProbeKit
from checks.finding import Evidence, Finding, Measure, State
from checks.limits import chosen
from checks.nats.options import NatsOptions
from checks.nats.place import Place
from checks.nats.reading import Readings
from checks.nats.sentinel import SILENCE_S, Doubts
from checks.nats.thresholds import effective
from checks.nats.visit import Entry, Visit, visit
from checks.problem import Problem, finding_of, over
from checks.reason import Reason
from checks.target import Target
from checks.units import Duration

# A message that was given up on stays told for this long; nothing says when it has been dealt with.
_POISON_TOLD_S: Final = 600.0
_DYING_S: Final = 0.015
_DYING_TRIES: Final = 2


class NatsCheck:
    """Looks at every configured server of one broker."""

    def __init__(
        self, target: Target, options: NatsOptions, kit: ProbeKit, *, entry: Entry, doubts: Doubts
    ) -> None:
        self._options = options
        self._kit = kit
        self._places = options.places()
        self._entry = entry
        self._doubts = doubts
        self._limits = effective(target.key.env, options.profile, options.thresholds)
        self._readings = Readings(options, self._limits, kit)

    async def probe(self) -> Finding:
        visits = await asyncio.gather(*(self._visit(place) for place in self._places))
        try:
            return await self._judge(visits)
        finally:
            for one in visits:
                if one.link is not None:
                    one.link.close()

    async def close(self) -> None:
        """Nothing is kept between looks; the sentinel owns its own links."""

    async def _visit(self, place: Place) -> Visit:
        limit_s = float(self._options.answer_within)
        if place in self._doubts.silent:
            # Silence has lasted a while already when a look follows it, so the fresh one may be short.
            limit_s = min(limit_s, SILENCE_S)
        visited = await visit(place, self._entry, self._kit, answer_within_s=limit_s)
        for _ in range(_DYING_TRIES):
            if visited.failure is None or visited.failure.reason is not Reason.NATS_NO_BACKEND:
                break
            # The socket of a dying server outlives it by some milliseconds: that is no proxy.
            await asyncio.sleep(_DYING_S)
            visited = await visit(place, self._entry, self._kit, answer_within_s=limit_s)
        return visited

    async def _judge(self, visits: list[Visit]) -> Finding:
        alive = [one for one in visits if one.link is not None]
        measures = tuple(_visit_measures(visits))
        failed = [one for one in visits if one.failure is not None]
        if not alive:
            first = failed[0]
            assert first.failure is not None, "a visit without a link has a failure"
            failure = self._leaving_or(first.failure, first.place)
            others = tuple(
                Evidence(name=one.place.shown, value=one.failure.message)
                for one in failed[1:]
                if one.failure is not None
            )
            return replace(
                failure,
                phases=first.phases,
                measures=measures,
                evidence=failure.evidence + others,
            )
        best = alive[0]
        assert best.link is not None, "alive means that the link is open"
        reading = await self._readings.read(best.link, visits)
        problems = (
            *self._leaving(alive),
            *self._poison(),
            *self._slow(best),
            *reading.problems,
        )
        fine = (
            f"{best.place.shown} answers in {best.latency_s * 1000:.1f} ms"
            if len(visits) == 1
            else f"all {len(visits)} servers answer, {best.place.shown} in {best.latency_s * 1000:.1f} ms"
        )
        return finding_of(
            problems,
            fine=fine,
            latency_s=best.latency_s,
            phases=best.phases,
            measures=(*measures, *reading.measures),
            evidence=tuple(reading.evidence),
        )

    def _leaving_or(self, failure: Finding, place: Place) -> Finding:
        """`failure`, unless it was announced: a server that leaves refuses everybody first."""
        if failure.reason is not Reason.NATS_REFUSED or place not in self._doubts.leaving:
            return failure
        words = f"{place.shown} said that it is leaving (lame duck) and takes no new client: start another"
        return replace(failure, reason=Reason.NATS_LAME_DUCK, message=words)

    def _leaving(self, alive: list[Visit]) -> tuple[Problem, ...]:
        names = ", ".join(one.place.shown for one in alive if one.place in self._doubts.leaving)
        if not names:
            return ()
        words = f"{names} is in lame duck mode: it is being shut down gracefully and takes no new client soon"
        state = State.DEGRADED if len(self._places) == 1 else State.UP
        return (Problem(state=state, reason=Reason.NATS_LAME_DUCK, message=words),)

    def _poison(self) -> tuple[Problem, ...]:
        since_s = self._kit.clock.monotonic_s() - _POISON_TOLD_S
        told = [one for one in self._doubts.poison.values() if one.at_s >= since_s]
        if not told:
            return ()
        one = told[-1]
        more = f", and {len(told) - 1} more consumers" if len(told) > 1 else ""
        words = (
            f"consumer {one.consumer} of stream {one.stream} never acknowledged message {one.sequence} and "
            f"has used up its deliveries ({one.count} such messages{more}): see what it cannot digest"
        )
        return (Problem(state=State.DEGRADED, reason=Reason.JS_POISON_MESSAGES, message=words),)

    def _slow(self, best: Visit) -> tuple[Problem, ...]:
        words = f"{best.place.shown} took {best.latency_s * 1000:.0f} ms to let the agent in and answer"
        own = self._options.slower_than
        if own is not None:
            if best.latency_s < own:
                return ()
            return (Problem(state=State.DEGRADED, reason=Reason.NATS_SLOW, message=f"{words} (limit {own})"),)
        return over(
            chosen(self._limits.latency),
            best.latency_s,
            Reason.NATS_SLOW,
            lambda at: f"{words} (limit {Duration(at)})",
        )


def _visit_measures(visits: list[Visit]) -> list[Measure]:
    found = []
    for one in visits:
        labels = (("server", one.place.shown),)
        up = one.link is not None
        if up or (one.failure is not None and one.failure.state is State.DOWN):
            found.append(Measure(name="gaia_nats_server_up", value=float(up), labels=labels))
        if up:
            found.append(Measure(name="gaia_nats_round_trip_seconds", value=one.latency_s, labels=labels))
    return found
