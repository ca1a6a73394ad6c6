"""Prometheus' own arithmetic in a hundred lines, so that the evaluator can be compared with promtool.

Source: promql/functions.go `extrapolatedRate` and promql/engine.go of Prometheus 2.42 (closed ranges).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from alerts.machine import Pace, Phase, Standing, step
from alerts.reading import Outcome, Reading

LOOKBACK_S = 300.0
Points = list[tuple[float, float | None]]  # None is a stale marker


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One series set, one alerting rule, and what promtool decided at each evaluation."""

    id: str
    about: str
    interval_s: float
    series: dict[str, str]
    expr: dict[str, Any]
    for_s: float = 0.0
    keep_s: float = 0.0
    steps: int = 0


def points(values: str, interval_s: float) -> Points:
    """promtool's series notation: numbers, `_`, `stale`, `a+bxn`, `axn`, `_xn`."""
    found: Points = []
    index = 0

    def put(value: float | None, *, missing: bool = False) -> None:
        nonlocal index
        if not missing:
            found.append((index * interval_s, value))
        index += 1

    for word in values.split():
        if word == "stale":
            put(None)
        elif word.startswith("_"):
            for _ in range(int(word[2:]) if "x" in word else 1):
                put(None, missing=True)
        elif "x" in word:
            start, _, times = word.partition("x")
            base, _, grow = start.partition("+")
            for number in range(int(times) + 1):
                put(float(base) + number * float(grow or 0))
        else:
            put(float(word))
    return found


def rate(series: Points, now_s: float, window_s: float) -> float | None:
    inside = [(at, v) for at, v in series if now_s - window_s <= at <= now_s and v is not None]
    if len(inside) < 2:
        return None
    first_at, first = inside[0]
    last_at, last = inside[-1]
    result = last - first
    previous = first
    for _, value in inside[1:]:
        if value < previous:
            result += previous
        previous = value
    to_start = first_at - (now_s - window_s)
    to_end = now_s - last_at
    sampled = last_at - first_at
    average = sampled / (len(inside) - 1)
    if result > 0 and first >= 0:
        to_zero = sampled * (first / result)
        to_start = min(to_start, to_zero)
    limit = average * 1.1
    extrapolated = sampled
    extrapolated += to_start if to_start < limit else average / 2
    extrapolated += to_end if to_end < limit else average / 2
    return result * (extrapolated / sampled / window_s)


def instant(series: Points, now_s: float) -> float | None:
    last: tuple[float, float | None] | None = None
    for point in series:
        if point[0] <= now_s:
            last = point
    if last is None or last[1] is None or now_s - last[0] > LOOKBACK_S:
        return None
    return last[1]


def values_over(series: Points, now_s: float, window_s: float) -> list[float]:
    return [v for at, v in series if now_s - window_s <= at <= now_s and v is not None]


def _ratio(expr: dict[str, Any], series: dict[str, Points], now_s: float, window_s: float) -> bool:
    bad, total = rate(series["e"], now_s, window_s), rate(series["t"], now_s, window_s)
    if bad is None or total is None:
        return False
    if total == 0:
        return bad > 0  # +Inf is over any limit, NaN over none.
    return bad / total > float(expr["above"])


def holds(expr: dict[str, Any], series: dict[str, Points], now_s: float) -> bool:
    """Whether the expression returns a sample at `now_s`."""
    match expr["kind"]:
        case "ratio":
            windows = [expr["over"]] + ([expr["and_over"]] if "and_over" in expr else [])
            if not all(_ratio(expr, series, now_s, window) for window in windows):
                return False
            if "min_total" in expr:
                total = rate(series["t"], now_s, expr["over"])
                return total is not None and total * expr["over"] >= float(expr["min_total"])
            return True
        case "above":
            value = instant(series["g"], now_s)
            return value is not None and value > float(expr["above"])
        case "below":
            value = instant(series["g"], now_s)
            return value is not None and value < float(expr["below"])
        case "count":
            inside = values_over(series["g"], now_s, expr["over"])
            return bool(inside) and sum(inside) >= expr["at_least"]
        case "increase":
            grown = rate(series["c"], now_s, expr["over"])
            return grown is not None and grown * expr["over"] > expr["above"]
        case "changes":
            inside = values_over(series["g"], now_s, expr["over"])
            changed = sum(a != b for a, b in pairwise(inside))
            return bool(inside) and changed >= expr["at_least"]
        case "mean":
            inside = values_over(series["g"], now_s, expr["over"])
            return bool(inside) and sum(inside) / len(inside) > expr["above"]
    raise AssertionError(expr["kind"])


def promql(case: Case) -> str:
    """The same expression for Prometheus."""
    expr = case.expr

    def name(metric: str) -> str:
        return f'{metric}{{case="{case.id}"}}'

    match expr["kind"]:
        case "ratio":
            windows = [expr["over"]] + ([expr["and_over"]] if "and_over" in expr else [])
            parts = [
                f"(sum(rate({name('e')}[{w}s])) / sum(rate({name('t')}[{w}s])) > {expr['above']})"
                for w in windows
            ]
            if "min_total" in expr:
                parts.append(f"(sum(increase({name('t')}[{expr['over']}s])) >= {expr['min_total']})")
            return " and ".join(parts)
        case "above":
            return f"{name('g')} > {expr['above']}"
        case "below":
            return f"{name('g')} < {expr['below']}"
        case "count":
            return f"sum_over_time({name('g')}[{expr['over']}s]) >= {expr['at_least']}"
        case "increase":
            return f"increase({name('c')}[{expr['over']}s]) > {expr['above']}"
        case "changes":
            return f"changes({name('g')}[{expr['over']}s]) >= {expr['at_least']}"
        case "mean":
            return f"avg_over_time({name('g')}[{expr['over']}s]) > {expr['above']}"
    raise AssertionError(expr["kind"])


_STATES = {
    Phase.OK: "inactive",
    Phase.PENDING: "pending",
    Phase.FIRING: "firing",
    Phase.RECOVERING: "firing",
}


def timeline(case: Case) -> list[list[Any]]:
    """(second, state) at each change, by our evaluator in parity mode."""
    series = {name: points(values, case.interval_s) for name, values in case.series.items()}
    pace = Pace(for_s=case.for_s, keep_firing_s=case.keep_s, interval_s=case.interval_s, parity=True)
    standing = Standing()
    changes: list[list[Any]] = []
    state = "inactive"
    for number in range(case.steps):
        now_s = number * case.interval_s
        bad = holds(case.expr, series, now_s)
        reading = Reading(outcome=Outcome.BAD if bad else Outcome.GOOD, at_s=now_s)
        standing, _ = step(standing, reading, pace, now_s)
        if _STATES[standing.phase] != state:
            state = _STATES[standing.phase]
            changes.append([now_s, state])
    return changes
