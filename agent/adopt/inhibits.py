"""Alertmanager's inhibit rules: what needs what is `depends_on`, and a page covers its component's chat."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from agent.adopt.adopted import Adopted, entries_of, items_of, text_of
from agent.adopt.routes import alternatives, matchers_of
from agent.platform.problem import Position
from agent.platform.tree import Mapping, Node
from alerts.external import severity_of
from alerts.rule import Severity
from alerts.silence import Matcher

_PLACES = frozenset({"service", "job", "app", "component"})


class Need(Struct, frozen=True):
    """What a component needs, and the rule that says so."""

    at: Position
    names: tuple[str, ...]


def dependencies(root: Mapping, adopted: Adopted) -> dict[str, Need]:
    """Which service needs what, as the rules say it. What says something else is noted."""
    needs: dict[str, Need] = {}
    for node in items_of(root.get("inhibit_rules")):
        table = entries_of(node)
        source = [one for _, one in matchers_of(table, adopted, "source_")]
        target = [one for _, one in matchers_of(table, adopted, "target_")]
        equal = {text_of(item) for item in items_of(table.get("equal"))}
        above, below = _places(source), _places(target)
        if above and below:
            for name in below:
                before = needs.get(name, Need(node.at, ()))
                more = tuple(one for one in above if one != name)
                needs[name] = Need(before.at, tuple(dict.fromkeys((*before.names, *more))))
        elif not _by_severity(source, target, equal):
            _leave(node, source, target, adopted)
    return needs


def _places(matchers: Iterable[Matcher]) -> tuple[str, ...]:
    for one in matchers:
        if one.name in _PLACES and one.is_equal:
            return alternatives(one) or ()
    return ()


def _by_severity(source: list[Matcher], target: list[Matcher], equal: set[str]) -> bool:
    """`critical` covers `warning` of the same thing: here a component's page always covers its chat."""
    rank = list(Severity)
    above, below = _severity(source), _severity(target)
    same = bool(equal & (_PLACES | {"alertname", "instance"}))
    return above is not None and below is not None and same and rank.index(above) < rank.index(below)


def _severity(matchers: list[Matcher]) -> Severity | None:
    """The most urgent one, when nothing else is asked for."""
    if not matchers or any(one.name != "severity" or not one.is_equal for one in matchers):
        return None
    values = [value for one in matchers for value in alternatives(one) or ()]
    return min((severity_of(value) for value in values), key=list(Severity).index, default=None)


def _leave(node: Node, source: list[Matcher], target: list[Matcher], adopted: Adopted) -> None:
    said = f"{', '.join(map(str, source)) or 'anything'} covers {', '.join(map(str, target)) or 'anything'}"
    adopted.leave(
        node.at,
        "inhibit_rules",
        f"{said}: only a component covers what depends on it; write that as depends_on",
    )
