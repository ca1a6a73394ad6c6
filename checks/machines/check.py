"""The look at one app's machines: state first, only started ones are asked, state again before down."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from checks.catalog import CheckKind, ProbeKit
from checks.finding import Evidence, Finding, Measure, State
from checks.limits import profile_of
from checks.machines import api, asking, decide, names
from checks.machines.api import Machine
from checks.machines.asking import Asked, Asker
from checks.machines.options import MEASURES, MachinesOptions
from checks.machines.seen import Seen
from checks.machines.waking import Waking
from checks.problem import Problem, finding_of
from checks.small_get import SmallGet
from checks.target import Target

_DAY_S: Final = 86400.0
_STALE_S: Final = 1.0


class MachinesCheck:
    """Looks at one app."""

    def __init__(self, target: Target, options: MachinesOptions, kit: ProbeKit) -> None:
        self._options = options
        self._kit = kit
        self._within_s = float(options.answer_within)
        self._profile = profile_of(target.key.env, options.profile)
        token = options.token
        headers = (("Authorization", f"Bearer {token.reveal()}"),) if token is not None else ()
        self._api = SmallGet(options.api_url, kit.resolver, headers=headers) if token is not None else None
        self._machines: tuple[Machine, ...] | None = None
        self._listed_s = float("-inf")
        self._trouble = {} if token is not None else {"api": "agent.fly_token is not set"}
        self._asker = Asker(options, kit)
        self._waking = Waking(options, kit, (target.key.env, target.key.service))

    async def probe(self) -> Finding:
        seen = await self._state(fresh=False)
        problems = decide.decide(seen)
        stale = self._now_s() - self._listed_s > _STALE_S
        if self._is_bad(problems) and self._api is not None and stale:
            # What was true half a minute ago is no ground for a page.
            seen = await self._state(fresh=True)
            problems = decide.decide(seen)
        asked = Asked()
        if seen.started and self._waking.may_ask(seen):
            asked = await self._asker.ask(asking.started_ids(seen))
        if asked.silent:
            # A machine that went to sleep meanwhile is silent too: its state decides, not its silence.
            seen = await self._state(fresh=True)
            problems = decide.decide(seen)
            problems += asking.judge(asked, seen, self._waking, self._options)
        self._waking.healthy(seen, asked.well)
        return self._finding(seen, problems)

    async def close(self) -> None:
        """Nothing is kept open."""

    def _finding(self, seen: Seen, problems: tuple[Problem, ...]) -> Finding:
        said = tuple(self._waking.problems(seen))
        rests = any(problem.state is State.ASLEEP for problem in problems)
        found = finding_of(
            # Of a sleeping app nothing else is said but that it sleeps; who woke it is evidence then.
            problems if rests else (*problems, *said),
            fine=f"{seen.app} has {seen.started} of {seen.deployed} machines started",
            measures=(*self._measures(seen), *self._waking.measures()),
            evidence=tuple(Evidence(name="unknown: machines", value=why) for why in seen.trouble),
        )
        if not rests:
            return found
        told = tuple(Evidence(name=str(problem.reason), value=problem.message) for problem in said)
        return replace(found, evidence=found.evidence + told)

    def _is_bad(self, problems: tuple[Problem, ...]) -> bool:
        return any(problem.state in (State.DOWN, State.DEGRADED) for problem in problems)

    def _now_s(self) -> float:
        return self._kit.clock.monotonic_s()

    async def _state(self, *, fresh: bool) -> Seen:
        options = self._options
        due = fresh or self._now_s() - self._listed_s >= options.api_every
        if self._api is not None and due:
            # Both at once: an agent outside the private network waits for a name server that never answers.
            roll, _ = await asyncio.gather(self._roll(), self._refresh())
        else:
            roll = await self._roll()
            if self._api is not None and _disagree(roll, self._machines):
                await self._refresh()
        return Seen(
            app=options.app,
            at_s=self._kit.clock.wall_s(),
            names=roll,
            machines=self._machines,
            minimum=options.minimum,
            regions=options.regions,
            size=options.size(),
            profile=self._profile,
            trouble=tuple(self._trouble.values()),
        )

    async def _roll(self) -> names.Roll | None:
        options = self._options
        server, port = options.nameserver, options.nameserver_port
        self._trouble.pop("dns", None)
        try:
            return await names.roll(options.app, server=server, port=port, within_s=self._within_s)
        except names.NamesUnknownError as error:
            self._trouble["dns"] = f"the name server {server} does not say: {error}"
            return None

    async def _refresh(self) -> None:
        self._machines = await self._list()
        self._listed_s = self._now_s()

    async def _list(self) -> tuple[Machine, ...] | None:
        assert self._api is not None, "asked only with a token"
        self._trouble.pop("api", None)
        try:
            async with asyncio.timeout(self._within_s):
                machines = await api.machines(self._api, self._options.app)
        except TimeoutError:
            self._trouble["api"] = f"{self._api.shown} did not answer within {self._options.answer_within}"
            return None
        except (OSError, ValueError) as error:
            self._trouble["api"] = f"{self._api.shown} cannot be asked: {error}"
            return None
        self._kit.apps.saw(self._options.app, machines, at_s=self._now_s())
        self._waking.listed(machines)
        return machines

    def _measures(self, seen: Seen) -> Iterator[Measure]:
        if seen.names is None and seen.machines is None:
            return
        plain = {
            "gaia_machine_started": float(seen.started),
            "gaia_machine_deployed": float(seen.deployed),
            "gaia_machine_minimum": float(seen.minimum),
        }
        if seen.machines is not None:
            since_s = seen.at_s - _DAY_S
            events = [event for machine in seen.machines for event in machine.events or ()]
            plain["gaia_machine_starts_last_day"] = float(
                sum(event.type == "start" and event.at_s > since_s for event in events)
            )
            plain["gaia_machine_exits_last_day"] = float(
                sum(event.exit is not None and event.at_s > since_s for event in events)
            )
        yield from (Measure(name=name, value=value) for name, value in plain.items())


def _disagree(roll: names.Roll | None, machines: tuple[Machine, ...] | None) -> bool:
    """DNS is at most five seconds old, the list up to half a minute: news from DNS is worth a call."""
    if roll is None or machines is None:
        return machines is None
    return roll.started != {machine.id for machine in machines if machine.state == "started"}


KIND: Final = CheckKind(name="machines", options=MachinesOptions, build=MachinesCheck, measures=MEASURES)
