"""Rate, errors, duration of one service over a window, from cumulative counters. Pure: no clock, no I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from math import inf
from typing import Final

from msgspec import Struct

# Answers to probes and scrapes are not the users' traffic.
EXCLUDED_ROUTES: Final = frozenset({"/health", "/healthz", "/livez", "/readyz", "/startupz", "/metrics"})
OVERFLOW_ROUTE: Final = "__overflow__"
MAX_ROUTES: Final = 500

Buckets = tuple[tuple[float, int], ...]


class RouteCounts(Struct, frozen=True, kw_only=True):
    """Cumulative counters of one route: requests, 5xx answers, and requests per upper bound in seconds.

    `buckets` are cumulative and end with +Inf when durations are known at all.
    """

    total: int
    errors: int
    buckets: Buckets = ()


class RequestTotals(Struct, frozen=True, kw_only=True):
    """Every route's counters as one source showed them at wall second `at_s`.

    `incarnation` changes when the source began to count anew; `born_s` is when it did, where that is known.
    """

    at_s: float
    incarnation: str
    routes: Mapping[str, RouteCounts]
    born_s: float | None = None


class RouteRow(Struct, frozen=True, kw_only=True):
    """One route over the window. None means not measured."""

    route: str
    requests_per_s: float
    error_ratio: float | None
    p95_s: float | None
    slow_ratio: float | None
    requests: int
    errors: int


class RedView(Struct, frozen=True, kw_only=True):
    """One service over the last `window_s` seconds (fewer when less is known). None means not measured.

    `routes` are the busiest first. `slow_ratio` is the share slower than the service's threshold, known only
    where the threshold is a bucket edge: no interpolation.
    """

    service: str
    requests_per_s: float | None
    error_ratio: float | None
    p95_s: float | None
    slow_ratio: float | None
    window_s: float
    requests: int = 0
    errors: int = 0
    routes: tuple[RouteRow, ...] = ()


class _Step(Struct, frozen=True):
    since_s: float
    at_s: float
    deltas: Mapping[str, RouteCounts]


class RedWindow:
    """Increments of all sources of one service, kept for `keep_s` seconds."""

    def __init__(
        self, service: str, *, slower_than_s: float = 2.0, keep_s: float = 300.0, step_s: float = 10.0
    ) -> None:
        self._service = service
        self._slower_than_s = slower_than_s
        self._keep_s = keep_s
        self._step_s = step_s
        self._last: dict[str, RequestTotals] = {}
        self._steps: dict[str, deque[_Step]] = {}

    def add(self, source: str, totals: RequestTotals) -> None:
        """Take one source's next counters; older than the last ones are ignored.

        A source's first counters are only a baseline; a route born later or a new incarnation counts from 0.
        """
        last = self._last.get(source)
        if last is not None and totals.at_s <= last.at_s:
            return
        self._last[source] = totals
        steps = self._steps.setdefault(source, deque())
        if last is not None:
            step = _Step(last.at_s, totals.at_s, _increments(last, totals))
            if steps and totals.at_s - steps[-1].since_s <= self._step_s:
                # A stream that reports each second would fill the window with steps too fine to be seen.
                step = _joined(steps.pop(), step)
            steps.append(step)
        while steps and steps[0].at_s <= totals.at_s - self._keep_s:
            steps.popleft()

    def forget(self, source: str) -> None:
        """Drop a source that is gone, its window with it."""
        self._last.pop(source, None)
        self._steps.pop(source, None)

    def view(self, *, now_s: float, window_s: float = 300.0) -> RedView:
        """What is known of (now - window, now]."""
        start_s = now_s - window_s
        counts: list[Mapping[str, RouteCounts]] = []
        since_s = inf
        for steps in self._steps.values():
            inside = [step for step in steps if start_s < step.at_s <= now_s]
            counts.extend(step.deltas for step in inside)
            if inside:
                since_s = min(since_s, inside[0].since_s)
        if not counts:
            return RedView(
                service=self._service, requests_per_s=None, error_ratio=None,
                p95_s=None, slow_ratio=None, window_s=window_s,
            )  # fmt: skip
        covered_s = max(now_s - max(since_s, start_s), 1e-9)
        by_route: dict[str, list[RouteCounts]] = {}
        for deltas in counts:
            for route, delta in deltas.items():
                by_route.setdefault(route, []).append(delta)
        merged = {route: merge(deltas) for route, deltas in by_route.items()}
        rows = [self._row(route, sums, covered_s) for route, sums in merged.items() if sums.total]
        rows.sort(key=lambda row: (-row.requests, row.route))
        whole = self._row("", merge(merged.values()), covered_s)
        return RedView(
            service=self._service,
            requests_per_s=whole.requests_per_s,
            error_ratio=whole.error_ratio,
            p95_s=whole.p95_s,
            slow_ratio=whole.slow_ratio,
            window_s=covered_s,
            requests=whole.requests,
            errors=whole.errors,
            routes=tuple(rows),
        )

    def _row(self, route: str, sums: RouteCounts, covered_s: float) -> RouteRow:
        return RouteRow(
            route=route,
            requests_per_s=sums.total / covered_s,
            error_ratio=sums.errors / sums.total if sums.total else None,
            p95_s=quantile(sums.buckets, 0.95),
            slow_ratio=slow_ratio(sums.buckets, self._slower_than_s),
            requests=sums.total,
            errors=sums.errors,
        )


def merge(counts: Iterable[RouteCounts]) -> RouteCounts:
    """The sum; of different bucket layouts only the edges common to all, which stay exact."""
    total = errors = 0
    sums: dict[float, int] | None = None
    for item in counts:
        total += item.total
        errors += item.errors
        if not item.buckets:
            continue
        if sums is None:
            sums = dict(item.buckets)
            continue
        mine = dict(item.buckets)
        sums = {edge: sums[edge] + mine[edge] for edge in sums if edge in mine}
    return RouteCounts(total=total, errors=errors, buckets=tuple(sorted(sums.items())) if sums else ())


def quantile(buckets: Buckets, share: float) -> float | None:
    """Seconds below which `share` of the requests stayed, interpolated as Prometheus does."""
    if len(buckets) < 2 or buckets[-1][1] <= 0:
        return None
    rank = share * buckets[-1][1]
    below_edge, below = 0.0, 0
    for edge, count in buckets:
        if count >= rank:
            if edge == inf:
                return below_edge
            return below_edge + (edge - below_edge) * (rank - below) / (count - below)
        below_edge, below = edge, count
    return None


def slow_ratio(buckets: Buckets, slower_than_s: float) -> float | None:
    """The share above `slower_than_s`; None when that is no bucket edge or nothing was measured."""
    if not buckets or buckets[-1][1] <= 0:
        return None
    for edge, count in buckets:
        if edge == slower_than_s:
            return 1.0 - count / buckets[-1][1]
    return None


def _joined(earlier: _Step, later: _Step) -> _Step:
    deltas = dict(earlier.deltas)
    for route, delta in later.deltas.items():
        deltas[route] = merge([deltas[route], delta]) if route in deltas else delta
    return _Step(earlier.since_s, later.at_s, deltas)


def _increments(last: RequestTotals, now: RequestTotals) -> dict[str, RouteCounts]:
    deltas: dict[str, RouteCounts] = {}
    same = last.incarnation == now.incarnation
    for route, counts in now.routes.items():
        before = last.routes.get(route) if same else None
        if before is None or counts.total < before.total or counts.errors < before.errors:
            if counts.total:
                deltas[route] = counts
            continue
        if counts.total == before.total:
            continue
        known = dict(before.buckets)
        deltas[route] = RouteCounts(
            total=counts.total - before.total,
            errors=counts.errors - before.errors,
            buckets=tuple((edge, max(0, count - known.get(edge, 0))) for edge, count in counts.buckets),
        )
    return deltas
