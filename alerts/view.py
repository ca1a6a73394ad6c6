"""An alert as the API, the metrics and the page show it, and a change of its state."""

from __future__ import annotations

from msgspec import Struct

from alerts.examples import Example
from alerts.instance import Instance
from alerts.machine import Phase, Step
from alerts.reading import Outcome
from alerts.rule import Severity
from alerts.told import Told
from checks.target import TargetKey


class AlertView(Struct, frozen=True, kw_only=True):
    """One alert now. `since_s` is when its state began (0: always so).

    `unknown` says why nothing is known at the moment, empty when something is. `held`, `inhibited_by` (an
    episode) and `silenced_by` (a silence) say why nobody was called; `told` names the channels that were.
    """

    alertname: str
    component: str
    fingerprint: str
    labels: dict[str, str]
    annotations: dict[str, str]
    severity: Severity
    state: Phase
    since_s: float
    active_at_s: float
    fired_at_s: float
    episode: str
    value: float | None
    threshold: float | None
    evidence: str
    unknown: str
    flapping: bool
    held: str
    inhibited_by: str
    silenced_by: str
    told: tuple[str, ...]
    acked_by: str
    key: TargetKey | None
    example: Example | None = None


class Transition(Struct, frozen=True, kw_only=True):
    """An alert went from one state to another."""

    at_s: float
    alertname: str
    component: str
    fingerprint: str
    episode: str
    labels: dict[str, str]
    severity: Severity
    before: Phase
    after: Phase
    what: Step
    text: str
    value: float | None = None


def view_of(instance: Instance, told: Told | None, now_s: float, example: Example | None = None) -> AlertView:
    """What is shown of one alert; `example` is one event behind it."""
    standing = instance.standing
    reading = instance.reading
    unknown = reading.why.value if reading.outcome is Outcome.UNKNOWN and reading.why is not None else ""
    shown = instance.worst if unknown and standing.firing and instance.worst is not None else reading
    return AlertView(
        alertname=instance.alertname,
        component=instance.component,
        fingerprint=instance.fingerprint,
        labels=instance.labels | instance.rule.labels | {"severity": instance.rule.severity.value},
        annotations=annotations_of(instance),
        severity=instance.rule.severity,
        state=standing.phase,
        since_s=_since_s(instance),
        active_at_s=standing.active_at_s,
        fired_at_s=standing.fired_at_s,
        episode=instance.episode,
        value=shown.value,
        threshold=shown.threshold,
        evidence=shown.text,
        unknown=unknown,
        flapping=standing.flapping,
        held=instance.held,
        inhibited_by=instance.inhibited_by,
        silenced_by=instance.silenced_by,
        told=told.channels if told is not None else (),
        acked_by=told.acked_by if told is not None and told.acked(now_s) else "",
        key=instance.key,
        example=example,
    )


def annotations_of(instance: Instance) -> dict[str, str]:
    """What Alertmanager calls annotations: volatile words beside the identity."""
    named = {"summary": instance.reading.text, "runbook_url": instance.rule.runbook or ""}
    return {name: text for name, text in (named | instance.annotations).items() if text}


def _since_s(instance: Instance) -> float:
    standing = instance.standing
    match standing.phase:
        case Phase.PENDING:
            return standing.active_at_s
        case Phase.FIRING:
            return standing.fired_at_s
        case Phase.RECOVERING:
            return standing.keep_since_s
        case _:
            return standing.changes[-1] if standing.changes else 0.0
