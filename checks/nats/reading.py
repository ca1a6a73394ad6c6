"""Everything known about a broker beside that it answers: gathered, compared with the last look, judged."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import msgspec

from checks.catalog import ProbeKit
from checks.finding import Evidence, Measure, State
from checks.limits import chosen
from checks.nats import server
from checks.nats.link import Link
from checks.nats.monitor import Monitor
from checks.nats.options import NatsOptions
from checks.nats.server import Connz, Server, Varz
from checks.nats.thresholds import Thresholds
from checks.problem import Problem
from checks.reason import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one look added."""

    problems: tuple[Problem, ...] = ()
    measures: tuple[Measure, ...] = ()
    evidence: tuple[Evidence, ...] = ()


class Readings:
    """Keeps the last reading of each server, since most signals are differences."""

    def __init__(self, options: NatsOptions, limits: Thresholds, kit: ProbeKit) -> None:
        self._options = options
        self._limits = limits
        self._clock = kit.clock
        context = options.tls_context() if options.ca_file else None
        self._monitors = tuple(Monitor(url, kit.resolver, context=context) for url in options.monitors())
        # One server goes by one name in every series, its client address where the two lists agree.
        shown = tuple(place.shown for place in options.places())
        own = tuple(monitor.shown for monitor in self._monitors)
        self._names = shown if len(shown) == len(own) else own
        self._before: dict[str, Server] = {}
        self._unready_since_s: dict[str, float] = {}

    async def read(self, link: Link) -> Reading:
        """Never raises OSError or TimeoutError; what cannot be read is a problem of its own."""
        outcomes = await asyncio.gather(*(self._server(monitor) for monitor in self._monitors))
        problems: list[Problem] = []
        measures: list[Measure] = []
        for name, monitor, outcome in zip(self._names, self._monitors, outcomes, strict=True):
            if isinstance(outcome, Problem):
                problems.append(outcome)
                continue
            problems += server.judge(
                outcome, self._before.get(monitor.shown), self._limits, shown=monitor.shown
            )
            problems += self._ready(outcome, monitor.shown)
            measures += server.measures(outcome, name)
            self._before[monitor.shown] = outcome
        problems += self._jetstream_on(link, outcomes)
        return Reading(problems=tuple(problems), measures=tuple(measures))

    async def _server(self, monitor: Monitor) -> Server | Problem:
        try:
            async with asyncio.timeout(float(self._options.answer_within)):
                varz, health = await asyncio.gather(monitor.get("/varz"), monitor.get("/healthz"))
                decoded = msgspec.json.decode(varz.body, type=Varz)
                before = self._before.get(monitor.shown)
                closed: tuple[server.Closed, ...] = ()
                if before is not None and decoded.slow_consumers > before.varz.slow_consumers:
                    listed = await monitor.get("/connz?state=closed&sort=stop&limit=50")
                    closed = msgspec.json.decode(listed.body, type=Connz).connections
        except (OSError, ValueError, TimeoutError) as error:
            why = "no answer in time" if isinstance(error, TimeoutError) else str(error)
            words = (
                f"the monitoring port {monitor.shown} cannot be read ({why}): less is known of this broker"
            )
            return Problem(state=State.DEGRADED, reason=Reason.NATS_MONITORING, message=words)
        return Server(
            varz=decoded,
            at_s=self._clock.monotonic_s(),
            ready=health.status == 200,
            ready_text=health.body.decode(errors="replace")[:200],
            closed=closed,
        )

    def _ready(self, seen: Server, shown: str) -> tuple[Problem, ...]:
        if seen.ready:
            self._unready_since_s.pop(shown, None)
            return ()
        since_s = self._unready_since_s.setdefault(shown, seen.at_s)
        limit = chosen(self._limits.not_ready)
        patience_s = None if limit is None else limit.critical or limit.warn
        # A new leader is elected within two to five seconds; until then 503 is no fault.
        if patience_s is None or seen.at_s - since_s < patience_s:
            return ()
        words = f"{shown}/healthz says it is not ready for {seen.at_s - since_s:.0f} s: {seen.ready_text}"
        return (Problem(state=State.DEGRADED, reason=Reason.NATS_NOT_READY, message=words, urgent=True),)

    def _jetstream_on(self, link: Link, outcomes: list[Server | Problem]) -> tuple[Problem, ...]:
        seen = [one for one in outcomes if isinstance(one, Server)]
        if not self._options.jetstream or (link.info.jetstream and all(s.varz.has_jetstream for s in seen)):
            return ()
        words = (
            "JetStream should be there and is switched off: nothing is stored; see the server's configuration"
        )
        return (Problem(state=State.DOWN, reason=Reason.JS_DISABLED, message=words, urgent=True),)
