"""May this alert be told, and if not, what keeps it: its cause, its place in line, or a silence. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from msgspec import Struct

from alerts.instance import Instance, memory_s
from alerts.machine import Phase
from alerts.plan import Graph
from alerts.rule import NewErrorLogRule, Severity
from alerts.told import STORM, Told
from alerts.watch import Watch, verdicts
from checks.finding import State

RANK: Final = {Severity.LOG: 0, Severity.CHAT: 1, Severity.PAGE: 2}
_ABOUT_US: Final = ""
# The one thing told while the agent is cut off: it waits in the queue and says afterwards what was missed.
AGENT_ISOLATED: Final = "agent_isolated"


class Scene(Struct, frozen=True, kw_only=True):
    """Everything a decision looks at. `ended` is when the last told episode of a component ended.

    `blind` says why nothing may be told at all, empty when it may.
    """

    graph: Graph
    by_component: Mapping[str, list[Instance]]
    watches: Mapping[str, list[Watch]]
    told: Mapping[str, Told]
    told_of: Mapping[str, Told]
    ended: Mapping[str, float]
    settle_s: float
    now_s: float
    blind: str = ""


class Tell(Struct, frozen=True):
    """Nothing explains it: tell."""


class Hold(Struct, frozen=True):
    """Wait: its cause may become known. `suspects` are components that should be looked at now."""

    why: str
    suspects: tuple[str, ...] = ()


class Inhibit(Struct, frozen=True):
    """Another episode tells of it."""

    episode: str


Decision = Tell | Hold | Inhibit


def decide(instance: Instance, scene: Scene) -> Decision:
    """What to do with a firing alert that nobody was told of."""
    if scene.blind and instance.alertname != AGENT_ISOLATED:
        return Hold(scene.blind)
    if instance.component == _ABOUT_US:
        return Tell()
    places = (instance.component, *scene.graph.causes(instance.component))
    covering = _covering(instance, places, scene)
    if covering is not None:
        return Inhibit(covering.episode)
    for decision in (
        _cause_coming(instance, places[1:], scene),
        _aftermath(instance, places, scene),
        _causes_unseen(instance, places[1:], scene),
    ):
        if decision is not None:
            return decision
    return Tell()


def speaks_for(other: Instance, severity: Severity, instance: Instance) -> bool:
    """Whether somebody called for `other`, so urgently, knows of `instance` too.

    A new kind of error in the log is news and no state: it speaks for nothing else, and only a page for it.
    """
    if isinstance(other.rule, NewErrorLogRule):
        return False
    news = isinstance(instance.rule, NewErrorLogRule)
    return RANK[severity] >= RANK[Severity.PAGE if news else instance.rule.severity]


def _covering(instance: Instance, places: Iterable[str], scene: Scene) -> Told | None:
    """An open episode at this component or one it needs, at least as urgent, whose alert is still on."""
    for place in places:
        for other in scene.by_component.get(place, ()):
            told = scene.told_of.get(other.fingerprint)
            if other is not instance and told is not None and speaks_for(other, told.severity, instance):
                return told
    listed = instance.inhibited_by and scene.told.get(instance.inhibited_by)
    return listed if listed and listed.fingerprint == STORM else None


def _cause_coming(instance: Instance, causes: tuple[str, ...], scene: Scene) -> Hold | None:
    for cause in causes:
        coming = [
            other
            for other in scene.by_component.get(cause, ())
            if speaks_for(other, other.rule.severity, instance) and not other.silenced_by and _bad(other)
        ]
        if coming:
            return Hold(f"{cause} looks like the cause: {coming[0].alertname} is {coming[0].standing.phase}")
        if _waited(instance, scene):
            continue
        seen = verdicts(_seen(cause, scene)).values()
        if any(verdict.in_doubt or verdict.state is State.DOWN for verdict in seen):
            return Hold(f"{cause} is in doubt", (cause,))
    return None


def _bad(other: Instance) -> bool:
    return other.standing.phase in (Phase.PENDING, Phase.FIRING)


def _aftermath(instance: Instance, places: tuple[str, ...], scene: Scene) -> Hold | None:
    """A cause that just ended still shows in windows, and its dependents need time to recover."""
    memory = memory_s(instance.rule)
    rest_s = max(scene.settle_s, 2 * instance.pace.interval_s)
    for place in places:
        ended_s = scene.ended.get(place)
        # What began ahead of a clock that was set back began before.
        if ended_s is None or min(instance.standing.active_at_s, scene.now_s) >= ended_s + memory:
            continue
        if scene.now_s < ended_s + memory + rest_s:
            return Hold(f"{place} has just recovered")
    return None


def _causes_unseen(instance: Instance, causes: tuple[str, ...], scene: Scene) -> Hold | None:
    """Soft evidence may have its cause elsewhere: wait for one look at each cause since it began."""
    if instance.reading.hard or _waited(instance, scene):
        return None
    began_s = _began_s(instance)
    unseen = tuple(
        cause
        for cause in causes
        if any(watch.latest is not None and watch.latest.at_s < began_s for watch in _seen(cause, scene))
    )
    return Hold(f"waiting for a look at {', '.join(unseen)}", unseen) if unseen else None


def _began_s(instance: Instance) -> float:
    return instance.standing.active_at_s


def _waited(instance: Instance, scene: Scene) -> bool:
    return scene.now_s - instance.standing.fired_at_s >= scene.settle_s


def _seen(component: str, scene: Scene) -> list[Watch]:
    return scene.watches.get(component, [])


def covered(instance: Instance, ready_at: Mapping[str, list[Instance]], graph: Graph) -> bool:
    """Whether what is told in this pass, at this component or one it needs, speaks for it too."""
    return any(
        speaks_for(cause, cause.rule.severity, instance)
        for place in filter(None, (instance.component, *graph.causes(instance.component)))
        for cause in ready_at.get(place, ())
    )


def by_urgency(instances: Iterable[Instance], depth: Callable[[str], int]) -> list[Instance]:
    """Causes before what they cause, pages before chat, oldest first."""
    return sorted(
        instances,
        key=lambda one: (
            depth(one.component),
            -RANK[one.rule.severity],
            one.standing.fired_at_s,
            one.alertname,
        ),
    )
