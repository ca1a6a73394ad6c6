"""Whatever happens: no resolve without evidence, no second trigger, no trigger without its end."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from alerts.canary import parse
from alerts.external import ExternalAlert
from alerts.notice import Notice, NoticeKind
from alerts.plan import JudgePlan
from alerts.requests import ErrorLog
from alerts.rule import Rule
from alerts.silence import Silence, parse_matchers
from checks.finding import State
from checks.reason import Reason
from tests.alerts.world import COMPREHENSIVE, World, plan

SERVICES = st.sampled_from(["postgres", "nats", "auth", "chat", "gateway"])
# The journal syncs every commit; on a memory disk that costs nothing.
_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
# Evidence of these is the look itself; the others are judged over time.
BY_LOOK = {"service_down", "database_down", "broker_down"}
BY_TRAFFIC = {"high_error_rate", "slow_responses", "very_slow_responses"}


class Platform(RuleBasedStateMachine):
    """Faults, recoveries, silences, gaps, restarts, reloads, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(dir=_MEMORY)
        self.world = World(_plan(COMPREHENSIVE), path=Path(self._folder.name) / "journal.db")
        self.checked = 0
        self.silences = 0
        self.last_state: dict[str, State] = {}

    @initialize()
    def healthy(self) -> None:
        self.world.pass_s(30)

    def teardown(self) -> None:
        try:
            self._all_ends_well()
        finally:
            self.world.journal.close()
            self._folder.cleanup()

    @rule(service=SERVICES)
    def kill(self, service: str) -> None:
        self.world.kill(service)

    @rule(service=SERVICES)
    def fail(self, service: str) -> None:
        self.world.fail(service)

    @rule(service=SERVICES)
    def blip(self, service: str) -> None:
        self.world.look(service, State.DOWN, Reason.TIMEOUT)

    @rule(service=SERVICES)
    def heal(self, service: str) -> None:
        self.world.heal(service)

    @rule(service=SERVICES)
    def sleeps(self, service: str) -> None:
        self.world.look(service, State.ASLEEP, Reason.ASLEEP)

    @rule(service=SERVICES, errors=st.sampled_from([0, 0, 3, 30, 100]), times=st.integers(1, 12))
    def traffic(self, service: str, errors: int, times: int) -> None:
        for _ in range(times):
            self.world.requests(service, 100, errors, errors)
            self.world.pass_s(10, every_s=10)

    @rule(seconds=st.sampled_from([1, 11, 60, 300, 900]))
    def time_passes(self, seconds: int) -> None:
        self.world.pass_s(seconds, every_s=1 if seconds < 60 else 10)

    @rule(seconds=st.sampled_from([30, 100, 1000]))
    def nothing_is_seen(self, seconds: int) -> None:
        self.world.pass_s(seconds, looks=False, every_s=10)

    @rule(seconds=st.sampled_from([40, 600, 4000]))
    def the_agent_sleeps(self, seconds: int) -> None:
        self.world.now_s += seconds

    @rule(seconds=st.sampled_from([1, 50, 5000]))
    def the_clock_steps_back(self, seconds: int) -> None:
        self.world.now_s -= seconds

    @rule(seconds=st.sampled_from([0.5, 20, 700]))
    def the_agent_is_killed(self, seconds: float) -> None:
        self.world.restart(after_s=seconds)

    @rule(service=SERVICES, seconds=st.sampled_from([30, 600]), covers=st.booleans())
    def silence(self, service: str, seconds: int, *, covers: bool) -> None:
        self.silences += 1
        now_s = self.world.now_s
        self.world.judge.silence(
            Silence(
                id=f"s{self.silences}", matchers=parse_matchers(f'service="{service}"'), starts_at_s=now_s,
                ends_at_s=now_s + seconds, author="a", comment="c", created_at_s=now_s,
                covers_dependents=covers,
            ),
            now_s,
        )  # fmt: skip

    @rule(left_out=st.sampled_from(["", "database_down", "service_down", "high_error_rate"]))
    def reload(self, left_out: str) -> None:
        rules: dict[str, Rule] = {name: one for name, one in COMPREHENSIVE.items() if name != left_out}
        self.world.plan = _plan(rules)
        self.world.transitions += self.world.judge.reload(self.world.plan, self.world.now_s)

    @rule(service=SERVICES, over=st.booleans())
    def others_judge(self, service: str, *, over: bool) -> None:
        labels = {"alertname": "Theirs", "service": service, "severity": "critical"}
        end_s = self.world.now_s - 1 if over else 0.0
        self.world.judge.receive([ExternalAlert(labels=labels, ends_at_s=end_s)], self.world.now_s)
        self.world.now_s += 0.01

    @rule(share=st.sampled_from([3, 6]), reachable=st.booleans(), lasts_s=st.sampled_from([0, 400]))
    def nothing_comes_back(self, share: int, lasts_s: int, *, reachable: bool) -> None:
        """A fault of the network: the targets', or the agent's own."""
        self.world.reachable = reachable
        for _ in range(3):
            for service in list(self.world.targets)[:share]:
                self.world.down.add(service)
                self.world.look(service, State.DOWN, Reason.TIMEOUT)
                self.world.ask_canaries()
            self.world.now_s += 0.3
        self.world.pass_s(lasts_s, every_s=10)

    @rule()
    def the_network_is_back(self) -> None:
        self.world.reachable = True
        self.world.pass_s(12)

    @rule(service=SERVICES, kinds=st.integers(1, 8), fatal=st.booleans())
    def errors_are_logged(self, service: str, kinds: int, *, fatal: bool) -> None:
        for number in range(kinds):
            self.world.judge.logged(
                ErrorLog(
                    env="production", service=service, at_s=self.world.now_s, fingerprint=f"{number}",
                    sample="boom", count=3, fatal=fatal,
                )
            )  # fmt: skip

    @rule(count=st.sampled_from([4, 9]), over=st.booleans())
    def others_judge_many(self, count: int, *, over: bool) -> None:
        end_s = self.world.now_s - 1 if over else 0.0
        labels = ({"alertname": f"Far{number}", "region": "fra"} for number in range(count))
        alerts = [ExternalAlert(labels=one, ends_at_s=end_s) for one in labels]
        self.world.judge.receive(alerts, self.world.now_s)
        self.world.now_s += 0.01  # An episode is named by its millisecond.

    @rule()
    def acknowledge(self) -> None:
        self.world.judge.ack("database_down", "mira", self.world.now_s)

    @invariant()
    def every_notice_is_in_its_place(self) -> None:
        opened: dict[tuple[str, str], int] = {}
        closed: set[tuple[str, str]] = set()
        running: dict[tuple[str, str], str] = {}
        for row in self.world.rows:
            notice = row.notice
            key = (notice.episode, row.channel)
            place = (notice.episode.partition(":")[0], row.channel)
            if notice.kind is NoticeKind.TRIGGER:
                assert key not in opened, f"two triggers in {key}"
                assert running.get(place) is None, f"{place} was told twice without an end"
                opened[key] = 1
                running[place] = notice.episode
            elif notice.kind is NoticeKind.RESOLVE:
                assert key in opened, f"a resolve without a trigger: {key}"
                assert key not in closed, f"two resolves in {key}"
                closed.add(key)
                running[place] = ""
                running.pop(place)
            else:
                assert key in opened, f"{notice.kind} without a trigger"
                assert key not in closed, f"{notice.kind} after the end"

    @invariant()
    def an_end_has_evidence(self) -> None:
        for row in self.world.rows[self.checked :]:
            notice = row.notice
            if notice.kind is NoticeKind.RESOLVE:
                assert notice.ended in self._may_end(notice), (notice.title, notice.ended)
        self.checked = len(self.world.rows)

    def _may_end(self, notice: Notice) -> set[str]:
        """The reasons for which this alert may be over now, by what was really seen."""
        world, name, service = self.world, notice.alertname, notice.component
        if world.judge.isolation.blind and name != "agent_isolated":
            return set() if name in world.plan.rules else {"rule_removed"}
        if name in ("many_at_once", "agent_isolated", "Theirs") or name.startswith("Far"):
            return {"recovered", "expired"}
        reasons = {"rule_removed"} if name not in world.plan.rules else set()
        up = world.verdicts[service].state in (State.UP, State.DEGRADED)
        looked = world.looked_s.get(service, -1e9)
        if name in BY_LOOK:
            return reasons | ({"recovered"} if up and 0 <= world.now_s - looked < 35 else set())
        if name in BY_TRAFFIC:
            counted = 0 <= world.now_s - world.counted_s.get(service, -1e9) < 360
            return reasons | ({"recovered"} if counted else set()) | ({"no_traffic"} if up else set())
        return reasons | {"recovered"}

    def _all_ends_well(self) -> None:
        """Once all is well and stays so, nothing is on and every trigger has its end."""
        world = self.world
        world.reachable = True
        for service in list(world.targets):
            world.heal(service)
        for _ in range(150):
            for service in ("auth", "chat", "gateway", "asset"):
                world.requests(service, 100)
            world.pass_s(25, every_s=25)
        self.every_notice_is_in_its_place()
        assert world.states() == {}
        triggers = {(row.notice.episode, row.channel) for row in world.rows if row.notice.kind == "trigger"}
        resolves = {(row.notice.episode, row.channel) for row in world.rows if row.notice.kind == "resolve"}
        assert triggers == resolves


def _plan(rules: dict[str, Rule]) -> JudgePlan:
    return plan(rules, canaries=(parse("192.0.2.1:443"), parse("198.51.100.1:443")))


Platform.TestCase.settings = settings(
    max_examples=int(os.environ.get("GAIA_EXAMPLES", "12")),
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestPlatform = pytest.mark.filterwarnings("ignore::ResourceWarning")(Platform.TestCase)
