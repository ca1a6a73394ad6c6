"""Many alerts as one: how many, where, of which kind, and what they have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from alerts.instance import Instance
from alerts.machine import Ended
from alerts.notice import NoticeKind
from alerts.phrases import what
from alerts.rule import Severity
from alerts.story import Surroundings
from alerts.told import Told
from alerts.watch import Watch
from alerts.words import Story, clock
from checks.finding import State
from checks.wire.address import split_address

_LISTED: Final = 16
_TOP: Final = 5
# Fewer than these, or fewer than half of all, may share something by chance.
_IN_COMMON: Final = 5
_ROOTS_NAMED: Final = 3
_PLACES: Final = ("region", "zone", "host", "node", "machine", "instance")


def storm_story(
    episode: str,
    instances: list[Instance],
    kind: NoticeKind,
    around: Surroundings,
    *,
    begun: Told | None = None,
    beside: Iterable[Instance] = (),
    note: str = "",
) -> Story:
    """The digest of these alerts. None of them: it is over.

    `begun` is what was told of them first; `beside` are alerts of the same minute that were told one by one,
    which have the same cause if any.
    """
    severity = begun.severity if begun is not None else instances[0].rule.severity
    began_s = begun.fired_at_s if begun is not None else around.now_s
    if instances:
        places = Counter(one.component for one in instances)
        names = Counter(one.alertname for one in instances)
        evidence = f"{_most(places)}; {_most(names)}"
    else:
        evidence = f"all {len(begun.listed) if begun else 0} are over"
    resolve = kind is NoticeKind.RESOLVE
    return Story(
        kind=kind,
        episode=episode,
        env=around.plan.env,
        alias=around.plan.alias,
        alertname="many_at_once",
        component="",
        severity=severity,
        labels={
            "alertname": "many_at_once", "env": around.plan.env, "severity": Severity(severity).value,
        },
        what=_counted(len(instances)),
        evidence=evidence,
        at_s=around.now_s,
        fired_at_s=began_s,
        since_s=began_s,
        also=tuple(f"{one.component} {what(one.rule)}" for one in instances[:_LISTED]),
        causes=tuple(likely_roots(list({id(one): one for one in (*instances, *beside)}.values()), around)),
        changes=_changes(around, began_s),
        external_url=around.plan.external_url,
        resolved_at_s=around.now_s if resolve else None,
        ended=Ended.RECOVERED.value if resolve else "",
        note=note,
    )  # fmt: skip


def _counted(number: int) -> str:
    """One alone is told together with those that were told just before it."""
    if number > 1:
        return f"has {number} things wrong at once"
    return "has 1 more thing wrong" if number else "many things were wrong at once"


def likely_roots(instances: list[Instance], around: Surroundings) -> list[str]:
    """What at least five of these, and half of them, share: what they need, or where they run.

    The one shared by most comes first, of equals the nearest. It need not be watched itself; where it is and
    looks well, or others at the same place do, that is said too: then it is not the whole story.
    """
    needed = max(_IN_COMMON, (len(instances) + 1) // 2)
    if len(instances) < needed:
        return []
    shared: Counter[tuple[str, str]] = Counter()
    for instance in instances:
        shared.update(set(_has(instance, around)))
    found = [(count, what_, name) for (what_, name), count in shared.items() if count >= needed]
    found.sort(
        key=lambda one: (-one[0], not _looks_bad(one, around), around.graph.depth(one[2]) * -1, one[2])
    )
    # Everything needs what its nearest cause needs: one cause of each sort is enough.
    named = [_words(one, len(instances), around) for one in found]
    return list(dict.fromkeys(named))[:_ROOTS_NAMED]


def shares_a_root(instances: list[Instance], around: Surroundings) -> bool:
    """Whether these have something in common, and all of them."""
    count = len(instances)
    if count < _IN_COMMON:
        return False
    sets = [set(_has(instance, around)) for instance in instances]
    return bool(set.intersection(*sets))


def _has(instance: Instance, around: Surroundings) -> Iterator[tuple[str, str]]:
    for cause in around.graph.causes(instance.component):
        yield "need", cause
    host = _host(instance, around)
    if host:
        yield "host", host
    labels = instance.labels | instance.rule.labels | instance.annotations
    for name in _PLACES:
        # A port is not part of the place.
        value = labels.get(name, "").partition(":")[0]
        if value:
            yield name, value


def _host(instance: Instance, around: Surroundings) -> str:
    for watch in around.watches.get(instance.component, ()):
        if instance.key is None or watch.target.key == instance.key:
            return host_of(watch)
    return ""


def host_of(watch: Watch) -> str:
    """The host a target is reached at; empty for one that is looked at right here."""
    place = watch.target.address.partition("://")[2] or watch.target.address
    place = place.partition("/")[0]
    try:
        return split_address(place)[0]
    except ValueError:
        return place if "://" in watch.target.address else ""


def _looks_bad(one: tuple[int, str, str], around: Surroundings) -> bool:
    return one[1] != "need" or not _seen_well(around.watches.get(one[2], ()), around)


def _words(one: tuple[int, str, str], total: int, around: Surroundings) -> str:
    count, sort, name = one
    who = f"all {total}" if count == total else f"{count} of {total}"
    if sort == "need":
        watches = around.watches.get(name, ())
        if not watches:
            return f"{who} need {name}, which is not watched itself"
        well = _seen_well(watches, around)
        if well is not None:
            return f"{who} need {name}, though it looks well from here ({clock(well)})"
        return f"{who} need {name}, which is {watches[0].verdict.state}: {watches[0].verdict.message}"
    text = f"{who} are at {sort} {name}"
    others = _others_well(sort, name, around)
    return f"{text}, though {', '.join(others[:_ROOTS_NAMED])} there answers" if others else text


def _seen_well(watches: Iterable[Watch], around: Surroundings) -> float | None:
    """When something was last seen well, if that is fresh and undoubted."""
    for watch in watches:
        verdict = watch.verdict
        if watch.latest is not None and watch.fresh(around.now_s) and verdict.state is State.UP:
            return None if verdict.in_doubt else watch.latest.at_s
    return None


def _others_well(sort: str, name: str, around: Surroundings) -> list[str]:
    if sort != "host":
        return []
    return [
        component
        for component, watches in around.watches.items()
        if any(host_of(watch) == name for watch in watches) and _seen_well(watches, around) is not None
    ]


def _changes(around: Surroundings, since_s: float) -> tuple[str, ...]:
    return tuple(
        f"{change.text} at {clock(change.at_s)}"
        for change in around.changes
        if -60 <= since_s - change.at_s <= 900
    )[-_TOP:]


def _most(counted: Counter[str]) -> str:
    top = ", ".join(f"{name} {count}" if count > 1 else name for name, count in counted.most_common(_TOP))
    rest = len(counted) - _TOP
    return f"{top} and {rest} more" if rest > 0 else top
