"""After a start without memory: what is well is resolved once where an agent before may have left it open.

An agent whose disk was lost, or that has none, does not know what the last one told. While it runs its keys
carry no time, so that the next one can end them; and what it finds well it ends, whoever opened it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from msgspec import Struct

from alerts.batch import Batch
from alerts.channel import Channel
from alerts.duty import Duty
from alerts.evidence import Evidence
from alerts.instance import Instance
from alerts.machine import Phase
from alerts.notice import Notice, NoticeKind
from alerts.plan import JudgePlan
from alerts.reading import Outcome
from alerts.rule import Rule, Severity
from alerts.told import STORM

# One every three seconds leaves most of a channel's rate to pages; what is not well within a day is left.
_PACE_S: Final = 3.0
_LASTS_S: Final = 86400.0
# Ten minutes of ends: more places are visited when these have gone out.
_MOST_QUEUED: Final = 200
_WORDS: Final = "is well: ends what an agent that lost its memory may have left open"
ENDED: Final = "fresh_start"


class _Left(Struct, eq=False):
    """A place whose rules were not all seen well often enough yet.

    `goods` says how often each was in a row, and when its newest evidence was seen.
    """

    duty: Duty
    goods: dict[str, tuple[int, float]]
    done: bool = False


class Sweep:
    """Goes over every enumerable alert, one place after the other, until each was seen well or is told of."""

    def __init__(self, plan: JudgePlan, evidence: Evidence, duties: Iterable[Duty], now_s: float) -> None:
        self._evidence = evidence
        self._began_s = now_s
        self._done: set[str] = set()
        self._queue: list[Notice] = []
        self._queued_s = 0.0
        self._visited_s = now_s
        self._storms_ended = False
        self.replan(plan, duties)

    def replan(self, plan: JudgePlan, duties: Iterable[Duty]) -> None:
        """Take over a new plan; what was ended stays ended."""
        self._plan = plan
        self._left = [_Left(duty, {}) for duty in duties if any(_callable(duty.rules.every))]
        self._next = 0

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return not self._left and not self._queue and self._storms_ended

    def step(self, channels: Iterable[Channel], told: Iterable[str], batch: Batch, now_s: float) -> None:
        """Look at the places whose turn it is, and queue at most one end, for every channel that keeps keys.

        `told` are the fingerprints of what this agent told itself: those end by themselves.
        """
        keyed = [channel for channel in channels if channel.keyed]
        if not keyed or not 0 <= now_s - self._began_s < _LASTS_S:
            self._left, self._queue, self._storms_ended = [], [], True
            return
        known = frozenset(told)
        for left in self._turn(now_s) if len(self._queue) < _MOST_QUEUED else ():
            self._visit(left, known, now_s)
        self._left = [left for left in self._left if not left.done]
        if not self._storms_ended and all(left.duty.key is None for left in self._left):
            self._storms_ended = True
            self._queue += _storms(self._plan, now_s)
        if self._queue and not 0 <= now_s - self._queued_s < _PACE_S:
            self._queued_s = now_s
            notice = self._queue.pop(0)
            if notice.episode in known:
                return  # It fired meanwhile: an end now would end what is on.
            batch.outbox.extend((one.name, 0, notice) for one in keyed if one.takes(notice.severity))

    def _turn(self, now_s: float) -> list[_Left]:
        """So many places that each has its turn once in an interval."""
        passed_s = min(max(now_s - self._visited_s, 0.0), self._plan.interval_s)
        self._visited_s = now_s
        count = min(len(self._left), round(len(self._left) * passed_s / self._plan.interval_s + 0.5))
        start = self._next % len(self._left) if self._left else 0
        self._next = start + count
        return [*self._left[start : start + count], *self._left[: max(0, start + count - len(self._left))]]

    def _visit(self, left: _Left, told: frozenset[str], now_s: float) -> None:
        duty, waits = left.duty, False
        awake = {one.alertname: one for one in duty.awake}
        for name, rule in _callable(duty.rules.every):
            alert = awake.get(name) or duty.made(self._plan, name)
            if alert.fingerprint in self._done:
                continue
            if alert.fingerprint in told:
                self._done.add(alert.fingerprint)
                continue
            count, seen_s = left.goods.get(name, (0, -1.0))
            at_s = self._good_at_s(rule, duty, now_s) if alert.standing.phase is Phase.OK else None
            if at_s is None:
                count = 0
            elif at_s > seen_s:
                count, seen_s = count + 1, at_s
            left.goods[name] = (count, seen_s)
            if count >= max(1, rule.min_good):
                self._done.add(alert.fingerprint)
                self._queue.append(_ended(alert, self._plan, now_s))
            else:
                waits = True
        left.done = not waits

    def _good_at_s(self, rule: Rule, duty: Duty, now_s: float) -> float | None:
        """When what makes it good was seen; None when it is not good."""
        try:
            reading = self._evidence.read(rule, duty.component, duty.key, now_s)
        except Exception:  # the judge says that the rule is broken; here it is only not good
            return None
        return reading.at_s if reading.outcome is Outcome.GOOD else None


def _callable(rules: Iterable[tuple[str, Rule]]) -> Iterator[tuple[str, Rule]]:
    """Rules that may have called somebody."""
    return (pair for pair in rules if pair[1].severity is not Severity.LOG)


def _ended(alert: Instance, plan: JudgePlan, now_s: float) -> Notice:
    labels = {"alertname": alert.alertname, "service": alert.component}
    return _notice(alert.fingerprint, labels, alert.rule.severity, plan, now_s)


def _storms(plan: JudgePlan, now_s: float) -> list[Notice]:
    """Digests of many are told under keys of their own; they are over once every target is well."""
    labels = {"alertname": "many_at_once"}
    return [
        _notice(f"{STORM}-{plan.env}-{severity}", labels, severity, plan, now_s)
        for severity in (Severity.PAGE, Severity.CHAT)
    ]


def _notice(key: str, labels: dict[str, str], severity: Severity, plan: JudgePlan, now_s: float) -> Notice:
    text = f"{labels.get('service', plan.env)} {_WORDS}"
    return Notice(
        kind=NoticeKind.RESOLVE,
        episode=key,
        env=plan.env,
        alertname=labels["alertname"],
        component=labels.get("service", ""),
        severity=severity,
        title=f"{(plan.alias or plan.env).upper()} · {text}"[:160],
        sms=text[:160],
        body=(("", text),),
        labels=labels | {"env": plan.env, "severity": severity.value},
        at_s=now_s,
        fired_at_s=now_s,
        resolved_at_s=now_s,
        ended=ENDED,
    )
