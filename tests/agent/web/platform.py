"""A small platform in memory, with the behaviour of the real one: what the web is tested against."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from agent.board import Board, EventKind, Row
from agent.exposition.document import Document
from agent.exposition.family import Family, Shape, Type, label_text
from agent.history import PastDay, PastLook
from agent.past_failures import PastFailure
from agent.telemetry.red import RedView
from agent.web.source import (
    ActiveAlert,
    AgentPart,
    AgentStatus,
    Change,
    EnvironmentInfo,
    Incident,
    Silence,
)
from checks.finding import Evidence, Finding, Phase, PhaseTime, State
from checks.observation import Observation
from checks.reason import Reason
from checks.target import Kind, Target, TargetKey
from checks.verdict import ConfirmPolicy, Verdict, step

START_S = 1_795_442_400.0  # 2026-11-23T14:00:00Z
PRODUCTION = EnvironmentInfo(name="production", alias="prod", interval_s=10, alerts="comprehensive")
STAGING = EnvironmentInfo(name="staging", alias="staging", interval_s=15, alerts="basic")
DEVELOPMENT = EnvironmentInfo(name="development", alias="dev", interval_s=30, alerts="none", pages=False)
UP_FAMILY = Family(name="gaia_test", type=Type.GAUGE, help="One series.")


@dataclass(slots=True, kw_only=True)
class Platform:
    """Implements `agent.web.source.Source`. Time stands still but for `wait`."""

    environments: tuple[EnvironmentInfo, ...] = (PRODUCTION,)
    platform: str = "gaia"
    time_s: float = START_S
    board: Board = field(default_factory=Board)
    document: Document = field(default_factory=lambda: Document([UP_FAMILY]))
    reds: dict[tuple[str, str], RedView] = field(default_factory=dict)
    active: list[ActiveAlert] = field(default_factory=list)
    quiet: list[Silence] = field(default_factory=list)
    changed: list[Change] = field(default_factory=list)
    episodes: list[Incident] = field(default_factory=list)
    parts: tuple[AgentPart, ...] = (AgentPart(name="history", state=State.UP, text="writing"),)
    ready: bool = True
    undelivered: int = 0
    past: dict[TargetKey, list[PastLook]] = field(default_factory=dict)
    failed: dict[TargetKey, list[Observation]] = field(default_factory=dict)
    scrapes: int = 0

    def now_s(self) -> float:
        return self.time_s

    def wait(self, seconds: float) -> None:
        self.time_s += seconds

    def before_scrape(self) -> None:
        self.scrapes += 1
        labels = label_text((("env", "production"),))
        self.document.put(UP_FAMILY.name, labels, Shape(UP_FAMILY.name), (self.scrapes,))

    def red(self, env: str, service: str) -> RedView | None:
        return self.reds.get((env, service))

    def alerts(self) -> tuple[ActiveAlert, ...]:
        return tuple(self.active)

    def silences(self) -> tuple[Silence, ...]:
        return tuple(self.quiet)

    def changes(self) -> tuple[Change, ...]:
        return tuple(reversed(self.changed))

    def agent(self) -> AgentStatus:
        return AgentStatus(
            version="0.1.0",
            started_s=START_S - 4,
            ready=self.ready,
            config_hash="9f3c1a",
            config_loaded_s=START_S - 4,
            targets=len(self.board.rows()),
            loop_lag_s=0.0012,
            undelivered=self.undelivered,
            parts=self.parts,
        )

    def config(self) -> bytes:
        return msgspec.json.encode({"platform": self.platform, "receivers": {"on_call": {"notify": ["***"]}}})

    async def incidents(self, *, limit: int) -> tuple[Incident, ...]:
        return tuple(self.episodes[::-1][:limit])

    async def looks(self, key: TargetKey, *, since_s: float, limit: int) -> tuple[PastLook, ...]:
        return tuple(look for look in self.past.get(key, []) if look.at_s >= since_s)[-limit:]

    async def failures(self, key: TargetKey, *, limit: int) -> tuple[PastFailure, ...]:
        return tuple(
            PastFailure(
                first_s=look.at_s,
                at_s=look.at_s,
                looks=1,
                detail=msgspec.json.encode(look.finding).decode(),
            )
            for look in self.failed.get(key, [])[::-1][:limit]
        )

    async def days(self, key: TargetKey, *, days: int) -> tuple[PastDay, ...]:
        counts: dict[int, dict[State, int]] = {}
        for look in self.past.get(key, []):
            by_state = counts.setdefault(int(look.at_s // 86_400), {})
            by_state[look.state] = by_state.get(look.state, 0) + 1
        return tuple(PastDay(day=day, looks=counts[day]) for day in sorted(counts)[-days:])

    async def add_change(self, change: Change) -> None:
        self.changed.append(change)
        self.board.emit(
            EventKind.CHANGE,
            at_s=change.at_s,
            env=change.env,
            subject=change.service,
            state=change.kind,
            text=change.text,
        )

    def place(self, *targets: tuple[Target, tuple[str, ...]], interval_s: float = 10.0) -> None:
        """Watch `targets`, each with what it depends on."""
        rows = {row.target.key: row for row in self.board.rows()}
        for target, depends_on in targets:
            rows[target.key] = Row(
                target=target, interval_s=interval_s, slower_than_s=2.0, depends_on=depends_on
            )
        self.board.place(rows)

    def look(self, key: TargetKey, finding: Finding) -> Row:
        """Take one look; a changed verdict is emitted as the agent does."""
        row = self.board.row(key)
        assert row is not None
        look = Observation(
            target=row.target, at_s=self.time_s, duration_s=finding.latency_s or 0, finding=finding
        )
        self.past.setdefault(key, []).append(
            PastLook(
                at_s=look.at_s, state=finding.state, reason=finding.reason.value, latency_s=finding.latency_s
            )
        )
        if finding.state in (State.DOWN, State.DEGRADED):
            self.failed.setdefault(key, []).append(look)
        before: Verdict = row.verdict
        verdict, _ = step(before, look, ConfirmPolicy())
        self.board.record(look, verdict)
        if verdict.state is not before.state:
            self.board.emit(
                EventKind.TARGET,
                at_s=look.at_s,
                env=key.env,
                subject=key.service,
                state=verdict.state.value,
                text=verdict.message,
            )
        return row


def target(
    service: str,
    *,
    env: str = "production",
    check: str = "http",
    kind: Kind = Kind.SERVICE,
    address: str = "",
    vantage: str = "local",
) -> Target:
    key = TargetKey(env=env, service=service, check=check, vantage=vantage)
    return Target(key=key, kind=kind, address=address or f"http://{service}.example:8080/health")


def up(latency_s: float = 0.021) -> Finding:
    phases = (
        PhaseTime(phase=Phase.CONNECT, duration_s=latency_s / 4),
        PhaseTime(phase=Phase.PROCESSING, duration_s=latency_s / 2),
        PhaseTime(phase=Phase.TRANSFER, duration_s=latency_s / 4),
    )
    message = f"answered 200 in {latency_s * 1000:.0f} ms, threshold 2 s"
    return Finding(state=State.UP, reason=Reason.OK, message=message, latency_s=latency_s, phases=phases)


def refused(address: str) -> Finding:
    return Finding(
        state=State.DOWN,
        reason=Reason.CONNECTION_REFUSED,
        message=f"{address} refuses connections: nobody listens there",
        hard=True,
        evidence=(Evidence(name="errno", value="ECONNREFUSED"),),
    )


def small() -> Platform:
    """gateway → auth, chat → postgres; all seen up a few times."""
    platform = Platform()
    database = target("postgres", check="postgres", kind=Kind.DATABASE, address="db.example:5432/gaia")
    platform.place(
        (target("gateway"), ("auth", "chat")),
        (target("auth"), ("postgres",)),
        (target("chat"), ("postgres",)),
        (database, ()),
    )
    for _ in range(3):
        for row in platform.board.rows():
            platform.look(row.target.key, up())
        platform.wait(10)
    platform.wait(-5)
    return platform


def database_down() -> Platform:
    """The same with the database refusing, and the two services on it failing for it."""
    platform = small()
    rows = {row.target.key.service: row for row in platform.board.rows()}
    for _ in range(4):
        platform.look(rows["postgres"].target.key, refused("db.example:5432"))
        for name in ("auth", "chat"):
            finding = Finding(
                state=State.DOWN,
                reason=Reason.STATUS,
                message=f"{name} answered 503, its health document says postgres: fail",
                latency_s=0.004,
            )
            platform.look(rows[name].target.key, finding)
        platform.look(rows["gateway"].target.key, up())
        platform.wait(5)
    return platform


def scaled(*states: State) -> Platform:
    """chat in as many instances, each of them as told, and nothing else."""
    platform = Platform()
    instances = [
        target("chat", vantage=f"instance_{number}", address=f"http://10.0.0.{number}:8003/health")
        for number in range(1, len(states) + 1)
    ]
    platform.place(*((one, ()) for one in instances))
    for _ in range(3):
        for one, state in zip(instances, states, strict=True):
            address = one.address.removeprefix("http://").partition("/")[0]
            platform.look(one.key, up() if state is State.UP else refused(address))
        platform.wait(5)
    return platform
