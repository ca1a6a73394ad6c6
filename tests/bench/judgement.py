"""What judging costs: rule instances per second of CPU, one look, and a storm of alerts as messages."""

from __future__ import annotations

import time

from alerts.batch import OutboxRow
from alerts.journal import Journal
from alerts.judge import Judge
from alerts.plan import JudgePlan
from alerts.receiver import Console, Receiver
from alerts.rule import SlowProbesRule, TargetStateRule
from checks.finding import Finding, State
from checks.observation import Observation
from checks.reason import Reason
from checks.target import Kind, Target, TargetKey
from checks.units import Duration
from checks.verdict import ConfirmPolicy, Verdict, step

TARGETS = 5000
INTERVAL_S = 10.0
START_S = 1_800_000_000.0
BUDGET = 0.05


def _targets(count: int) -> tuple[Target, ...]:
    return tuple(
        Target(
            key=TargetKey(env="production", service=f"svc{number}", check="http", vantage="local"),
            kind=Kind.SERVICE,
            address=f"svc{number}:80",
        )
        for number in range(count)
    )


def _judge(targets: tuple[Target, ...], journal: Journal) -> Judge:
    plan = JudgePlan(
        env="production",
        rules={"down": TargetStateRule(), "slow": SlowProbesRule(slower_than=Duration(20), at_least=99)},
        targets=targets,
        interval_s=INTERVAL_S,
        receivers={"on_call": Receiver(console=Console())},
    )
    return Judge(plan, journal, now_s=START_S)


_GOOD = Finding(state=State.UP, reason=Reason.OK, message="ok", latency_s=0.02)
_UNEASY = Finding(state=State.UP, reason=Reason.OK, message="ok", latency_s=30.0)
_BAD = Finding(state=State.DOWN, reason=Reason.CONNECTION_REFUSED, message="nobody listens", hard=True)


class _Feed:
    """Looks at every target, through the confirming verdict, as the agent does."""

    def __init__(self, judge: Judge, targets: tuple[Target, ...]) -> None:
        self._judge = judge
        self._targets = targets
        self._verdicts = dict.fromkeys((target.key for target in targets), Verdict())

    def observe(self, finding: Finding, at_s: float, *, times: int = 1) -> list[TargetKey]:
        """Keys whose verdict changed."""
        changed = []
        for target in self._targets:
            for _ in range(times):
                look = Observation(target=target, at_s=at_s, duration_s=0.02, finding=finding)
                before = self._verdicts[target.key]
                self._verdicts[target.key], _ = step(before, look, ConfirmPolicy())
                self._judge.observe(look, self._verdicts[target.key])
                if self._verdicts[target.key].state is not before.state:
                    changed.append(target.key)
        return changed


def main() -> None:
    _steady("a platform that is well", _GOOD)
    _steady("nothing calm, every rule evaluated in full", _UNEASY)
    _storm()


def _steady(scene: str, finding: Finding) -> None:
    targets = _targets(TARGETS)
    judge = _judge(targets, Journal(None))
    feed = _Feed(judge, targets)
    for number in range(20):
        feed.observe(finding, START_S - 200 + 10 * number)
    judge.tick(START_S)
    rounds = 3
    ticks_s = looks_s = worst_s = 0.0
    now_s = START_S
    for _ in range(rounds):
        started = time.process_time()
        feed.observe(finding, now_s)
        looks_s += time.process_time() - started
        for _ in range(int(INTERVAL_S)):
            now_s += 1
            started = time.process_time()
            judge.tick(now_s)
            took_s = time.process_time() - started
            ticks_s += took_s
            worst_s = max(worst_s, took_s)
    instances = len(judge.instances())
    share = ticks_s / rounds / INTERVAL_S
    print(f"{scene}:")
    print(f"  {instances} rule instances each {INTERVAL_S:g} s: {share:.1%} of a core (budget {BUDGET:.0%}),")
    print(f"  {ticks_s / rounds / instances * 1e6:.1f} µs each, longest of ten slices {worst_s * 1e3:.1f} ms")
    print(f"  one look taken in (verdict included): {looks_s / rounds / TARGETS * 1e6:.1f} µs")


def _storm() -> None:
    targets = _targets(1000)
    journal = Journal(None)
    rows: list[OutboxRow] = []
    journal.on_outbox(rows.extend)
    judge = _judge(targets, journal)
    feed = _Feed(judge, targets)
    feed.observe(_GOOD, START_S)
    judge.tick(START_S + 1)
    started = time.process_time()
    for key in feed.observe(_BAD, START_S + 2, times=2):
        judge.look(key, START_S + 2)
    for second in range(3, 13):
        judge.tick(START_S + second)
    took_s = time.process_time() - started
    firing = sum(view.fired_at_s > 0 for view in judge.active())
    print(f"{firing} alerts at once: {len(rows)} messages within 10 s, {took_s:.2f} s of CPU to judge them")
    print(f"  the last says: {rows[-1].notice.title[:90]}")
