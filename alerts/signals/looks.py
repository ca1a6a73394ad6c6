"""Signals read from the looks at one target: its verdict, k of n, failures, silence, contradiction."""

from __future__ import annotations

from collections.abc import Iterable

from alerts.reading import Outcome, Reading, Unknown, unknown
from alerts.rule import (
    ConnectionFailuresRule,
    ContradictionRule,
    MachinesBelowMinRule,
    NoDataRule,
    SlowProbesRule,
    TargetStateRule,
)
from alerts.watch import Look, Watch
from checks.finding import State
from checks.reason import Reason
from checks.units import Duration
from checks.verdict import Verdict

_AHEAD_S = 5.0
_BELOW_MINIMUM = frozenset({Reason.FLY_BELOW_MINIMUM, Reason.FLY_NO_MACHINES})


def target_state(rule: TargetStateRule, watch: Watch, now_s: float, *, firing: bool = False) -> Reading:
    """The verdict is one of the rule's states; a verdict stands on the looks that confirmed it."""
    latest = watch.latest
    if latest is None or not watch.fresh(now_s):
        return stale(watch, now_s)
    if rule.at_least is not None and rule.out_of is not None:
        return _k_of_n(rule, rule.at_least, rule.out_of, watch)
    return judged(rule, watch.verdict, latest.at_s, [watch.verdict.reason], firing=firing)


def judged(
    rule: TargetStateRule, verdict: Verdict, at_s: float, reasons: Iterable[Reason], *, firing: bool
) -> Reading:
    """What the rule says of a verdict last looked at at `at_s`; one of `reasons` must be the rule's.

    What was degraded and is down now has not recovered.
    """
    bad = verdict.state in rule.states and any(_reason_matches(reason, rule.reasons) for reason in reasons)
    worse = firing and verdict.state is State.DOWN and State.DEGRADED in rule.states
    if bad or worse:
        hard = verdict.observation is not None and verdict.observation.finding.hard
        return Reading(
            outcome=Outcome.BAD, at_s=at_s, text=verdict.message, looks=2, hard=hard, threshold=None
        )
    if verdict.state is State.UNKNOWN:
        return unknown(Unknown.STALE, at_s, verdict.message)
    if verdict.state in (State.ASLEEP, State.STARTING):
        return unknown(Unknown.ASLEEP, at_s, verdict.message)
    return Reading(outcome=Outcome.GOOD, at_s=at_s, text=verdict.message, looks=2)


def _k_of_n(rule: TargetStateRule, at_least: int, out_of: int, watch: Watch) -> Reading:
    last = watch.looks.last(out_of)
    bad = sum(look.state in rule.states for look in last)
    at_s = last[-1].at_s
    text = f"{bad} of the last {len(last)} looks were {' or '.join(rule.states)}"
    if bad >= at_least:
        return Reading(outcome=Outcome.BAD, at_s=at_s, text=text, value=bad, threshold=at_least)
    if len(last) < at_least:
        return unknown(Unknown.INSUFFICIENT, at_s, text)
    return Reading(outcome=Outcome.GOOD, at_s=at_s, text=text, value=bad, threshold=at_least)


def _reason_matches(reason: Reason, patterns: tuple[str, ...]) -> bool:
    return not patterns or any(
        reason.value.startswith(pattern[:-1]) if pattern.endswith(".*") else reason.value == pattern
        for pattern in patterns
    )


def slow_probes(
    rule: SlowProbesRule, watch: Watch, now_s: float, *, firing: bool, since_s: float = 0.0
) -> Reading:
    """At least k of the last n scheduled looks were slow or failed; confirming looks do not count.

    Nor do those before `since_s`.
    """
    if not watch.fresh(now_s) or watch.latest is None:
        return stale(watch, now_s)
    known = [
        look
        for look in watch.looks
        if look.scheduled and look.state not in _SAYS_NOTHING and look.at_s >= since_s
    ]
    out_of = rule.recover_out_of if firing else rule.out_of
    last = known[-out_of:]
    if not last:
        return unknown(Unknown.ASLEEP, watch.latest.at_s, "no scheduled look yet")
    limit_s = float(rule.slower_than)
    slow = sum(_is_slow(look, limit_s) for look in last)
    needed = rule.recover_at_most + 1 if firing else rule.at_least
    bad = slow >= needed or (firing and len(last) < rule.recover_out_of and slow > 0)
    return Reading(
        outcome=Outcome.BAD if bad else Outcome.GOOD,
        at_s=last[-1].at_s,
        text=_slowness(last, limit_s, rule),
        value=slow,
        threshold=rule.at_least,
    )


def _slowness(last: list[Look], limit_s: float, rule: SlowProbesRule) -> str:
    failed = sum(look.state is State.DOWN for look in last)
    over = sum(look.state is not State.DOWN and _is_slow(look, limit_s) for look in last)
    slowest = max((look.latency_s or 0.0 for look in last), default=0.0)
    took = f"{over} of the last {len(last)} looks took over {rule.slower_than}, the slowest {slowest:.2f} s"
    if not failed:
        return took
    return f"{took}; {failed} failed" if over else f"{failed} of the last {len(last)} looks failed"


_SAYS_NOTHING = frozenset({State.UNKNOWN, State.ASLEEP, State.STARTING})


def _is_slow(look: Look, limit_s: float) -> bool:
    if look.state is State.DOWN:
        return True
    return not look.cold and look.latency_s is not None and look.latency_s > limit_s


def connection_failures(rule: ConnectionFailuresRule, watch: Watch, now_s: float, *, firing: bool) -> Reading:
    """Failed looks within the window, however short each failure was."""
    if watch.latest is None or not watch.fresh(now_s):
        return stale(watch, now_s)
    since_s = now_s - rule.over
    # After a step back of the wall clock, what lies ahead was before it.
    failed = sum(since_s < at_s <= now_s + _AHEAD_S for at_s in watch.failures)
    needed = max(1, rule.at_least // 2) if firing else rule.at_least
    text = f"{failed} failed connects in {rule.over}: {watch.verdict.message}"
    return Reading(
        outcome=Outcome.BAD if failed >= needed else Outcome.GOOD,
        at_s=watch.latest.at_s,
        text=text,
        value=failed,
        threshold=rule.at_least,
    )


def machines_below_min(rule: MachinesBelowMinRule, watch: Watch, now_s: float) -> Reading:
    """The platform's own list of machines says that fewer run than should."""
    del rule
    if watch.latest is None or not watch.fresh(now_s):
        return stale(watch, now_s)
    verdict = watch.verdict
    if verdict.state is State.UNKNOWN:
        return unknown(Unknown.STALE, watch.latest.at_s, verdict.message)
    bad = verdict.reason in _BELOW_MINIMUM and verdict.state is not State.ASLEEP
    return Reading(
        outcome=Outcome.BAD if bad else Outcome.GOOD, at_s=watch.latest.at_s, text=verdict.message, looks=2
    )


def no_data(
    rule: NoDataRule, known_at_s: float, now_s: float, *, interval_s: float, began_s: float
) -> Reading:
    """Nothing was known of a source for too long. `began_s` is when we began to listen to it."""
    limit_s = float(rule.stale_after) if rule.stale_after is not None else max(3 * interval_s, 60.0)
    age_s = now_s - max(known_at_s, began_s)
    if age_s >= limit_s:
        return Reading(
            outcome=Outcome.BAD,
            at_s=now_s,
            text=f"nothing known for {_span(age_s)}, which does not mean that it is down",
            value=age_s,
            threshold=limit_s,
        )
    if not known_at_s:
        return unknown(Unknown.STALE, began_s, "nothing seen yet")
    return Reading(outcome=Outcome.GOOD, at_s=known_at_s, text=f"last known {_span(age_s)} ago", value=age_s)


def contradiction(rule: ContradictionRule, watch: Watch, disputed: tuple[str, ...], now_s: float) -> Reading:
    """Two witnesses disagree: the finding says so itself, or one of its claims (`disputed`, in words)."""
    del rule
    if watch.latest is None or not watch.fresh(now_s):
        return stale(watch, now_s)
    at_s = watch.latest.at_s
    if watch.verdict.reason is Reason.CONTRADICTION:
        return Reading(outcome=Outcome.BAD, at_s=at_s, text=watch.verdict.message)
    if disputed:
        return Reading(outcome=Outcome.BAD, at_s=at_s, text="; ".join(disputed))
    return Reading(outcome=Outcome.GOOD, at_s=at_s, text="no witness disagrees")


def stale(watch: Watch, now_s: float) -> Reading:
    """Nothing is known now of a target: its last look is too old, or there was none."""
    if watch.latest is None:
        return unknown(Unknown.STALE, 0.0, "no look has finished yet")
    age_s = max(0.0, now_s - watch.latest.at_s)
    return unknown(Unknown.STALE, watch.latest.at_s, f"the last look is {_span(age_s)} old")


def _span(seconds: float) -> str:
    return str(Duration(round(seconds)))
