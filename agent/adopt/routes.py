"""Alertmanager's routes as what each receiver takes: severities, environments, reminders.

Here a receiver says what it takes, there a tree says where an alert goes. What the tree decides by any other
label has no equivalent: such a receiver is called only by the rules that name it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from agent.adopt.adopted import Adopted, Table, entries_of, items_of, text_of
from agent.adopt.receivers import legal
from agent.platform.tree import Mapping, Node, is_null
from alerts.external import severity_of
from alerts.rule import Severity
from alerts.silence import Matcher, matcher, parse_matchers
from checks.units import Duration

_ALL: Final = frozenset({Severity.PAGE, Severity.CHAT})
_ENV_LABELS: Final = frozenset({"env", "environment"})
_ENVIRONMENTS: Final = {
    "prod": "production", "prd": "production", "live": "production", "stage": "staging", "stg": "staging",
    "dev": "development",
}  # fmt: skip
_WORDS: Final = re.compile(r"\^?\(?([A-Za-z0-9_-]+(?:\|[A-Za-z0-9_-]+)*)\)?\$?")
_SAID: Final = {
    "group_by": "calls are grouped by their cause here",
    "group_wait": "a first call waits only for its cause, at most alerts.settle",
    "group_interval": "what is new is said when it happens",
    "active_time_intervals": "there are only windows that keep quiet: turn it round",
}


class Way(Struct, frozen=True, kw_only=True):
    """What reaches a receiver through one route. `exact` is False where other labels decide."""

    receiver: str
    severities: frozenset[Severity]
    environments: frozenset[str]
    exact: bool
    repeat_s: float


class _Chosen(Struct, kw_only=True):
    """What the matchers from the root down to a route say."""

    severities: frozenset[Severity] = _ALL
    environments: frozenset[str] = frozenset()
    targets: frozenset[str] = frozenset()
    exact: bool = True


class Routes(Struct, kw_only=True):
    """The ways of a file, and the windows its routes are muted by."""

    adopted: Adopted
    intervals: dict[str, list[Table]]
    components: frozenset[str]
    ways: list[Way] = field(default_factory=list)
    windows: list[Table] = field(default_factory=list)

    def read(self, root: Node) -> None:
        """Walk the tree."""
        self._walk(entries_of(root), root, "", _Chosen(), 0.0)

    def environments(self) -> list[str]:
        """Those that matchers name."""
        return sorted({name for way in self.ways for name in way.environments})

    def taken_by(self, receiver: str) -> Table:
        """What a receiver takes, as keys of its table."""
        ways = [way for way in self.ways if way.receiver == receiver]
        exact = [way for way in ways if way.exact]
        severities = frozenset[Severity]().union(*(way.severities for way in exact))
        table: Table = {}
        if severities != _ALL:
            table["severities"] = [one.value for one in Severity if one in severities]
        if exact and all(way.environments for way in exact):
            table["environments"] = sorted({name for way in exact for name in way.environments})
        repeats = [way.repeat_s for way in ways if way.repeat_s]
        if repeats:
            table["repeat_page"] = table["repeat_chat"] = str(Duration(min(repeats)))
        return table

    def _walk(
        self, route: dict[str, Node], node: Node, receiver: str, above: _Chosen, repeat_s: float
    ) -> frozenset[Severity]:
        """Note this route's ways; the severities that go no further than here."""
        receiver = legal(text_of(route["receiver"])) if "receiver" in route else receiver
        chosen = self._chosen(route, receiver, above)
        if "repeat_interval" in route:
            repeat_s = _seconds(text_of(route["repeat_interval"]))
        self._unsaid(route)
        self._muted(route, chosen)
        caught: frozenset[Severity] = frozenset()
        gone: frozenset[Severity] = frozenset()
        for child in items_of(route.get("routes")):
            below = entries_of(child)
            left = replace(chosen, severities=chosen.severities - gone)
            taken = self._walk(below, child, receiver, left, repeat_s)
            caught |= taken
            # Its siblings see an alert only when it goes on; the route above only when none of them took it.
            gone |= frozenset() if text_of(below.get("continue")) == "true" else taken
        own = chosen.severities - caught
        if receiver and own:
            self.ways.append(
                Way(
                    receiver=receiver, severities=own, environments=chosen.environments,
                    exact=chosen.exact, repeat_s=repeat_s,
                )
            )  # fmt: skip
        narrower = not chosen.exact or chosen.environments != above.environments
        if narrower and above.exact:
            self.adopted.leave(
                node.at,
                "route",
                f"what goes to {receiver} also goes to whoever takes its severity: receivers do not exclude "
                "each other here",
            )
        return frozenset() if narrower else chosen.severities

    def _chosen(self, route: dict[str, Node], receiver: str, above: _Chosen) -> _Chosen:
        chosen = replace(above)
        for at, one in matchers_of(route, self.adopted):
            values = alternatives(one)
            if one.name == "severity" and values is not None:
                named = frozenset(severity_of(value) for value in values)
                chosen.severities &= named if one.is_equal else _ALL - named
                if one.is_equal and not named & _ALL:
                    said = "its severity is only recorded here (severity: log) and calls nobody"
                    self.adopted.leave(at.at, f"route: {one}", said)
            elif one.name in _ENV_LABELS and values is not None and one.is_equal:
                chosen.environments = frozenset(_ENVIRONMENTS.get(value, legal(value)) for value in values)
            else:
                if one.name == "service" and values is not None and one.is_equal:
                    chosen.targets = frozenset(values)
                chosen.exact = False
                said = f"no route by {one.name}: write receivers: [{receiver}] into the rules that mean it"
                self.adopted.leave(at.at, f"route: {one}", said)
        return chosen

    def _unsaid(self, route: dict[str, Node]) -> None:
        for key, said in _SAID.items():
            if key in route:
                self.adopted.leave(route[key].at, f"route.{key}", said)

    def _muted(self, route: dict[str, Node], chosen: _Chosen) -> None:
        for item in items_of(route.get("mute_time_intervals")):
            name = text_of(item)
            windows = self.intervals.get(name, [])
            if chosen.exact and chosen.severities == _ALL and not chosen.environments:
                self.windows += windows
            elif chosen.targets and chosen.targets <= self.components:
                self.windows += [window | {"targets": sorted(chosen.targets)} for window in windows]
            else:
                said = "a window keeps components quiet, not one receiver: list them as its targets"
                self.adopted.leave(item.at, f"route.mute_time_intervals: {name}", said)


def matchers_of(table: dict[str, Node], adopted: Adopted, prefix: str = "") -> Iterable[tuple[Node, Matcher]]:
    """`matchers`, `match` and `match_re` of a route or, with a prefix, of one side of an inhibit rule."""
    for item in items_of(table.get(f"{prefix}matchers")):
        try:
            yield from ((item, one) for one in parse_matchers(text_of(item)))
        except ValueError as error:
            adopted.leave(item.at, f"{prefix}matchers", str(error))
    for key, is_regex in ((f"{prefix}match", False), (f"{prefix}match_re", True)):
        for name, value in entries_of(table.get(key)).items():
            if is_null(value):
                continue
            try:
                yield value, matcher(name, text_of(value), is_regex=is_regex)
            except ValueError as error:
                adopted.leave(value.at, f"{key}.{name}", str(error))


def alternatives(one: Matcher) -> tuple[str, ...] | None:
    """The values a matcher allows, or None for a regular expression that is no list of words."""
    if not one.is_regex:
        return (one.value,)
    found = _WORDS.fullmatch(one.value)
    return tuple(found[1].split("|")) if found else None


def _seconds(text: str) -> float:
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdwy])", text))


def route_of(root: Mapping) -> Node | None:
    """The root of the tree."""
    return root.get("route")
