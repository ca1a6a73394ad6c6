"""Gathers the facts of one notice: who is affected, what may have caused it, what changed just before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

from alerts.examples import Examples
from alerts.instance import Instance
from alerts.machine import Ended
from alerts.notice import NoticeKind
from alerts.phrases import limit_of, what
from alerts.plan import Graph, JudgePlan
from alerts.reading import Outcome
from alerts.rule import ErrorLogRateRule, NewErrorLogRule
from alerts.told import Told
from alerts.watch import Watch, verdicts
from alerts.words import Story, clock
from checks.finding import State

_CHANGED_WITHIN_S: Final = 900.0
_LISTED: Final = 8


class Change(Struct, frozen=True, kw_only=True):
    """Something that was done to the platform: a deploy, a restart, a reload."""

    at_s: float
    text: str
    component: str = ""


class Surroundings(Struct, frozen=True, kw_only=True):
    """What is known around an alert: `active` alerts and `watches` by component, and recent changes.

    `logged` says what a component logged at ERROR within the last minutes.
    """

    plan: JudgePlan
    graph: Graph
    active: Mapping[str, list[Instance]]
    watches: Mapping[str, list[Watch]]
    logged: Callable[[str, float], tuple[str, ...]]
    examples: Examples
    changes: tuple[Change, ...]
    now_s: float


def story_of(
    instance: Instance,
    kind: NoticeKind,
    around: Surroundings,
    *,
    ended: Ended | None = None,
    told: Told | None = None,
    note: str = "",
) -> Story:
    """The story of one alert at this moment."""
    rule = instance.rule
    reading = instance.reading
    fired_at_s = told.fired_at_s if told is not None else instance.standing.fired_at_s
    since_s = _since_s(instance, around.watches, fired_at_s)
    evidence = _evidence(instance) or instance.annotations.get("summary", "")
    example = None if kind is NoticeKind.RESOLVE else around.examples.of(instance, around.now_s)
    return Story(
        kind=kind,
        episode=told.episode if told is not None else instance.episode,
        env=around.plan.env,
        alias=around.plan.alias,
        alertname=instance.alertname,
        component=instance.component,
        severity=rule.severity,
        labels=instance.labels | rule.labels | {"severity": rule.severity.value},
        what=what(rule),
        evidence=evidence or ("" if kind is NoticeKind.RESOLVE else "no detail"),
        example=example.text if example is not None else "",
        at_s=around.now_s,
        fired_at_s=fired_at_s,
        since_s=since_s,
        affected=around.graph.dependents(instance.component),
        also=_also(instance, around),
        causes=_causes(instance, around),
        changes=_changes(instance, around, since_s),
        first_step=rule.first_step or "",
        runbook=rule.runbook or instance.annotations.get("runbook_url", ""),
        external_url=around.plan.external_url,
        limit=limit_of(rule),
        value=reading.value,
        threshold=reading.threshold,
        resolved_at_s=around.now_s if kind is NoticeKind.RESOLVE else None,
        ended=ended.value if ended is not None else "",
        note=note,
    )


def _evidence(instance: Instance) -> str:
    """What is known now; where nothing is, what was known last, and that it is no longer."""
    reading, worst = instance.reading, instance.worst
    if worst is None or not instance.standing.firing:
        return reading.text
    if reading.outcome is Outcome.GOOD:
        return f"{worst.text}; now {reading.text}"
    if reading.outcome is not Outcome.UNKNOWN:
        return reading.text
    return f"{worst.text}; now nothing is known: {reading.text}" if worst.text else reading.text


def _since_s(instance: Instance, watches: Mapping[str, list[Watch]], fired_at_s: float) -> float:
    """When it began: the verdict's own first look where there is one, else the first bad evaluation."""
    if instance.key is not None:
        verdict = verdicts(watches.get(instance.component, ())).get(instance.key)
        bad = verdict is not None and verdict.state is not State.UP
        if verdict is not None and bad and 0 < fired_at_s - verdict.since_s < 3600:
            return verdict.since_s
    active_s = instance.standing.active_at_s
    return active_s if 0 < active_s <= fired_at_s else fired_at_s


def _also(instance: Instance, around: Surroundings) -> tuple[str, ...]:
    places = (instance.component, *around.graph.dependents(instance.component)) if instance.component else ()
    found = [
        f"{other.component} {what(other.rule)}"
        for place in places
        for other in around.active.get(place, ())
        if other is not instance and other.standing.firing
    ]
    return tuple(dict.fromkeys(found))[:_LISTED]


def _causes(instance: Instance, around: Surroundings) -> tuple[str, ...]:
    found = [
        f"{watch.target.key.service} says that {claim.about} is {claim.state}"
        + (f" ({claim.output})" if claim.output else "")
        for watch in around.watches.get(instance.component, ())
        if watch.latest is not None
        for claim in watch.latest.finding.claims
        if claim.state in (State.DOWN, State.DEGRADED)
    ]
    found.extend(
        f"{cause} is {verdict.state}: {verdict.message}"
        for cause in around.graph.causes(instance.component)
        for verdict in verdicts(around.watches.get(cause, ())).values()
        if verdict.state in (State.DOWN, State.DEGRADED)
    )
    if not isinstance(instance.rule, ErrorLogRateRule | NewErrorLogRule):
        found.extend(around.logged(instance.component, around.now_s))
    return tuple(dict.fromkeys(found))[:_LISTED]


def _changes(instance: Instance, around: Surroundings, since_s: float) -> tuple[str, ...]:
    near = {"", instance.component, *around.graph.causes(instance.component)}
    return tuple(
        f"{change.text} at {clock(change.at_s)}"
        for change in around.changes
        if change.component in near and -60 <= since_s - change.at_s <= _CHANGED_WITHIN_S
    )[-_LISTED:]


def retold(told: Told, kind: NoticeKind, plan: JudgePlan, now_s: float, note: str) -> Story:
    """The first notice's words again, for what cannot be looked at now."""
    opening = told.text.partition("\n")[0]
    return Story(
        kind=kind,
        episode=told.episode,
        env=told.env,
        alias=plan.alias,
        alertname=told.alertname,
        component=told.component,
        severity=told.severity,
        labels=told.labels,
        what=told.what or "is wrong",
        evidence=opening.partition(": ")[2] or opening,
        at_s=now_s,
        fired_at_s=told.fired_at_s,
        since_s=told.fired_at_s,
        external_url=plan.external_url,
        note=note,
    )
