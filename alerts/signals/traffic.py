"""Signals read from real requests: error ratio, share of slow requests, burn rate of an objective.

Counts are compared as integers: `errors > 0.05 * total` in floats moved an edge by one sample.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import Final

from msgspec.structs import replace

from alerts.ledger import Counts, Ledger
from alerts.reading import Outcome, Reading, Unknown, unknown
from alerts.rule import BurnRateRule, ErrorRatioRule, NoDataRule, RatioRule, SlowRequestRatioRule
from alerts.signals import looks
from checks.units import Duration, Ratio

_WIDER_S: Final = (900.0, 1800.0)
_RECOVERY_SHARE: Final = 0.8
_STALE_AFTER_S: Final = 60.0
_RUN_DECIDES: Final = 3
_COVERAGE: Final = 0.5


def ratio(rule: RatioRule, ledger: Ledger, now_s: float, *, firing: bool, vouched: bool) -> Reading:
    """The share of bad requests against the rule's threshold; `vouched`: synthetic probes are good."""
    if not ledger.last_at_s or now_s - ledger.last_at_s > _STALE_AFTER_S:
        return unknown(Unknown.STALE, ledger.last_at_s, "no fresh counters from the service")
    edge = _edge(rule)
    windows = _Windows(rule, ledger, now_s)
    if windows.long.total == 0:
        return unknown(Unknown.NO_TRAFFIC, ledger.traffic_at_s, "no requests", vouched=vouched)
    if edge is not None and windows.long.slow is None:
        return unknown(Unknown.EVAL_ERROR, ledger.last_at_s, f"no histogram edge at {Duration(edge)}")
    if firing:
        return _recovery(rule, windows, ledger)
    return _trip(rule, windows, ledger, now_s)


class _Windows:
    """The long and the short window, widened together until there are enough requests."""

    __slots__ = ("long", "over_s", "short")

    def __init__(self, rule: RatioRule, ledger: Ledger, now_s: float) -> None:
        edge = _edge(rule)
        share = float(rule.and_over) / float(rule.over) if rule.and_over is not None else 1.0
        for over_s in (float(rule.over), *(wider for wider in _WIDER_S if wider > rule.over)):
            self.over_s = over_s
            self.long = ledger.counts(now_s, over_s, edge)
            if self.long.total >= rule.min_requests:
                break
        self.short = ledger.counts(now_s, self.over_s * share, edge) if share < 1 else self.long


def _trip(rule: RatioRule, windows: _Windows, ledger: Ledger, now_s: float) -> Reading:
    bad, total = _bad(rule, windows.long), windows.long.total
    text = _words(rule, bad, total, windows.over_s)
    value = bad / total
    threshold = float(rule.above)
    if total < rule.min_requests:
        run = ledger.failing_run(_edge(rule))
        recent = now_s - ledger.traffic_at_s <= rule.over
        if run >= _RUN_DECIDES and recent:
            text = f"the last {run} requests all {_verb(rule)}; {text}"
            return Reading(
                outcome=Outcome.BAD, at_s=ledger.traffic_at_s, text=text, value=value, threshold=threshold
            )
        return unknown(Unknown.INSUFFICIENT, ledger.traffic_at_s, f"too few requests to say: {text}")
    if not exceeds(bad, total, threshold):
        return Reading(
            outcome=Outcome.GOOD, at_s=ledger.traffic_at_s, text=text, value=value, threshold=threshold
        )
    if bad < rule.min_bad:
        return unknown(Unknown.INSUFFICIENT, ledger.traffic_at_s, f"too few to say: {text}")
    short_bad, short_total = _bad(rule, windows.short), windows.short.total
    if short_total == 0:
        return unknown(Unknown.INSUFFICIENT, ledger.traffic_at_s, f"no request lately: {text}")
    if rule.and_over is not None:
        text += f"; {_percent(short_bad, short_total)} in the last {_span(windows, rule)}"
    outcome = Outcome.BAD if exceeds(short_bad, short_total, threshold) else Outcome.GOOD
    return Reading(outcome=outcome, at_s=ledger.traffic_at_s, text=text, value=value, threshold=threshold)


def _recovery(rule: RatioRule, windows: _Windows, ledger: Ledger) -> Reading:
    short = windows.short
    if short.total == 0:
        return unknown(Unknown.INSUFFICIENT, ledger.traffic_at_s, "no request lately")
    bad = _bad(rule, short)
    limit = float(rule.recover_below) if rule.recover_below is not None else rule.above * _RECOVERY_SHARE
    good = below(bad, short.total, limit)
    window_s = windows.over_s * (float(rule.and_over) / float(rule.over) if rule.and_over is not None else 1)
    return Reading(
        outcome=Outcome.GOOD if good else Outcome.BAD,
        at_s=ledger.traffic_at_s,
        text=_words(rule, bad, short.total, window_s),
        value=bad / short.total,
        threshold=float(rule.above),
    )


def burn_rate(rule: BurnRateRule, ledger: Ledger, now_s: float, *, vouched: bool) -> Reading:
    """The error budget is spent faster than a window pair allows, over both of its windows."""
    if not ledger.last_at_s or now_s - ledger.last_at_s > _STALE_AFTER_S:
        return unknown(Unknown.STALE, ledger.last_at_s, "no fresh counters from the service")
    edge = float(rule.slower_than) if rule.slower_than is not None else None
    budget = 1 - float(rule.objective)
    enough = False
    text = ""
    for window in rule.windows:
        long = ledger.counts(now_s, float(window.long), edge)
        short = ledger.counts(now_s, float(window.short), edge)
        if long.total < rule.min_requests or long.covered_s < _COVERAGE * window.long or short.total == 0:
            continue
        enough = True
        limit = round(window.burn * budget, 9)
        bad = _spent(long, edge)
        burn = bad / long.total / budget
        text = (
            f"spends its {Ratio(round(budget, 9))} budget {burn:.1f} times too fast: "
            f"{_percent(bad, long.total)} = {bad} of {long.total} in {window.long}"
        )
        if exceeds(bad, long.total, limit) and exceeds(_spent(short, edge), short.total, limit):
            return Reading(
                outcome=Outcome.BAD, at_s=ledger.traffic_at_s, text=text, value=burn, threshold=window.burn
            )
    if enough:
        return Reading(outcome=Outcome.GOOD, at_s=ledger.traffic_at_s, text=text)
    if ledger.counts(now_s, float(rule.windows[-1].long), edge).total == 0:
        return unknown(Unknown.NO_TRAFFIC, ledger.traffic_at_s, "no requests", vouched=vouched)
    return unknown(Unknown.INSUFFICIENT, ledger.traffic_at_s, "too little history to say")


def edges(rule: object) -> tuple[float, ...]:
    """The histogram edges a rule needs."""
    if isinstance(rule, SlowRequestRatioRule | BurnRateRule) and rule.slower_than is not None:
        return (float(rule.slower_than),)
    return ()


@cache
def _fraction(limit: float) -> tuple[int, int]:
    exact = Fraction(str(round(limit, 9)))
    return exact.numerator, exact.denominator


def exceeds(bad: int, total: int, limit: float) -> bool:
    """`bad / total > limit`, in integers: exactly 5 % is not more than 5 %."""
    numerator, denominator = _fraction(limit)
    return bad * denominator > numerator * total


def below(bad: int, total: int, limit: float) -> bool:
    """`bad / total < limit`, in integers; none at all is below any limit."""
    numerator, denominator = _fraction(limit)
    return bad == 0 or bad * denominator < numerator * total


def _edge(rule: RatioRule) -> float | None:
    return None if isinstance(rule, ErrorRatioRule) else float(rule.slower_than)


def _bad(rule: RatioRule, counts: Counts) -> int:
    return counts.errors if isinstance(rule, ErrorRatioRule) else counts.slow or 0


def _spent(counts: Counts, edge: float | None) -> int:
    return counts.errors if edge is None else counts.slow or 0


def _verb(rule: RatioRule) -> str:
    return "failed" if isinstance(rule, ErrorRatioRule) else f"took over {rule.slower_than}"


def _words(rule: RatioRule, bad: int, total: int, window_s: float) -> str:
    noun = "failed" if isinstance(rule, ErrorRatioRule) else f"over {rule.slower_than}"
    return f"{_percent(bad, total)} {noun} = {bad} of {total} in {Duration(window_s)}"


def _percent(bad: int, total: int) -> str:
    share = 100 * bad / total if total else 0.0
    return f"{share:.1f} %" if share < 10 and share != round(share) else f"{share:.0f} %"


def _span(windows: _Windows, rule: RatioRule) -> Duration:
    assert rule.and_over is not None
    return Duration(windows.over_s * float(rule.and_over) / float(rule.over))


def counters(rule: NoDataRule, last_at_s: float, now_s: float, *, interval_s: float) -> Reading:
    """A service answers, but its request counters came to an end: nobody can say how its requests fare."""
    reading = looks.no_data(rule, last_at_s, now_s, interval_s=interval_s, began_s=last_at_s)
    if reading.outcome is not Outcome.BAD:
        return reading
    silent = Duration(round(reading.value or 0.0))
    text = (
        f"no request counters for {silent} though it answers: its errors and response times are not judged; "
        "see whether its metrics address answers"
    )
    return replace(reading, text=text)
