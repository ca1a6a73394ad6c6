"""The table of counted requests: one row per service, route, method, status and error, under a cap."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from math import inf
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from agent.telemetry.red import OVERFLOW_ROUTE, RouteCounts, merge

# semantic-conventions, http.server.request.duration, and 2 s: the strategy's threshold must be an edge.
EDGES: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.0, 2.5, 5.0, 7.5, 10.0)
MAX_SERIES: Final = 500
MAX_SERVICES: Final = 1000
_MAX_OFFENDERS: Final = 20


class SeriesKey(Struct, frozen=True):
    """What a row counts. `status` is the code as text, empty where the protocol has none."""

    service: str
    env: str
    kind: str
    method: str
    route: str
    status: str
    error: str


class RequestSeries:
    """One row. Counts are numbers of requests, sampling undone, and so may be fractions.

    `exemplars` has the newest request of each bucket: its duration, trace id and wall second.
    """

    __slots__ = ("buckets", "exemplars", "failed", "key", "sum_s", "total")

    def __init__(self, key: SeriesKey, *, failed: bool, edges: int) -> None:
        self.key = key
        self.failed = failed
        self.total = 0.0
        self.sum_s = 0.0
        self.buckets = [0.0] * (edges + 1)
        self.exemplars: dict[int, tuple[float, bytes, float]] = {}


class _Service(Struct):
    rows: dict[SeriesKey, RequestSeries]
    folded: float
    offenders: dict[str, int]


class SeriesTable:
    """Every row there is, per service at most `max_series`; beyond that a service's own overflow rows."""

    def __init__(self, *, edges: Iterable[float] = EDGES, max_series: int = MAX_SERIES) -> None:
        self.edges = tuple(sorted(set(edges)))
        self._max_series = max_series
        self._services: dict[str, _Service] = {}

    def row(self, key: SeriesKey, *, failed: bool) -> RequestSeries:
        """The row for `key`, or the overflow row of its service once the service has too many."""
        if key.service not in self._services and len(self._services) >= MAX_SERVICES:
            key = replace(key, service=OVERFLOW_ROUTE)
        service = self._services.setdefault(key.service, _Service({}, 0.0, {}))
        row = service.rows.get(key)
        if row is None:
            if len(service.rows) >= self._max_series:
                _blame(service, key.route)
                status = key.status[:1] + "xx" if key.status else ""
                key = SeriesKey(
                    key.service,
                    key.env,
                    key.kind,
                    "_OTHER",
                    OVERFLOW_ROUTE,
                    status,
                    "other" if failed else "",
                )
            row = service.rows.setdefault(key, RequestSeries(key, failed=failed, edges=len(self.edges)))
        return row

    def add(self, row: RequestSeries, duration_s: float, weight: float) -> int:
        """Count one request of `weight` (more than 1 when sampled); the index of its bucket."""
        row.total += weight
        row.sum_s += duration_s * weight
        bucket = bisect_left(self.edges, duration_s)
        row.buckets[bucket] += weight
        if row.key.route == OVERFLOW_ROUTE:
            self._services[row.key.service].folded += weight
        return bucket

    def rows(self) -> Iterator[RequestSeries]:
        """Every row that counted anything, service by service."""
        for service in self._services.values():
            yield from (row for row in service.rows.values() if row.total)

    def services(self) -> tuple[str, ...]:
        """Every service that was ever counted."""
        return tuple(self._services)

    def routes(self, service: str, *, envs: frozenset[str]) -> dict[str, RouteCounts]:
        """A service's counters per route, of rows whose environment is in `envs` or was not said."""
        parts: dict[str, list[RouteCounts]] = {}
        state = self._services.get(service)
        for row in state.rows.values() if state else ():
            if row.total and (not row.key.env or row.key.env in envs):
                parts.setdefault(row.key.route, []).append(self._counts(row))
        return {route: merge(counts) for route, counts in parts.items()}

    def folded(self, service: str) -> tuple[float, tuple[str, ...]]:
        """How many requests went to a service's overflow row, and the routes that caused it."""
        state = self._services.get(service)
        if state is None:
            return 0.0, ()
        worst = sorted(state.offenders, key=lambda route: -state.offenders[route])
        return state.folded, tuple(worst)

    def _counts(self, row: RequestSeries) -> RouteCounts:
        running, buckets = 0.0, []
        for edge, count in zip((*self.edges, inf), row.buckets, strict=True):
            running += count
            buckets.append((edge, round(running)))
        total = round(row.total)
        return RouteCounts(total=total, errors=total if row.failed else 0, buckets=tuple(buckets))

    def dump(self) -> list[tuple[tuple[str, ...], bool, float, float, list[float]]]:
        """Plain rows for a checkpoint."""
        return [
            (
                (row.key.service, row.key.env, row.key.kind, row.key.method, row.key.route, row.key.status,
                 row.key.error),
                row.failed, row.total, row.sum_s, row.buckets,
            )
            for row in self.rows()
        ]  # fmt: skip

    def load(self, rows: Iterable[tuple[tuple[str, ...], bool, float, float, list[float]]]) -> None:
        """Add a checkpoint's rows. Rows of another bucket layout lose only their durations."""
        for key, failed, total, sum_s, buckets in rows:
            row = self.row(SeriesKey(*key), failed=failed)
            row.total += total
            row.sum_s += sum_s
            if len(buckets) == len(row.buckets):
                row.buckets = [mine + theirs for mine, theirs in zip(row.buckets, buckets, strict=True)]


def _blame(service: _Service, route: str) -> None:
    if route in service.offenders or len(service.offenders) < _MAX_OFFENDERS:
        service.offenders[route] = service.offenders.get(route, 0) + 1
