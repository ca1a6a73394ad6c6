"""The network check: every way to one app tried apart, so that machine, app and edge are told apart."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from checks.apps import Ask, Asker
from checks.catalog import CheckKind, ProbeKit
from checks.finding import Evidence, Finding, Measure, State
from checks.machines import names
from checks.network.blame import Seen, blame
from checks.network.memory import Memory
from checks.network.options import MEASURES, NetworkOptions, Way
from checks.network.slowness import judge
from checks.network.stale import Names
from checks.network.thresholds import effective
from checks.network.way import travel
from checks.problem import Problem, finding_of
from checks.reason import Reason
from checks.target import Target


class NetworkCheck:
    """Tries every way at once."""

    def __init__(self, target: Target, options: NetworkOptions, kit: ProbeKit) -> None:
        self._name = (target.key.env, target.key.service)
        self._app = target.key.service
        self._options = options
        self._kit = kit
        self._limits = effective(target.key.env, options.profile, options.thresholds)
        self._written = tuple(way for way in options.ways if way.route == "private" or not options.may_sleep)
        self._memories: dict[str, Memory] = {}
        self._dns = Names()

    async def probe(self) -> Finding:
        ways = (*self._written, *self._machines())
        within_s = float(self._options.timeout)
        self._say_what_may_wake(ways)
        trips, (problems, evidence) = await asyncio.gather(
            asyncio.gather(*(travel(way.url, self._kit, within_s=within_s, local=way.local) for way in ways)),
            self._stale(),
        )
        seen = await self._without_sleepers(tuple(zip(ways, trips, strict=True)))
        now_s = self._kit.clock.monotonic_s()
        self._memories = {way.name: self._memories.get(way.name) or Memory() for way in ways}
        for way, trip in seen:
            self._memories[way.name].add(trip, now_s)
        if not seen:
            return self._nothing(problems)
        slow = (
            problem
            for way, trip in seen
            for problem in judge(
                way,
                trip,
                self._memories[way.name],
                self._limits,
                app=self._app,
                region=self._options.region,
            )
        )
        return finding_of(
            (*blame(self._app, seen), *problems, *slow),
            fine=f"all {len(seen)} ways to {self._app} answer",
            measures=tuple(self._measures(seen)),
            evidence=evidence,
        )

    async def close(self) -> None:
        """Nothing is kept open."""

    def _nothing(self, problems: tuple[Problem, ...]) -> Finding:
        app = self._options.app
        listed = self._kit.apps.listed(app)
        if listed is None:
            words = f"there is no way to try: no machines check says which machines {app or self._app} has"
            return Finding(state=State.UNKNOWN, reason=Reason.CONFIG, message=words)
        words = f"no machine of {app} is started: there is no way to try"
        return finding_of(
            (*problems, Problem(state=State.ASLEEP, reason=Reason.ASLEEP, message=words)), fine=words
        )

    def _machines(self) -> Iterator[Way]:
        """A private way to each started machine, as the machines check lists them."""
        options = self._options
        listed = self._kit.apps.listed(options.app) if options.app else None
        if listed is None or options.port is None:
            return
        for machine in listed.machines:
            if machine.state == "started":
                yield Way(
                    name=machine.id,
                    url=f"http://{machine.id}.vm.{options.app}.internal:{options.port}{options.path}",
                    route="private",
                    region=machine.region,
                    local=machine.id == options.machine,
                )

    async def _without_sleepers(self, seen: Seen) -> Seen:
        """`seen` without failed ways to machines that stopped since they were listed: that is no fault."""
        written = {way.name for way in self._written}
        doubted = {way.name for way, trip in seen if trip.failure is not None} - written
        if not doubted:
            return seen
        options = self._options
        server, port = options.nameserver, options.nameserver_port
        try:
            roll = await names.roll(options.app, server=server, port=port, within_s=float(options.timeout))
        except names.NamesUnknownError:
            return seen
        gone = doubted - roll.started
        return tuple((way, trip) for way, trip in seen if way.name not in gone)

    def _say_what_may_wake(self, ways: tuple[Way, ...]) -> None:
        if any(way.route != "private" for way in ways):
            ask = Ask(at_s=self._kit.clock.wall_s(), by=Asker.AGENT, what=self._app)
            self._kit.apps.asked(self._name, ask)

    async def _stale(self) -> tuple[tuple[Problem, ...], tuple[Evidence, ...]]:
        """The name <app>.internal against the list; what could not be asked is evidence."""
        options = self._options
        listed = self._kit.apps.listed(options.app) if options.app else None
        if listed is None:
            return (), ()
        try:
            answers = await names.addresses(
                f"{options.app}.internal",
                server=options.nameserver,
                port=options.nameserver_port,
                within_s=float(options.timeout),
            )
        except names.NamesUnknownError as error:
            return (), (Evidence(name="unknown: dns", value=str(error)),)
        now_s = self._kit.clock.monotonic_s()
        return tuple(self._dns.judge(options.app, answers, listed, now_s=now_s)), ()

    def _measures(self, seen: Seen) -> Iterator[Measure]:
        for way, trip in seen:
            labels = (("way", way.name), ("route", way.route))
            memory = self._memories[way.name]
            numbers: dict[str, float | None] = {
                "way_up": float(trip.failure is None),
                **{f"{step}_seconds": took_s for step, took_s in trip.times},
                "loss_ratio": memory.loss,
                "usual_connect_seconds": memory.usual_connect_s if way.region else None,
                "certificate_expiry_timestamp_seconds": trip.certificate_ends_s,
            }
            for name, value in numbers.items():
                if value is not None:
                    yield Measure(name=f"gaia_network_{name}", value=value, labels=labels)


KIND = CheckKind(name="network", options=NetworkOptions, build=NetworkCheck, measures=MEASURES)
