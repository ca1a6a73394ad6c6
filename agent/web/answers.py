"""What the API answers with: the documents of `/api/v1`, described by its OpenAPI from these very types."""

from __future__ import annotations

import msgspec

from agent.past_failures import PastFailure
from agent.telemetry.red import RedView
from agent.web.overview import Component, Environment, Look, Overview
from agent.web.source import ActiveAlert, AgentStatus, Change, Incident, Silence
from agent.web.verdict import Sentence
from checks.finding import Claim, Evidence, Finding, Measure, PhaseTime, State
from checks.target import Kind


class TargetAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One target: its confirmed state and the latest look. `*_s` are seconds, points in time since 1970 UTC.

    `latency_s` is null when the latest look measured none; `in_doubt` says that it disagrees with the state
    and is being confirmed.
    """

    env: str
    service: str
    check: str
    vantage: str
    kind: Kind
    address: str
    state: State
    reason: str
    message: str
    since_s: float | None
    looked_s: float | None
    latency_s: float | None
    slower_than_s: float | None
    interval_s: float
    in_doubt: bool
    looks: int
    depends_on: tuple[str, ...]
    phases: tuple[PhaseTime, ...] = ()
    claims: tuple[Claim, ...] = ()
    measures: tuple[Measure, ...] = ()
    evidence: tuple[Evidence, ...] = ()


class ChecksAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page of targets; `next` is the `after` of the following page, null on the last."""

    as_of_s: float
    total: int
    checks: tuple[TargetAnswer, ...]
    next: int | None = None


class TrafficAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Real requests over the last `window_s`; null is "not measured"."""

    window_s: float
    requests: int
    errors: int
    requests_per_s: float | None
    error_ratio: float | None
    p95_s: float | None
    slow_ratio: float | None


class ComponentAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A service, database, broker or host with the worst of its checks."""

    service: str
    kind: Kind
    state: State
    reason: str
    message: str
    since_s: float | None
    latency_s: float | None
    slower_than_s: float | None
    checks: int
    depends_on: tuple[str, ...]
    traffic: TrafficAnswer | None = None


class EnvironmentAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One environment; components worst first. `alerts` is the name of its policy."""

    name: str
    alias: str
    alerts: str
    state: State
    components: tuple[ComponentAnswer, ...]


class StatusAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How the platform is. `ok` is false while any component of a paging environment is not well.

    `seq` is the newest event taken in: pass it as Last-Event-ID to follow from here.
    """

    ok: bool
    state: State
    headline: str
    detail: str
    platform: str
    as_of_s: float
    seq: int
    environments: tuple[EnvironmentAnswer, ...]
    alerts: tuple[ActiveAlert, ...]
    agent: AgentStatus


class AlertsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts that are not OK: firing before pending, causes before what follows from them."""

    as_of_s: float
    alerts: tuple[ActiveAlert, ...]


class PointAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One past look."""

    at_s: float
    state: State
    reason: str
    latency_s: float | None


class FailureAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Looks in a row, from `first_s` to `at_s`, that failed alike; with the newest finding as it was."""

    first_s: float
    at_s: float
    looks: int
    finding: Finding


class DayAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Looks of one UTC day by state; `day` is written YYYY-MM-DD."""

    day: str
    looks: dict[State, int]


class HistoryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The past of one target: looks and days oldest first, failures newest first."""

    env: str
    service: str
    check: str
    vantage: str
    looks: tuple[PointAnswer, ...]
    failures: tuple[FailureAnswer, ...]
    days: tuple[DayAnswer, ...]


class IncidentsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Incidents, newest first."""

    incidents: tuple[Incident, ...]


class SilencesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Silences, active or planned."""

    silences: tuple[Silence, ...]


class ChangesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Changes, newest first."""

    changes: tuple[Change, ...]


class NewChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change to record, such as a deploy marker; `at_s` defaults to now."""

    env: str
    service: str
    text: str
    kind: str = "deploy"
    at_s: float | None = None
    author: str = ""
    version: str = ""
    url: str = ""


def target_answer(look: Look) -> TargetAnswer:
    """One target as the API tells it."""
    row, shown = look.row, look.shown
    key, latest = row.target.key, row.latest
    finding = None if latest is None else latest.finding
    return TargetAnswer(
        env=key.env,
        service=key.service,
        check=key.check,
        vantage=key.vantage,
        kind=row.target.kind,
        address=row.target.address,
        state=shown.state,
        reason=shown.reason.value,
        message=shown.message,
        since_s=shown.since_s or None,
        looked_s=None if latest is None else latest.at_s,
        latency_s=None if finding is None else finding.latency_s,
        slower_than_s=row.slower_than_s,
        interval_s=row.interval_s,
        in_doubt=shown.in_doubt,
        looks=row.looks,
        depends_on=row.depends_on,
        phases=() if finding is None else finding.phases,
        claims=() if finding is None else finding.claims,
        measures=() if finding is None else finding.measures,
        evidence=() if finding is None else finding.evidence,
    )


def failure_answer(failure: PastFailure) -> FailureAnswer:
    """One past failure as the API tells it."""
    return FailureAnswer(
        first_s=failure.first_s,
        at_s=failure.at_s,
        looks=failure.looks,
        finding=msgspec.json.decode(failure.detail, type=Finding),
    )


def component_answer(component: Component, red: RedView | None) -> ComponentAnswer:
    """One component as the API tells it."""
    shown = component.worst.shown
    return ComponentAnswer(
        service=component.service,
        kind=component.kind,
        state=shown.state,
        reason=shown.reason.value,
        message=shown.message,
        since_s=shown.since_s or None,
        latency_s=component.latency_s,
        slower_than_s=component.main.row.slower_than_s,
        checks=len(component.looks),
        depends_on=component.depends_on,
        traffic=None
        if red is None
        else TrafficAnswer(
            window_s=red.window_s,
            requests=red.requests,
            errors=red.errors,
            requests_per_s=red.requests_per_s,
            error_ratio=red.error_ratio,
            p95_s=red.p95_s,
            slow_ratio=red.slow_ratio,
        ),
    )


def environment_answer(
    environment: Environment, components: tuple[ComponentAnswer, ...]
) -> EnvironmentAnswer:
    """One environment as the API tells it."""
    info = environment.info
    return EnvironmentAnswer(
        name=info.name, alias=info.alias, alerts=info.alerts, state=environment.state, components=components
    )


def status_answer(
    seen: Overview, said: Sentence, environments: tuple[EnvironmentAnswer, ...], agent: AgentStatus
) -> StatusAnswer:
    """The whole platform as the API tells it."""
    return StatusAnswer(
        ok=not any(environment.not_well for environment in seen.environments if environment.info.pages),
        state=said.state,
        headline=said.headline,
        detail=said.detail,
        platform=seen.platform,
        as_of_s=seen.now_s,
        seq=seen.seq,
        environments=environments,
        alerts=(*seen.firing, *seen.pending),
        agent=agent,
    )
