"""A small platform on a virtual clock: what the judge sees, and every notice it makes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from alerts.batch import OutboxRow
from alerts.channel import channels
from alerts.journal import Journal
from alerts.judge import Judge
from alerts.notice import Notice, NoticeKind
from alerts.plan import JudgePlan
from alerts.receiver import Console, Receiver
from alerts.requests import RequestSample
from alerts.rule import DEFAULT_POLICIES, DEFAULT_RULES, Rule, in_force
from alerts.view import AlertView, Transition
from checks.finding import Claim, Finding, Measure, State
from checks.observation import Observation
from checks.reason import Reason
from checks.target import Kind, Target, TargetKey
from checks.verdict import ConfirmPolicy, Verdict, step

START_S = 1_800_000_000.0
DEPENDENCIES = {
    "gateway": ("auth", "asset", "chat"),
    "auth": ("postgres", "nats"),
    "asset": ("postgres", "nats"),
    "chat": ("postgres", "nats"),
}
KINDS = {
    "gateway": Kind.SERVICE, "auth": Kind.SERVICE, "asset": Kind.SERVICE, "chat": Kind.SERVICE,
    "postgres": Kind.DATABASE, "nats": Kind.BROKER,
}  # fmt: skip
TARGETS = tuple(
    Target(
        key=TargetKey(env="production", service=name, check="health", vantage="local"),
        kind=kind,
        address=f"{name}:1",
    )
    for name, kind in KINDS.items()
)
COMPREHENSIVE = in_force(DEFAULT_RULES, DEFAULT_POLICIES["comprehensive"])
_REFUSED = {Kind.DATABASE: Reason.PG_REFUSED, Kind.BROKER: Reason.NATS_REFUSED}


def plan(
    rules: Mapping[str, Rule] | None = None,
    *,
    receivers: Mapping[str, Receiver] | None = None,
    targets: tuple[Target, ...] = TARGETS,
    **more: object,
) -> JudgePlan:
    settings: dict[str, object] = {
        "env": "production",
        "alias": "prod",
        "rules": COMPREHENSIVE if rules is None else rules,
        "receivers": {"on_call": Receiver(console=Console())} if receivers is None else receivers,
        "targets": targets,
        "interval_s": 10.0,
        "dependencies": DEPENDENCIES,
    }
    return JudgePlan(**(settings | more))  # type: ignore[arg-type]  # a test's own keyword mixture


class World:
    """Drives one judge. Time moves only by `pass_s`."""

    def __init__(self, judge_plan: JudgePlan | None = None, *, path: Path | None = None) -> None:
        self.plan = judge_plan or plan()
        self.path = path
        self.now_s = START_S
        self.rows: list[OutboxRow] = []
        self.transitions: list[Transition] = []
        self.verdicts = {target.key.service: Verdict() for target in self.plan.targets}
        self.targets = {target.key.service: target for target in self.plan.targets}
        self._totals: dict[str, tuple[int, int, int]] = {}
        self.down: set[str] = set()
        # What the canaries of the plan, if it has any, say when they are asked.
        self.reachable = True
        # When each was last looked at, and its requests last counted.
        self.looked_s: dict[str, float] = {}
        self.counted_s: dict[str, float] = {}
        self._start()

    def _start(self) -> None:
        self.take_over(Journal(self.path))
        self.channels = channels(self.plan.receivers, self.plan.env)

    def take_over(self, journal: Journal) -> None:
        """Go on with another journal, as a new process does."""
        self.journal = journal
        self.journal.on_outbox(self.rows.extend)
        self.judge = Judge(self.plan, self.journal, now_s=self.now_s)

    def restart(self, *, after_s: float = 3.0) -> None:
        """The process dies without a word and another one takes over the file."""
        self.journal.close()
        self.now_s += after_s
        self.verdicts = dict.fromkeys(self.verdicts, Verdict())
        self._start()

    def look(
        self,
        service: str,
        state: State = State.UP,
        reason: Reason | None = None,
        *,
        hard: bool = False,
        latency_s: float | None = 0.01,
        message: str = "",
        claims: tuple[Claim, ...] = (),
        measures: tuple[Measure, ...] = (),
    ) -> tuple[Transition, ...]:
        """One look; judged at once when the verdict changed, as the agent does."""
        target = self.targets[service]
        self.looked_s[service] = self.now_s
        finding = Finding(
            state=state,
            reason=reason or (Reason.OK if state is State.UP else Reason.TIMEOUT),
            message=message or f"{service} is {state}",
            hard=hard, latency_s=latency_s, claims=claims, measures=measures,
        )  # fmt: skip
        observation = Observation(target=target, at_s=self.now_s, duration_s=0.01, finding=finding)
        before = self.verdicts[service]
        self.verdicts[service], _ = step(before, observation, ConfirmPolicy())
        self.judge.observe(observation, self.verdicts[service])
        if self.verdicts[service].state is before.state:
            return ()
        made = self.judge.look(target.key, self.now_s)
        self.transitions += made
        return made

    def kill(self, service: str) -> None:
        """Hard evidence: refused, and refused again."""
        self.down.add(service)
        reason = _REFUSED.get(self.targets[service].kind, Reason.CONNECTION_REFUSED)
        for _ in range(2):
            self.look(service, State.DOWN, reason, hard=True, message="nobody listens on its port")
            self.now_s += 0.05

    def fail(self, service: str) -> None:
        """Soft evidence: three fresh failures."""
        self.down.add(service)
        for _ in range(3):
            self.look(service, State.DOWN, Reason.STATUS, message=f"{service} answers 503")
            self.now_s += 0.3

    def heal(self, service: str) -> None:
        self.down.discard(service)
        for _ in range(2):
            self.look(service)
            self.now_s += 0.25

    def pass_s(
        self, seconds: float, *, looks: bool = True, traffic: bool = False, every_s: float = 1.0
    ) -> None:
        """Let time pass: a tick every second, a look at everything every interval."""
        self.now_s = float(round(self.now_s)) if every_s > 1 else self.now_s
        end_s = self.now_s + seconds
        while self.now_s + every_s <= end_s:
            self.now_s += every_s
            if looks and (every_s > 1 or round(self.now_s) % 10 == 0):
                for service in self.targets:
                    self._regular(service)
            if traffic and (every_s > 1 or round(self.now_s) % 10 == 5):
                for service in self.targets:
                    if KINDS.get(service) is Kind.SERVICE:
                        self.requests(service, 100)
            self.ask_canaries()
            self.transitions += self.judge.tick(self.now_s)
        self.now_s = end_s

    def ask_canaries(self) -> None:
        """Look at the canaries if the judge wants to know, as the agent does."""
        if self.judge.asks(self.now_s):
            self.transitions += self.judge.canary(reachable=self.reachable, now_s=self.now_s)

    def _regular(self, service: str) -> None:
        if service in self.down:
            self.look(service, State.DOWN, hard=self.targets[service].kind is not Kind.SERVICE)
        else:
            self.look(service)

    def requests(self, service: str, total: int, errors: int = 0, slow: int = 0) -> None:
        """More traffic of a service, as its counters show it."""
        before = self._totals.get(service, (0, 0, 0))
        counts = (before[0] + total, before[1] + errors, before[2] + slow)
        self._totals[service] = counts
        self.counted_s[service] = self.now_s
        self.judge.requests(
            RequestSample(
                env="production", service=service, source="one", at_s=self.now_s, incarnation="1",
                total=counts[0], errors=counts[1],
                buckets=((2.0, counts[0] - counts[2]), (float("inf"), counts[0])),
            )
        )  # fmt: skip

    def told(self, kind: NoticeKind | None = None) -> list[Notice]:
        """Notices in the outbox, in order."""
        return [row.notice for row in self.rows if kind is None or row.notice.kind is kind]

    def said(self) -> list[str]:
        """`trigger database_down postgres`, in order."""
        return [f"{one.kind} {one.alertname} {one.component}".strip() for one in self.told()]

    def alert(self, name: str, service: str) -> AlertView:
        """One alert as it is shown."""
        found = [
            one
            for one in self.judge.instances(self.now_s)
            if (one.alertname, one.component) == (name, service)
        ]
        assert len(found) == 1, [(one.alertname, one.component) for one in self.judge.active()]
        return found[0]

    def states(self) -> dict[str, str]:
        """`database_down postgres` -> `firing`, for what is not OK."""
        return {f"{one.alertname} {one.component}": one.state.value for one in self.judge.active()}
