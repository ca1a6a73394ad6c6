"""The names under which servers expose their requests, and how each is summed into counters per route."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf, isfinite
from typing import Final

from msgspec import Struct

from agent.telemetry.exposition_reader import Series
from agent.telemetry.red import EXCLUDED_ROUTES, MAX_ROUTES, OVERFLOW_ROUTE, Buckets, RouteCounts

_STATUS: Final = ("http_response_status_code", "http_status_code", "status_code", "status", "code")
_ROUTE: Final = ("http_route", "route", "handler", "uri", "path", "endpoint")
_ERROR: Final = ("error_type", "error", "exception")
_NO_ERROR: Final = frozenset({"", "none", "None", "false"})
_START: Final = "process_start_time_seconds"


class Dialect(Struct, frozen=True, kw_only=True):
    """One convention: the duration histogram, its unit, and the request counter if that is separate."""

    histogram: str
    second: float = 1.0
    counter: str | None = None


# The first whose series are there is taken alone: two of them count the same requests.
DIALECTS: Final = (
    Dialect(histogram="http_server_request_duration_seconds"),
    Dialect(histogram="http_server_duration_milliseconds", second=1000.0),
    Dialect(histogram="http_server_requests_seconds"),
    Dialect(histogram="http_request_duration_seconds", counter="http_requests_total"),
)
NAMES: Final = frozenset(
    [_START]
    + [f"{dialect.histogram}{suffix}" for dialect in DIALECTS for suffix in ("_count", "_bucket")]
    + [dialect.counter for dialect in DIALECTS if dialect.counter]
)
# Lines that say a family is exposed, with or without samples yet.
ANNOUNCED: Final = tuple(
    f"# TYPE {name} ".encode()
    for dialect in DIALECTS
    for name in (dialect.histogram, (dialect.counter or "").removesuffix("_total"), dialect.counter)
    if name
)


class _Route(Struct):
    total: float = 0.0
    errors: float = 0.0
    buckets: dict[float, float] | None = None


class RequestTable:
    """Adds up the samples of one scrape."""

    def __init__(self) -> None:
        self._counts: list[dict[str, _Route]] = [{} for _ in DIALECTS]
        self._counters: list[dict[str, _Route]] = [{} for _ in DIALECTS]
        self.start_time: float | None = None

    def add(self, samples: Iterable[tuple[Series, float]]) -> None:
        """Take wanted samples in any order; those of excluded routes and of no finite value are left out."""
        for series, value in samples:
            if series.name == _START:
                self.start_time = value
            elif isfinite(value) and value >= 0:
                self._add(series, value)

    def _add(self, series: Series, value: float) -> None:
        labels = dict(series.labels)
        route = next((labels[key] for key in _ROUTE if labels.get(key)), "")
        if route in EXCLUDED_ROUTES:
            return
        for index, dialect in enumerate(DIALECTS):
            if series.name == dialect.counter:
                _count(_slot(self._counters[index], route), labels, value)
                return
            if series.name == f"{dialect.histogram}_count":
                _count(_slot(self._counts[index], route), labels, value)
                return
            if series.name == f"{dialect.histogram}_bucket":
                edge = _edge(labels.get("le", ""), dialect.second)
                slot = _slot(self._counts[index], route)
                if edge is not None:
                    slot.buckets = slot.buckets or {}
                    slot.buckets[edge] = slot.buckets.get(edge, 0.0) + value
                return

    def routes(self) -> dict[str, RouteCounts] | None:
        """Counters per route of the one convention the target speaks; None when it speaks none."""
        for counts, counters in zip(self._counts, self._counters, strict=True):
            if not counts and not counters:
                continue
            found = {}
            for route in {**counts, **counters}:
                durations = counts.get(route)
                requests = counters.get(route) or durations or _Route()
                found[route] = RouteCounts(
                    total=round(requests.total),
                    errors=round(requests.errors),
                    buckets=_buckets(durations.buckets) if durations and durations.buckets else (),
                )
            return found
        return None


def _slot(routes: dict[str, _Route], route: str) -> _Route:
    slot = routes.get(route)
    if slot is None:
        if len(routes) >= MAX_ROUTES:
            route = OVERFLOW_ROUTE
        slot = routes.setdefault(route, _Route())
    return slot


def _count(slot: _Route, labels: dict[str, str], value: float) -> None:
    slot.total += value
    if is_error(labels):
        slot.errors += value


def is_error(labels: dict[str, str]) -> bool:
    """A 5xx answer; without a status, one that carries an error type (an exception nobody made a 500 of)."""
    status = next((labels[key] for key in _STATUS if labels.get(key)), "")
    if status:
        return status[0] == "5" and len(status) == 3
    return any(labels.get(key, "") not in _NO_ERROR for key in _ERROR)


def _edge(text: str, second: float) -> float | None:
    try:
        edge = float(text)
    except ValueError:
        return None
    # Milliseconds such as 2000 must become exactly the 2.0 a threshold is compared with.
    return edge if edge == inf or second == 1.0 else round(edge / second, 9)


def _buckets(sums: dict[float, float]) -> Buckets:
    return tuple((edge, round(sums[edge])) for edge in sorted(sums))
