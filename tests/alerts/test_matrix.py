"""Who is told of what in which environment, by the policies of the strategy's own gaia.yaml, row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from agent.judgement import plan_of
from agent.platform.load import load
from agent.watching import Watching
from alerts.batch import OutboxRow
from alerts.journal import Journal
from alerts.judge import Judge
from alerts.notice import NoticeKind
from alerts.requests import ErrorLog, RequestSample
from checks.clock import SystemClock
from checks.finding import Finding, State
from checks.observation import Observation
from checks.reason import Reason
from checks.target import Target
from checks.verdict import ConfirmPolicy, Verdict, step
from tests.agent.platform.files import ROOT_FILE, VARIABLES
from tests.alerts.world import START_S

ENVIRONMENTS = ("development", "staging", "production")
SERVICES = ("gateway", "auth", "asset", "chat")
_LASTS_S = 900
_EVERY_S = 5


class Stage:
    """One environment of the real file on a virtual clock: everything is well but for what a row breaks."""

    def __init__(self, env: str) -> None:
        scope = load(ROOT_FILE, environ=VARIABLES).scope(env)
        self.env = env
        self.plan = plan_of(scope, Watching((scope,), SystemClock()).of(env))
        self.now_s = START_S
        self.findings: dict[str, Finding] = {}
        self.once: dict[str, Finding] = {}
        self.errors = self.slow = 0
        self.busy = True
        self.sent: list[tuple[float, str, str]] = []
        self.recorded: set[str] = set()
        self._verdicts: dict[Target, Verdict] = {}
        self._counts = (0, 0, 0)
        journal = Journal(None)
        journal.on_outbox(self._take)
        self.judge = Judge(self.plan, journal, now_s=self.now_s)

    def _take(self, rows: tuple[OutboxRow, ...]) -> None:
        self.sent += [
            (self.now_s - START_S, row.notice.alertname, row.notice.severity.value)
            for row in rows
            if row.notice.kind is NoticeKind.TRIGGER
        ]

    def find(self, where: str, state: State, reason: Reason, latency_s: float | None = None) -> None:
        """From now on `service/check` is seen like this."""
        self.findings[where] = Finding(
            state=state, reason=reason, message=f"{where} is {state}: {reason}", latency_s=latency_s
        )

    def log(self, count: int = 1, *, fatal: bool = False) -> None:
        self.judge.logged(
            ErrorLog(
                env=self.env, service="auth", at_s=self.now_s, fingerprint="f", sample="KeyError: id",
                count=count, fatal=fatal,
            )
        )  # fmt: skip

    def run(self, seconds: int, each: Callable[[Stage], None] | None = None) -> None:
        for _ in range(seconds // _EVERY_S):
            self.now_s += _EVERY_S
            if each is not None:
                each(self)
            if round(self.now_s) % round(self.plan.interval_s) < _EVERY_S:
                for target in self.plan.targets:
                    self._look(target)
            if self.busy and round(self.now_s) % 10 == 0:
                self._requests()
            self.judge.tick(self.now_s)
            self.recorded |= {one.alertname for one in self.judge.active() if one.state.value == "firing"}

    def _look(self, target: Target) -> None:
        """One look, and those that confirm it, as the prober takes them."""
        well = Finding(state=State.UP, reason=Reason.OK, message="is well", latency_s=0.01)
        place = f"{target.key.service}/{target.key.check}"
        for part in range(3):
            finding = (
                self.findings.get(place, well)
                if part
                else self.once.get(place, self.findings.get(place, well))
            )
            at_s = self.now_s - 0.9 + part * 0.3
            observation = Observation(target=target, at_s=at_s, duration_s=0.01, finding=finding)
            before = self._verdicts.get(target, Verdict())
            after, again_s = step(before, observation, ConfirmPolicy())
            self._verdicts[target] = after
            self.judge.observe(observation, after)
            if after.state is not before.state:
                self.judge.look(target.key, self.now_s)
            if again_s is None:
                return

    def _requests(self) -> None:
        total, errors, slow = self._counts
        self._counts = (total + 100, errors + self.errors, slow + self.slow)
        total, errors, slow = self._counts
        for service in SERVICES:
            bad = service == "auth"
            self.judge.requests(
                RequestSample(
                    env=self.env, service=service, source="one", at_s=self.now_s, incarnation="1",
                    total=total, errors=errors if bad else 0,
                    buckets=((2.0, total - (slow if bad else 0)), (float("inf"), total)),
                )
            )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A fault, and what each environment sends: rule -> (severity, earliest, latest second after it)."""

    fault: Callable[[Stage], None]
    staging: Mapping[str, tuple[str, float, float]] = field(default_factory=dict)
    production: Mapping[str, tuple[str, float, float]] = field(default_factory=dict)
    each: Callable[[Stage], None] | None = None
    # What development must show without calling; empty where it has nothing to look at.
    recorded: frozenset[str] = frozenset()


def _flaky_database(stage: Stage) -> None:
    """One connect in three fails, and works when it is tried again."""
    stage.once.clear()
    if int(stage.now_s // stage.plan.interval_s) % 3 == 0:
        stage.find("postgres/postgres", State.DOWN, Reason.PG_REFUSED)
        stage.once["postgres/postgres"] = stage.findings.pop("postgres/postgres")


def _errors(share: int) -> Callable[[Stage], None]:
    def set_errors(stage: Stage) -> None:
        stage.errors = share

    return set_errors


def _slow(share: int) -> Callable[[Stage], None]:
    def set_slow(stage: Stage) -> None:
        stage.slow = share

    return set_slow


def _seen(
    where: str, state: State, reason: Reason, latency_s: float | None = None
) -> Callable[[Stage], None]:
    return lambda stage: stage.find(where, state, reason, latency_s)


def _storm(stage: Stage) -> None:
    stage.log(2)


def _storm_felt(stage: Stage) -> None:
    stage.errors = 10
    stage.log(2)


ROWS = {
    "service down": Row(
        fault=_seen("auth/http", State.DOWN, Reason.STATUS),
        staging={"service_down": ("chat", 180, 200)},
        production={"service_down": ("page", 0, 30)},
    ),
    "response > 2 s for 1 in 10 requests": Row(
        fault=_slow(10),
        production={"slow_responses": ("chat", 60, 360)},
        recorded=frozenset({"slow_responses"}),
    ),
    "response > 2 s for 1 in 3 requests": Row(
        fault=_slow(33),
        # The page tells of the chat message's matter too.
        production={"very_slow_responses": ("page", 0, 120)},
        recorded=frozenset({"slow_responses", "very_slow_responses"}),
    ),
    "probe latency > 2 s": Row(
        fault=_seen("auth/http", State.DEGRADED, Reason.SLOW, 3.0),
        production={"slow_probes": ("chat", 20, 60)},
    ),
    "error rate 4 %": Row(fault=_errors(4)),
    "error rate 10 %": Row(
        fault=_errors(10),
        production={"high_error_rate": ("page", 60, 300)},
        recorded=frozenset({"high_error_rate"}),
    ),
    "error rate 40 %": Row(
        fault=_errors(40),
        staging={"major_error_rate": ("chat", 300, 600)},
        # Its health check says that it is well: that is news of its own.
        production={"witnesses_disagree": ("chat", 60, 150), "high_error_rate": ("page", 60, 150)},
        recorded=frozenset({"high_error_rate", "major_error_rate"}),
    ),
    "database unreachable": Row(
        fault=_seen("postgres/postgres", State.DOWN, Reason.PG_UNREACHABLE),
        staging={"database_down": ("chat", 120, 140)},
        production={"database_down": ("page", 0, 30)},
        recorded=frozenset({"database_down"}),
    ),
    "database pool 95 %": Row(
        fault=_seen("postgres/postgres", State.DEGRADED, Reason.PG_CONNECTIONS_HIGH),
        production={"component_degraded": ("chat", 300, 330)},
        recorded=frozenset({"component_degraded"}),
    ),
    "replication lag": Row(
        fault=_seen("postgres/postgres", State.DEGRADED, Reason.PG_REPLICATION_LAG),
        production={"component_degraded": ("chat", 300, 330)},
        recorded=frozenset({"component_degraded"}),
    ),
    "broker unreachable": Row(
        fault=_seen("nats/nats", State.DOWN, Reason.NATS_REFUSED),
        staging={"broker_down": ("chat", 120, 140)},
        production={"broker_down": ("page", 0, 30)},
        recorded=frozenset({"broker_down"}),
    ),
    "JetStream without quorum": Row(
        fault=_seen("nats/nats", State.DOWN, Reason.JS_NO_QUORUM),
        staging={"broker_down": ("chat", 120, 140)},
        production={"broker_down": ("page", 0, 30)},
        recorded=frozenset({"broker_down", "message_queues"}),
    ),
    "consumers fall behind": Row(
        fault=_seen("nats/nats", State.DEGRADED, Reason.JS_CONSUMER_LAG),
        production={"message_queues": ("chat", 60, 90)},
        recorded=frozenset({"message_queues"}),
    ),
    "fewer machines than the minimum": Row(
        fault=_seen("auth/machines", State.DEGRADED, Reason.FLY_BELOW_MINIMUM),
        production={"too_few_machines": ("page", 60, 90)},
        recorded=frozenset({"too_few_machines"}),
    ),
    "a machine in a crash loop": Row(
        fault=_seen("auth/machines", State.DOWN, Reason.FLY_CRASH_LOOP),
        production={"machine_unhealthy": ("page", 60, 90)},
        recorded=frozenset({"machine_unhealthy"}),
    ),
    "the platform's own check fails": Row(
        fault=_seen("auth/machines", State.DEGRADED, Reason.FLY_CHECKS),
        production={"machine_strained": ("chat", 300, 330)},
        recorded=frozenset({"machine_strained"}),
    ),
    "the machine's disk is full": Row(
        fault=_seen("machine/host", State.DOWN, Reason.HOST_DISK),
        production={"machine_unhealthy": ("page", 60, 90)},
        recorded=frozenset({"machine_unhealthy"}),
    ),
    "the machine's CPU is busy": Row(
        fault=_seen("machine/host", State.DEGRADED, Reason.HOST_CPU),
        production={"machine_strained": ("chat", 300, 330)},
        recorded=frozenset({"machine_strained"}),
    ),
    "database connections that fail now and then": Row(
        fault=lambda _: None,
        each=_flaky_database,
        production={"database_connection_failures": ("chat", 0, 150)},
    ),
    "one new kind of ERROR": Row(
        fault=lambda stage: stage.log(),
        staging={"new_error_log": ("chat", 0, 30)},
        production={"new_error_log": ("chat", 0, 30)},
        recorded=frozenset({"new_error_log"}),
    ),
    "a storm of ERROR": Row(
        fault=lambda _: None,
        each=_storm,
        staging={"new_error_log": ("chat", 0, 30)},
        production={"new_error_log": ("chat", 0, 30), "error_logs": ("chat", 20, 60)},
        recorded=frozenset({"new_error_log", "error_logs"}),
    ),
    "a storm of ERROR that users feel": Row(
        fault=lambda _: None,
        each=_storm_felt,
        staging={"new_error_log": ("chat", 0, 30)},
        production={
            "new_error_log": ("chat", 0, 30),
            "error_logs": ("chat", 20, 60),
            "error_logs_and_bad_traffic": ("page", 20, 240),
        },
        recorded=frozenset({"error_logs_and_bad_traffic"}),
    ),
    "CRITICAL": Row(
        fault=lambda stage: stage.log(fatal=True),
        staging={"new_error_log": ("chat", 0, 30)},
        production={"fatal_logs": ("page", 0, 30)},
        recorded=frozenset({"fatal_logs"}),
    ),
    "a backup that is too old": Row(
        fault=_seen("postgres/backups", State.DEGRADED, Reason.BACKUP_OLD),
        production={"backup_too_old": ("chat", 0, 330)},
    ),
    "nothing at all": Row(fault=lambda _: None),
}


@pytest.mark.parametrize("env", ENVIRONMENTS)
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_each_environment_is_told_what_its_row_says_and_nothing_else(row: Row, env: str) -> None:
    stage = Stage(env)
    stage.run(600)
    assert stage.sent == []
    began_s = stage.now_s - START_S
    row.fault(stage)
    stage.run(_LASTS_S, row.each)
    wanted = {"development": {}, "staging": row.staging, "production": row.production}[env]
    sent = {name: (severity, at_s - began_s) for at_s, name, severity in reversed(stage.sent)}
    assert {name: severity for name, (severity, _) in sent.items()} == {
        name: severity for name, (severity, _, _) in wanted.items()
    }
    for name, (_, earliest_s, latest_s) in wanted.items():
        assert earliest_s <= sent[name][1] <= latest_s, (name, sent[name])
    if env == "development":
        assert row.recorded <= stage.recorded


def test_nobody_is_paged_but_in_production() -> None:
    for env in ENVIRONMENTS[:2]:
        severities = {
            rule.severity.value for rule in load(ROOT_FILE, environ=VARIABLES).scope(env).rules.values()
        }
        assert "page" not in severities
