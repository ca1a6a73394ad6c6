"""The running agent as the web reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256

import msgspec
from msgspec import Struct, field

from agent.board import Board, EventKind
from agent.exposition.agent_series import AgentSeries
from agent.exposition.document import Document
from agent.exposition.notification_series import NotificationSeries
from agent.exposition.request_series import RequestPage
from agent.exposition.target_series import TargetSeries
from agent.exposition.telemetry_series import TelemetrySeries
from agent.history import History, PastDay, PastLook
from agent.judgement import Judgement
from agent.past_failures import PastFailure
from agent.platform.scope import Scope
from agent.shown_alerts import active_alert, incident, shown_silence
from agent.telemetry.figures import Figures
from agent.telemetry.red import RedView
from agent.telemetry.series import SeriesTable
from agent.telemetry.traffic import Traffic
from agent.telemetry.trails import Trail
from agent.trace_path import facts, path_of
from agent.vitals import Vitals
from agent.web.source import (
    ActiveAlert,
    AgentPart,
    AgentStatus,
    Change,
    EnvironmentInfo,
    Incident,
    Silence,
)
from alerts.view import AlertView
from checks.clock import Clock
from checks.finding import State
from checks.secret import Secret
from checks.target import TargetKey

_CHANGES_KEPT = 200


class Applied(Struct, kw_only=True):
    """The configuration in force, and what was wrong with the last one that was refused."""

    platform: str
    version: str
    scopes: tuple[Scope, ...]
    loaded_s: float
    digest: str
    checked_s: float
    problem: str | None = None


class LiveSource(Struct, kw_only=True):
    """Implements `agent.web.source.Source` over the parts of one process."""

    clock: Clock
    applied: Applied
    board: Board
    document: Document
    history: History
    vitals: Vitals
    judgements: Mapping[str, Judgement]
    traffic: Mapping[str, Traffic]
    target_series: TargetSeries
    agent_series: AgentSeries
    notification_series: NotificationSeries
    telemetry_series: TelemetrySeries
    request_page: RequestPage
    telemetry: Callable[[], Figures | None]
    trail: Callable[[str], Trail | None]
    counted: Callable[[], SeriesTable | None]
    ready: Callable[[], bool]
    parts: Callable[[], tuple[AgentPart, ...]]
    recent: list[Change] = field(default_factory=list)

    @property
    def platform(self) -> str:
        return self.applied.platform

    @property
    def environments(self) -> tuple[EnvironmentInfo, ...]:
        return tuple(
            EnvironmentInfo(
                name=scope.environment_name,
                alias=scope.environment.alias,
                interval_s=float(scope.environment.check_interval),
                alerts=scope.environment.alerts,
                pages=bool(scope.alerts.policies.get(scope.environment.alerts)),
            )
            for scope in self.applied.scopes
        )

    def now_s(self) -> float:
        return self.clock.wall_s()

    def before_scrape(self) -> None:
        now_s = self.now_s()
        rows = self.board.rows()
        self.target_series.aged(now_s)
        self.agent_series.traffic(
            {
                (env, service): red
                for env, traffic in self.traffic.items()
                for service in traffic.services()
                if (red := traffic.view(service, now_s=now_s)) is not None
            }
        )
        self.agent_series.coverage(
            {
                (env, service): share
                for env, traffic in self.traffic.items()
                for service in traffic.services()
                if (share := traffic.coverage(service)) is not None
            }
        )
        self.agent_series.alerts(self.alerts(), self.judgements)
        self.agent_series.deploys(self.recent)
        self.notification_series.show(
            lane for judgement in self.judgements.values() for lane in judgement.lanes()
        )
        figures = self.telemetry()
        if figures is not None:
            self.telemetry_series.show(self.applied.scopes[0].environment_name, figures)
        counted = self.counted()
        if counted is not None:
            self.request_page.show(self.applied.scopes[0].environment_name, counted)
        targets = dict.fromkeys(self.judgements, 0)
        for row in rows:
            targets[row.target.key.env] += 1
        self.agent_series.agent(self.agent(), self.platform, targets)

    def red(self, env: str, service: str) -> RedView | None:
        traffic = self.traffic.get(env)
        return None if traffic is None else traffic.view(service, now_s=self.now_s())

    def alerts(self) -> tuple[ActiveAlert, ...]:
        return tuple(
            self._with_path(active_alert(view, env, judgement), view)
            for env, judgement in self.judgements.items()
            for view in judgement.judge.active()
        )

    def _with_path(self, alert: ActiveAlert, view: AlertView) -> ActiveAlert:
        """The alert, and what is remembered of the request it names."""
        trail = self.trail(view.example.trace_id) if view.example is not None else None
        if trail is None:
            return alert
        return msgspec.structs.replace(alert, evidence=(*alert.evidence, *facts(path_of(trail, self.red))))

    def silences(self) -> tuple[Silence, ...]:
        now_s = self.now_s()
        return tuple(
            shown_silence(silence)
            for judgement in self.judgements.values()
            for silence in judgement.judge.silences()
            if silence.ends_at_s > now_s
        )

    def changes(self) -> tuple[Change, ...]:
        return tuple(self.recent)

    def agent(self) -> AgentStatus:
        waiting = [judgement.undelivered() for judgement in self.judgements.values()]
        oldest = [age_s for _, age_s in waiting if age_s is not None]
        return AgentStatus(
            version=self.applied.version,
            started_s=self.vitals.started_s,
            ready=self.ready(),
            config_hash=self.applied.digest,
            config_loaded_s=self.applied.loaded_s,
            config_problem=self.applied.problem,
            config_checked_s=self.applied.checked_s,
            targets=len(self.board.rows()),
            late_probes=self.vitals.missed_looks,
            loop_lag_s=self.vitals.loop_lag_s,
            undelivered=sum(count for count, _ in waiting),
            oldest_undelivered_s=max(oldest, default=None),
            parts=self.parts(),
        )

    def config(self) -> bytes:
        return msgspec.json.encode(
            {
                scope.environment_name: msgspec.to_builtins(_tables(scope), enc_hook=_masked)
                for scope in self.applied.scopes
            }
        )

    async def incidents(self, *, limit: int) -> tuple[Incident, ...]:
        found = [
            incident(told, judgement)
            for judgement in self.judgements.values()
            for told in judgement.journal.episodes(limit=limit)
        ]
        return tuple(sorted(found, key=lambda one: -one.started_s)[:limit])

    async def looks(self, key: TargetKey, *, since_s: float, limit: int) -> tuple[PastLook, ...]:
        return await self.history.looks(key, since_s=since_s, limit=limit)

    async def failures(self, key: TargetKey, *, limit: int) -> tuple[PastFailure, ...]:
        return await self.history.failures(key, limit=limit)

    async def days(self, key: TargetKey, *, days: int) -> tuple[PastDay, ...]:
        return await self.history.days(key, days=days)

    async def add_change(self, change: Change) -> None:
        await self.history.add_change(change.at_s, msgspec.json.encode(change).decode())
        self.note(change)

    def note(self, change: Change) -> None:
        """Show a change that is already recorded, or needs no record."""
        self.recent.insert(0, change)
        del self.recent[_CHANGES_KEPT:]
        for env, judgement in self.judgements.items():
            if change.env in ("", env):
                judgement.changed(change)
        self.board.emit(
            EventKind.CHANGE,
            at_s=change.at_s,
            env=change.env,
            subject=change.service,
            state=change.kind,
            text=change.text,
        )

    async def restore(self) -> None:
        """Bring back the changes of earlier processes."""
        for text in reversed(await self.history.changes(limit=_CHANGES_KEPT)):
            self.recent.insert(0, msgspec.json.decode(text, type=Change))


def digest(scopes: tuple[Scope, ...]) -> str:
    """A short fingerprint of a configuration, secrets included but not recoverable."""
    text = msgspec.json.encode([msgspec.to_builtins(_tables(scope), enc_hook=_hashed) for scope in scopes])
    return sha256(text).hexdigest()[:12]


def _tables(scope: Scope) -> dict[str, object]:
    return {name: getattr(scope, name) for name in Scope.__struct_fields__}


def _masked(value: object) -> object:
    return repr(value)


def _hashed(value: object) -> object:
    return sha256(value.reveal().encode()).hexdigest() if isinstance(value, Secret) else repr(value)


def part_of(name: str, trouble: str | None, text: str) -> AgentPart:
    """A part that is up, or degraded and says why."""
    return AgentPart(name=name, state=State.DEGRADED if trouble else State.UP, text=trouble or text)
