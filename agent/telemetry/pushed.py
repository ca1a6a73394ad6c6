"""Requests from the duration histograms that services push over OTLP, cumulative or delta.

Only the newest state of each series is kept: what a client sends cumulatively needs no log to be exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import Any, Final

from msgspec import Struct, field

from agent.telemetry.dialects import is_error
from agent.telemetry.red import (
    EXCLUDED_ROUTES,
    MAX_ROUTES,
    RequestTotals,
    RouteCounts,
    merge,
)
from agent.telemetry.schema import Scalar, scalar
from agent.telemetry.spans import UNMATCHED_ROUTE, owner_of

# Metric names and how many of their unit make a second.
_METRICS: Final = {"http.server.request.duration": 1.0, "http.server.duration": 1000.0}
_DELTA: Final = 1
_MAX_SOURCES: Final = 1000

Key = tuple[str, str]
Attributes = tuple[tuple[str, str], ...]


class _Source(Struct):
    """One pushing process: of each series when its counting began, and its counts."""

    restarts: int = 0
    series: dict[Attributes, tuple[int, RouteCounts]] = field(default_factory=dict)


class _Point(Struct, frozen=True):
    key: Key
    attributes: Attributes
    delta: bool
    started_ns: int
    counts: RouteCounts


class PushTally:
    """What one request body says of requests, held back until the body is safe on disk."""

    __slots__ = ("_table", "points", "services")

    def __init__(self, table: PushedRequests) -> None:
        self._table = table
        self.points: list[_Point] = []
        self.services: set[str] = set()

    def apply(self, at_s: float) -> None:  # noqa: ARG002  # as the other tallies
        """Take it over, now that it is kept."""
        for point in self.points:
            self._table.take(point)


class PushedRequests:
    """The newest counters of every pushing process."""

    def __init__(self, *, names: dict[str, str], envs: frozenset[str]) -> None:
        self._names = names
        self._envs = envs
        self._sources: dict[Key, _Source] = {}
        self._changed: set[Key] = set()

    def tally(self, resource_metrics: Iterable[Any]) -> PushTally:
        """The points of an ExportMetricsServiceRequest that count requests."""
        tally = PushTally(self)
        for resource in resource_metrics:
            said: dict[str, Scalar] = {pair.key: scalar(pair.value) for pair in resource.resource.attributes}
            owner = owner_of(said, self._names)
            if owner.env and owner.env not in self._envs:
                continue
            key = (owner.service, str(said.get("service.instance.id") or "")[:100])
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name in _METRICS and metric.WhichOneof("data") == "histogram":
                        delta = metric.histogram.aggregation_temporality == _DELTA
                        for point in metric.histogram.data_points:
                            found = _point(key, point, delta=delta, second=_METRICS[metric.name])
                            if found is not None:
                                tally.points.append(found)
        return tally

    def take(self, point: _Point) -> None:
        """Take over one point; a later start of a cumulative one is a restarted process."""
        source = self._sources.get(point.key)
        if source is None:
            if len(self._sources) >= _MAX_SOURCES:
                return
            source = self._sources[point.key] = _Source()
        started_ns, before = source.series.get(point.attributes, (point.started_ns, None))
        if before is None and len(source.series) >= MAX_ROUTES:
            return
        if point.delta and before is not None:
            source.series[point.attributes] = (started_ns, merge([before, point.counts]))
        else:
            if not point.delta and point.started_ns > started_ns:
                source.restarts += 1
                source.series.clear()
            source.series[point.attributes] = (point.started_ns, point.counts)
        self._changed.add(point.key)

    def drain(self, at_s: float) -> list[tuple[str, str, RequestTotals]]:
        """Service, source and counters of every process heard since the last call."""
        drained = []
        for service, instance in self._changed:
            source = self._sources[service, instance]
            routes: dict[str, list[RouteCounts]] = {}
            for attributes, (_, counts) in source.series.items():
                routes.setdefault(_route(attributes), []).append(counts)
            totals = RequestTotals(
                at_s=at_s,
                incarnation=f"pushed#{source.restarts}",
                routes={route: merge(counts) for route, counts in routes.items()},
            )
            drained.append((service, f"otlp:{instance}" if instance else "otlp:metrics", totals))
        self._changed.clear()
        return drained


def _point(key: Key, point: Any, *, delta: bool, second: float) -> _Point | None:
    attributes = tuple(
        sorted((pair.key.replace(".", "_"), str(scalar(pair.value))) for pair in point.attributes)
    )
    if _route(attributes) in EXCLUDED_ROUTES:
        return None
    running, buckets = 0, []
    edges = [*(round(bound / second, 9) for bound in point.explicit_bounds), inf]
    for edge, count in zip(edges, point.bucket_counts, strict=False):
        running += count
        buckets.append((edge, running))
    counts = RouteCounts(
        total=point.count,
        errors=point.count if is_error(dict(attributes)) else 0,
        buckets=tuple(buckets) if running == point.count else (),
    )
    return _Point(key, attributes, delta, point.start_time_unix_nano, counts)


def _route(attributes: Attributes) -> str:
    return dict(attributes).get("http_route") or UNMATCHED_ROUTE
