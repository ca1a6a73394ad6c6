"""From rows to what a person asks: which components are not well, since when, and what still works."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from agent.board import Row
from agent.telemetry.red import RedView
from agent.web.source import ActiveAlert, EnvironmentInfo, Source
from checks.finding import SEVERITY, State
from checks.instances import groups, together
from checks.reason import Reason
from checks.target import Kind
from checks.verdict import Verdict

_ORDER: Final = {state: place for place, state in enumerate(SEVERITY)}
_SLICE_ROWS: Final = 500
_NO_LATENCY: Final = frozenset({State.UNKNOWN, State.DOWN, State.ASLEEP})
SLOW: Final = frozenset({Reason.SLOW, Reason.PG_SLOW, Reason.NATS_SLOW})
# States that need nobody: asleep is on purpose, starting is within its grace.
WELL: Final = frozenset({State.UP, State.ASLEEP, State.STARTING})


class Look(Struct, frozen=True, kw_only=True):
    """One row with the verdict that may be shown of it now."""

    row: Row
    shown: Verdict


class Component(Struct, frozen=True, kw_only=True):
    """Everything watched under one name in one environment; it is as well as the worst of its checks.

    Its instances are one check: down only when none of them answers.

    `worst` is the check that decides about the state, `main` the one whose latency stands for the component.
    """

    env: str
    service: str
    kind: Kind
    looks: tuple[Look, ...]
    depends_on: tuple[str, ...]
    worst: Look
    main: Look

    @property
    def state(self) -> State:
        return self.worst.shown.state

    @property
    def latency_s(self) -> float | None:
        """The latest latency of `main`; None while it says nothing about now."""
        return None if self.main.shown.state in _NO_LATENCY else _latency_s(self.main)


class Environment(Struct, frozen=True, kw_only=True):
    """One environment; components not well come first, worst first, causes before what follows from them.

    `roots` are those not well that no other of them explains by `depends_on`.
    """

    info: EnvironmentInfo
    components: tuple[Component, ...]
    states: dict[State, int]
    not_well: tuple[Component, ...]
    roots: tuple[Component, ...]
    seen: bool

    @property
    def state(self) -> State:
        """The worst of its components that are not well, else up if any is; unknown while there are none."""
        if self.not_well:
            return self.not_well[0].state
        return next(
            (state for state in (State.UP, State.STARTING, State.ASLEEP) if state in self.states),
            State.UNKNOWN,
        )


class Overview(Struct, frozen=True, kw_only=True):
    """All of it at wall second `now_s`; environments that page and look often come first."""

    platform: str
    now_s: float
    seq: int
    environments: tuple[Environment, ...]
    alerts: tuple[ActiveAlert, ...]
    targets: int

    @property
    def firing(self) -> tuple[ActiveAlert, ...]:
        """Alerts that fire or recover, causes before what follows from them, the oldest first."""
        active = (alert for alert in self.alerts if alert.state != "pending")
        return tuple(sorted(active, key=lambda alert: (bool(alert.cause), alert.fired_s or alert.since_s)))

    @property
    def pending(self) -> tuple[ActiveAlert, ...]:
        return tuple(alert for alert in self.alerts if alert.state == "pending")

    @property
    def state(self) -> State:
        """The worst state of the first environment that is not well, else of the first."""
        if not any(environment.seen for environment in self.environments):
            return State.UNKNOWN
        for environment in self.environments:
            if environment.state not in WELL:
                return environment.state
        return self.environments[0].state


async def overview(source: Source) -> Overview:
    """Read the board, giving way to the event loop every few hundred rows."""
    now_s, seq = source.now_s(), source.board.last_seq
    grouped: dict[tuple[str, str], list[Look]] = {}
    rows = source.board.rows()
    for index, row in enumerate(rows):
        if index % _SLICE_ROWS == _SLICE_ROWS - 1:
            await asyncio.sleep(0)
        key = row.target.key
        shown = row.verdict if row.latest is None else row.shown(now_s)
        grouped.setdefault((key.env, key.service), []).append(Look(row=row, shown=shown))
    by_env: dict[str, list[Component]] = {}
    for index, ((env, service), looks) in enumerate(grouped.items()):
        if index % _SLICE_ROWS == _SLICE_ROWS - 1:
            await asyncio.sleep(0)
        by_env.setdefault(env, []).append(_component(env, service, looks))
    environments = tuple(
        _environment(info, by_env.get(info.name, [])) for info in _ranked(source.environments)
    )
    return Overview(
        platform=source.platform, now_s=now_s, seq=seq, environments=environments,
        alerts=source.alerts(), targets=len(rows),
    )  # fmt: skip


def traffic(source: Source, component: Component) -> RedView | None:
    """The component's requests, None when it has none that are measured."""
    return source.red(component.env, component.service) if component.kind is Kind.SERVICE else None


def lasting(seconds: float) -> str:
    """A time span as people say it: `12 s`, `14 min`, `3 h`, `2 days`."""
    seconds = max(seconds, 0)
    for limit, divisor, unit in ((90, 1, "s"), (5400, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds / divisor)} {unit}"
    return f"{int(seconds / 86_400)} days"


def listed(names: Iterable[str], *, most: int = 4) -> str:
    """`auth`, `auth and chat`, `auth, chat and nats`, `auth, chat, nats, asset and 3 more`."""
    words = list(names)
    if len(words) > most + 1:
        words = [*words[:most], f"{len(words) - most} more"]
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else ""


def phrase(component: Component) -> str:
    """What is wrong in one or two words: `is down`, `is slow`, `cannot be seen`."""
    shown = component.worst.shown
    if shown.state is State.DEGRADED and shown.reason in SLOW:
        return "is slow"
    return {
        State.DOWN: "is down",
        State.DEGRADED: "is degraded",
        State.UNKNOWN: "was not seen yet" if shown.reason is Reason.NOT_YET else "cannot be seen",
        State.STARTING: "is starting",
        State.ASLEEP: "is asleep",
        State.UP: "is up",
    }[shown.state]


def _component(env: str, service: str, looks: list[Look]) -> Component:
    worst = looks[0]
    if len(looks) > 1:
        worst = min(_joined(looks), key=lambda look: (_ORDER[look.shown.state], look.shown.since_s))
    main = worst
    if worst.shown.state in WELL or _latency_s(worst) is None:
        main = next((look for look in looks if _latency_s(look) is not None), worst)
    return Component(
        env=env,
        service=service,
        kind=looks[0].row.target.kind,
        looks=tuple(looks),
        depends_on=tuple(dict.fromkeys(name for look in looks for name in look.row.depends_on)),
        worst=worst,
        main=main,
    )


def _joined(looks: list[Look]) -> list[Look]:
    """Instances as one look: what they are together, at the row of the one that decides it."""
    by_key = {look.row.target.key: look for look in looks}
    for members in groups(look.row.target for look in looks).values():
        parts = [by_key.pop(one.key) for one in members]
        shown = together([(look.row.target, look.shown) for look in parts])
        decider = min(parts, key=lambda look: (_ORDER[look.shown.state], look.shown.since_s))
        by_key[decider.row.target.key] = Look(row=decider.row, shown=shown)
    return list(by_key.values())


def _environment(info: EnvironmentInfo, components: list[Component]) -> Environment:
    states: dict[State, int] = {}
    for component in components:
        states[component.state] = states.get(component.state, 0) + 1
    failing = {component.service for component in components if component.state not in WELL}

    def explained(component: Component) -> bool:
        return not failing.isdisjoint(component.depends_on)

    not_well = [component for component in components if component.state not in WELL]
    not_well.sort(key=lambda component: (_ORDER[component.state], explained(component)))
    well = [component for component in components if component.state in WELL]
    roots = tuple(component for component in not_well if not explained(component))
    return Environment(
        info=info,
        components=(*not_well, *well),
        states=states,
        not_well=tuple(not_well),
        roots=roots or tuple(not_well),  # A cycle of dependencies has no root; then all are named.
        seen=any(look.row.looks for component in components for look in component.looks),
    )


def _ranked(environments: tuple[EnvironmentInfo, ...]) -> list[EnvironmentInfo]:
    return sorted(environments, key=lambda info: (not info.pages, info.interval_s))


def _latency_s(look: Look) -> float | None:
    return None if look.row.latest is None else look.row.latest.finding.latency_s
