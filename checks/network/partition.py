"""A network that is broken between some and whole between others: pure, from what several vantages saw.

One vantage alone cannot tell: what it does not reach may be down. With two more pairs it is plain: A does not
reach B, and yet A reaches C and C reaches B.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

from checks.finding import State
from checks.observation import Observation
from checks.problem import Problem
from checks.reason import Reason

_WAY_UP: Final = "gaia_network_way_up"
FRESH_S: Final = 60.0


class Sight(Struct, frozen=True, kw_only=True):
    """Whether one machine reached another, at this wall second."""

    source: str
    target: str
    works: bool
    at_s: float


class Partition(Struct, frozen=True, kw_only=True):
    """`source` does not reach `target`, while through each of `between` there is a way."""

    source: str
    target: str
    between: tuple[str, ...]


def sights(observation: Observation, *, machine: str) -> Iterator[Sight]:
    """What one look of a network check saw from `machine`: its private ways, which are named by machine."""
    for measure in observation.finding.measures:
        labels = dict(measure.labels)
        if measure.name == _WAY_UP and labels.get("route") == "private" and labels["way"] != machine:
            yield Sight(source=machine, target=labels["way"], works=measure.value == 1, at_s=observation.at_s)


def partitions(seen: Iterable[Sight], *, now_s: float) -> tuple[Partition, ...]:
    """Every broken pair that others prove to be partial. The latest sight of a pair counts, while fresh."""
    latest: dict[tuple[str, str], Sight] = {}
    for sight in seen:
        pair = (sight.source, sight.target)
        if now_s - sight.at_s <= FRESH_S and (pair not in latest or latest[pair].at_s <= sight.at_s):
            latest[pair] = sight
    reached: dict[str, set[str]] = {}
    for (source, target), sight in latest.items():
        if sight.works:
            reached.setdefault(source, set()).add(target)
    found = []
    for (source, target), sight in sorted(latest.items()):
        if sight.works:
            continue
        between = tuple(sorted(via for via in reached.get(source, ()) if target in reached.get(via, ())))
        if between:
            found.append(Partition(source=source, target=target, between=between))
    return tuple(found)


def judge(app: str, found: Iterable[Partition]) -> Iterator[Problem]:
    """Each broken pair in one sentence."""
    for one in found:
        through = ", ".join(one.between[:3])
        words = (
            f"the network of {app} is partly broken: {one.source} does not reach {one.target}, "
            f"while {through} reaches both: move one of the two, and tell the platform"
        )
        yield Problem(state=State.DEGRADED, reason=Reason.NET_PARTITION_PARTIAL, message=words, urgent=True)
