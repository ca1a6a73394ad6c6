"""What people and programs may ask of one environment's judgement, and why an alert is as it is."""

from __future__ import annotations

from typing import Protocol

import msgspec

from alerts.dispatcher import Trial
from alerts.journal import Journal
from alerts.judge import Judge
from alerts.machine import Phase
from alerts.owner import LEFT
from alerts.rule import Severity, signal
from alerts.view import AlertView


class Desk(Protocol):
    """One environment: its judge, its journal, and a way to try its channels."""

    @property
    def env(self) -> str: ...

    @property
    def judge(self) -> Judge: ...

    @property
    def journal(self) -> Journal: ...

    def test(self, receiver: str, author: str) -> Trial: ...


class TrailEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to an alert."""

    at_s: float
    what: str
    text: str


class DeliveryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One notice on its way to one channel. `state` is queued, sent, merged or dead."""

    channel: str
    kind: str
    state: str
    queued_s: float
    ended_s: float | None
    attempts: int
    error: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why an alert is as it is, which observations made each transition, and who was called or why not."""

    alertname: str
    env: str
    service: str
    labels: dict[str, str]
    fingerprint: str
    episode: str
    state: str
    since_s: float
    severity: str
    signal: str
    evidence: str
    value: float | None
    threshold: float | None
    why: str
    example: str
    trace_id: str
    trail: tuple[TrailEntry, ...]
    deliveries: tuple[DeliveryEntry, ...]


def explain(desk: Desk, name: str, now_s: float) -> tuple[Explanation, ...]:
    """Every alert of that name, fingerprint, episode or `name service`; the most telling first."""
    wanted = [view for view in desk.judge.instances(now_s, of=name) if _called(view, name)]
    order = (Phase.FIRING, Phase.RECOVERING, Phase.PENDING, Phase.OK)
    wanted.sort(key=lambda view: (order.index(view.state), -view.since_s))
    return tuple(_explained(desk, view) for view in wanted)


def why(view: AlertView, sent: tuple[DeliveryEntry, ...] = ()) -> str:
    """One sentence: why somebody was called, or why nobody was."""
    if view.state is Phase.OK:
        return "It is well, so nobody is called." + (
            f" Nothing is known: {view.unknown}." if view.unknown else ""
        )
    if view.state is Phase.PENDING:
        return "It is bad but not for long enough yet."
    if view.severity is Severity.LOG:
        return "Its severity is log: it is recorded and nobody is called."
    if view.told:
        left = {one.channel for one in sent if one.error == LEFT}
        parts = [
            f"{said}: {', '.join(names)}"
            for said, names in (
                ("Called", [name for name in view.told if name not in left]),
                ("Left to Alertmanager", [name for name in view.told if name in left]),
            )
            if names
        ]
        acked = [f"{view.acked_by} has taken it"] if view.acked_by else []
        return f"{'; '.join([*parts, *acked])}."
    if view.silenced_by:
        return f"Nobody was called: silenced by {view.silenced_by}."
    if view.inhibited_by:
        return f"Nobody was called: it is listed under its cause, episode {view.inhibited_by}."
    if view.held:
        return f"Nobody was called yet: {view.held}."
    return "Nobody was called: no receiver takes it."


def _called(view: AlertView, name: str) -> bool:
    return name in (
        view.alertname,
        view.fingerprint,
        view.episode,
        view.component,
        f"{view.alertname} {view.component}",
    )


def _explained(desk: Desk, view: AlertView) -> Explanation:
    rule = desk.judge.plan.rules.get(view.alertname)
    sent = deliveries(desk, view.episode)
    return Explanation(
        alertname=view.alertname,
        env=desk.env,
        service=view.component,
        labels=view.labels,
        fingerprint=view.fingerprint,
        episode=view.episode,
        state=view.state.value,
        since_s=view.since_s,
        severity=view.severity.value,
        signal=signal(rule) if rule is not None else "external",
        evidence=view.evidence,
        value=view.value,
        threshold=view.threshold,
        why=why(view, sent),
        example=view.example.text if view.example is not None else "",
        trace_id=view.example.trace_id if view.example is not None else "",
        trail=tuple(
            TrailEntry(at_s=one.at_s, what=one.what, text=one.text)
            for one in desk.journal.happenings(view.fingerprint)
        ),
        deliveries=sent,
    )


def deliveries(desk: Desk, episode: str) -> tuple[DeliveryEntry, ...]:
    """Every notice of one episode and what became of it."""
    return tuple(
        DeliveryEntry(
            channel=row.channel,
            kind=row.notice.kind.value,
            state=row.state,
            queued_s=row.created_at_s,
            ended_s=row.ended_at_s,
            attempts=row.attempts,
            error=row.last_error,
        )
        for row in (desk.journal.outbox_of(episode) if episode else ())
    )
