"""Alerts, incidents and silences in the words and units of the page and the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.web.source import ActiveAlert, Incident, IncidentEntry, Silence
from alerts.phrases import what
from alerts.rule import BurnRateRule, ErrorRatioRule, MeasureRule, Rule, SlowProbesRule, SlowRequestRatioRule
from alerts.silence import Silence as AlertSilence
from alerts.told import Told
from alerts.view import AlertView
from checks.finding import Evidence
from checks.units import Duration, Ratio, Size

if TYPE_CHECKING:
    from agent.judgement import Judgement


def active_alert(view: AlertView, env: str, judgement: Judgement) -> ActiveAlert:
    """One alert that is not OK, with its number and threshold written with units."""
    rule = judgement.judge.plan.rules.get(view.alertname)
    predicate = what(rule) if rule is not None else view.annotations.get("summary", "fires")
    cause = view.inhibited_by.partition(":")[0]
    return ActiveAlert(
        id=view.fingerprint,
        name=view.alertname,
        env=env,
        service=view.component,
        severity=view.severity.value,
        state=view.state.value.lower(),
        since_s=view.active_at_s or view.since_s,
        title=f"{view.component} {predicate}",
        summary=view.evidence,
        fired_s=view.fired_at_s or None,
        value=quantity_text(rule, view.value),
        threshold=quantity_text(rule, view.threshold),
        stale_s=view.since_s if view.unknown else None,
        check=view.key.check if view.key is not None else "",
        evidence=_evidence(view),
        cause=cause,
        affected=judgement.graph.dependents(view.component) if not cause else (),
        incident=view.episode,
        first_step=(rule.first_step if rule is not None else None) or "",
        runbook=view.annotations.get("runbook_url", ""),
        notified=view.told,
        acknowledged_by=view.acked_by,
        muted=_muted(view),
    )


def incident(told: Told, judgement: Judgement) -> Incident:
    """One episode that somebody was told about, with its story so far."""
    entries = [
        IncidentEntry(at_s=happening.at_s, text=f"{happening.what}: {happening.text}".rstrip(": "))
        for happening in judgement.journal.happenings(told.fingerprint)
        if told.fired_at_s - 3600 <= happening.at_s <= (told.resolved_at_s or happening.at_s)
    ]
    entries += [
        IncidentEntry(at_s=row.ended_at_s, text=f"{row.channel} took the {row.notice.kind.value}")
        for row in judgement.journal.outbox_of(told.episode)
        if row.state == "sent" and row.ended_at_s is not None
    ]
    if told.acked_by:
        entries.append(IncidentEntry(at_s=told.acked_at_s, text=f"{told.acked_by} acknowledged"))
    return Incident(
        id=told.episode,
        env=told.env,
        service=told.component,
        title=told.title,
        severity=told.severity.value,
        started_s=told.fired_at_s,
        resolved_s=told.resolved_at_s,
        acknowledged_by=told.acked_by,
        affected=judgement.graph.dependents(told.component),
        entries=tuple(sorted(entries, key=lambda entry: entry.at_s)),
    )


def shown_silence(silence: AlertSilence) -> Silence:
    """A silence as the API tells it."""
    return Silence(
        id=silence.id,
        matchers=tuple(str(matcher) for matcher in silence.matchers),
        starts_s=silence.starts_at_s,
        ends_s=silence.ends_at_s,
        author=silence.author,
        comment=silence.comment,
    )


def quantity_text(rule: Rule | None, number: float | None) -> str:
    """A value or threshold with its unit: `12%`, `3.4s`, `512MB`, `17`; empty when there is none."""
    if number is None:
        return ""
    match rule:
        case SlowRequestRatioRule() | ErrorRatioRule():
            return str(Ratio(round(number, 3)))
        case SlowProbesRule():
            return str(Duration(number))
        case MeasureRule(measure=name) if name.endswith("_ratio"):
            return str(Ratio(round(number, 3)))
        case MeasureRule(measure=name) if name.endswith("_seconds"):
            return str(Duration(number))
        case MeasureRule(measure=name) if name.endswith("_bytes"):
            return str(Size(number))
        case BurnRateRule():
            return f"{number:.1f}x"
        case _:
            return f"{number:g}"


def _evidence(view: AlertView) -> tuple[Evidence, ...]:
    found: list[Evidence] = []
    if view.example is not None:
        found.append(Evidence(name="for example", value=view.example.text))
    if view.unknown:
        found.append(Evidence(name="now unknown", value=view.unknown))
    if view.flapping:
        found.append(Evidence(name="flapping", value="changed too often; held open until it is stable"))
    return tuple(found)


def _muted(view: AlertView) -> str:
    if view.silenced_by:
        return f"silenced by {view.silenced_by}"
    if view.inhibited_by:
        return "listed under its cause"
    return view.held
