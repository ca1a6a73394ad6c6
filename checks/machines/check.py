"""The look at one app's machines: state first, only started ones are asked, state again before down."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from checks.catalog import CheckKind, MeasureInfo, ProbeKit
from checks.finding import Finding, Measure, State
from checks.limits import Profile, profile_of
from checks.machines import api, decide, names
from checks.machines.api import Machine
from checks.machines.decide import Seen
from checks.problem import Problem, finding_of
from checks.reason import Reason
from checks.secret import Secret
from checks.small_get import SmallGet
from checks.target import Target
from checks.units import Duration

_DAY_S: Final = 86400.0
_STALE_S: Final = 1.0


class MachinesOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to look at the machines of one Fly.io app, without ever waking one.

    `minimum`: how many must be started; 0 where the app may sleep.
    `token`: a read-only token for the Machines API. None: DNS alone is asked, and less is known.
    `nameserver`: the private network's. `port`, `health`: asked on each started machine over the private
    network, which neither wakes nor counts as load. `port` None: not asked.
    """

    app: str
    minimum: int = 0
    token: Secret | None = None
    api_url: str = "https://api.machines.dev"
    api_every: Duration = Duration(30)
    nameserver: str = "fdaa::3"
    nameserver_port: int = 53
    port: int | None = None
    health: str = "/health?shallow=1"
    profile: Profile = "auto"
    answer_within: Duration = Duration(2)


class MachinesCheck:
    """Looks at one app."""

    def __init__(self, target: Target, options: MachinesOptions, kit: ProbeKit) -> None:
        self._options = options
        self._kit = kit
        self._within_s = float(options.answer_within)
        self._production = profile_of(target.key.env, options.profile) == "production"
        token = options.token
        headers = (("Authorization", f"Bearer {token.reveal()}"),) if token is not None else ()
        self._api = SmallGet(options.api_url, kit.resolver, headers=headers) if token is not None else None
        self._machines: tuple[Machine, ...] | None = None
        self._listed_s = float("-inf")

    async def probe(self) -> Finding:
        seen = await self._state(fresh=False)
        problems = decide.decide(seen)
        stale = self._now_s() - self._listed_s > _STALE_S
        if self._is_bad(problems) and self._api is not None and stale:
            # What was true half a minute ago is no ground for a page.
            seen = await self._state(fresh=True)
            problems = decide.decide(seen)
        silent = await self._ask_started(seen) if seen.started else ()
        if silent:
            # A machine that went to sleep meanwhile is silent too: its state decides, not its silence.
            seen = await self._state(fresh=True)
            problems = decide.decide(seen)
            problems += tuple(problem for id_, problem in silent if id_ in _started_ids(seen))
        return finding_of(
            problems,
            fine=f"{seen.app} has {seen.started} of {seen.deployed} machines started",
            measures=self._measures(seen),
        )

    async def close(self) -> None:
        """Nothing is kept open."""

    def _is_bad(self, problems: tuple[Problem, ...]) -> bool:
        return any(problem.state in (State.DOWN, State.DEGRADED) for problem in problems)

    def _now_s(self) -> float:
        return self._kit.clock.monotonic_s()

    async def _state(self, *, fresh: bool) -> Seen:
        options = self._options
        try:
            roll = await names.roll(
                options.app,
                server=options.nameserver,
                port=options.nameserver_port,
                within_s=self._within_s,
            )
        except names.NamesUnknownError:
            roll = None
        due = fresh or self._now_s() - self._listed_s >= options.api_every
        if self._api is not None and (due or _disagree(roll, self._machines)):
            self._machines = await self._list()
            self._listed_s = self._now_s()
        return Seen(
            app=options.app,
            at_s=self._kit.clock.wall_s(),
            names=roll,
            machines=self._machines,
            minimum=options.minimum,
            production=self._production,
        )

    async def _list(self) -> tuple[Machine, ...] | None:
        assert self._api is not None, "asked only with a token"
        try:
            async with asyncio.timeout(self._within_s):
                return await api.machines(self._api, self._options.app)
        except (OSError, ValueError, TimeoutError):
            return None

    async def _ask_started(self, seen: Seen) -> tuple[tuple[str, Problem], ...]:
        port = self._options.port
        if port is None:
            return ()
        asked = [self._ask(id_, port) for id_ in sorted(_started_ids(seen))]
        return tuple(one for one in await asyncio.gather(*asked) if one is not None)

    async def _ask(self, id_: str, port: int) -> tuple[str, Problem] | None:
        """Over the private network only: *.flycast and *.fly.dev go through the proxy, which wakes."""
        host = f"{id_}.vm.{self._options.app}.internal"
        get = SmallGet(f"http://{host}:{port}", self._kit.resolver, headers=(("X-Gaia-Probe", "1"),))
        try:
            async with asyncio.timeout(self._within_s):
                answer = await get.get(self._options.health)
        except TimeoutError:
            why = f"did not answer within {self._options.answer_within}"
        except (OSError, ValueError) as error:
            why = f"cannot be asked ({error})"
        else:
            if answer.status < 500:
                return None
            why = f"answers with status {answer.status}"
        words = f"machine {id_} of {self._options.app} is started and {why}: read its logs"
        state = State.DEGRADED
        return id_, Problem(state=state, reason=Reason.FLY_CHECKS, message=words, urgent=True)

    def _measures(self, seen: Seen) -> tuple[Measure, ...]:
        if seen.names is None and seen.machines is None:
            return ()
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
        return tuple(Measure(name=name, value=value) for name, value in plain.items())


def _disagree(roll: names.Roll | None, machines: tuple[Machine, ...] | None) -> bool:
    """DNS is at most five seconds old, the list up to half a minute: news from DNS is worth a call."""
    if roll is None or machines is None:
        return machines is None
    return roll.started != {machine.id for machine in machines if machine.state == "started"}


def _started_ids(seen: Seen) -> frozenset[str]:
    if seen.machines is not None:
        return frozenset(machine.id for machine in seen.machines if machine.state == "started")
    return seen.names.started if seen.names is not None else frozenset()


def _gauge(name: str, text: str) -> MeasureInfo:
    return MeasureInfo(name=f"gaia_machine_{name}", type="gauge", help=text)


MEASURES: Final = (
    _gauge("started", "Machines that are started."),
    _gauge("deployed", "Machines that exist."),
    _gauge("minimum", "Machines that must be started."),
    _gauge("starts_last_day", "Starts within the last day, as far as events are kept: what waking costs."),
    _gauge("exits_last_day", "Exits within the last day, as far as events are kept."),
)
KIND: Final = CheckKind(name="machines", options=MachinesOptions, build=MachinesCheck, measures=MEASURES)
