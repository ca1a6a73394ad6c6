"""Reading a service's /metrics: CPU of our tokenizer beside prometheus_client, same bodies, same answer."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from agent.telemetry.dialects import NAMES, RequestTable
from agent.telemetry.exposition_reader import ExpositionReader, slices

_EDGES = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2, 2.5, 5, 7.5, 10)
_ROUNDS = 5


def _body(routes: int, foreign: int) -> bytes:
    """A service's exposition: `routes` of requests and `foreign` series of other families."""
    registry = CollectorRegistry()
    Gauge("process_start_time_seconds", "Start.", registry=registry).set(1.7e9)
    durations = Histogram(
        "http_server_request_duration_seconds",
        "Requests.",
        ["http_request_method", "http_route", "http_response_status_code", "error_type"],
        buckets=_EDGES,
        registry=registry,
    )
    for number in range(routes):
        durations.labels(
            "GET", f"/api/v1/things/{number}/{{id}}", "200" if number % 9 else "503", ""
        ).observe(0.2)
    other = Counter("db_client_operations", "Other.", ["operation", "table"], registry=registry)
    for number in range(foreign):
        other.labels("SELECT", f"table_{number}").inc()
    return generate_latest(registry)


def _ours(reader: ExpositionReader, body: bytes) -> tuple[int, int]:
    table = RequestTable()
    for part in slices(body):
        table.add(reader.samples(part))
    routes = table.routes() or {}
    return sum(row.total for row in routes.values()), sum(row.errors for row in routes.values())


def _theirs(body: bytes) -> tuple[int, int]:
    total = errors = 0.0
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            if sample.name == "http_server_request_duration_seconds_count":
                total += sample.value
                errors += sample.value if sample.labels["http_response_status_code"][0] == "5" else 0
    return int(total), int(errors)


def _best_ms(read: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(_ROUNDS):
        started = time.process_time()
        read()
        best = min(best, time.process_time() - started)
    return best * 1000


def main() -> None:
    """No promise of DESIGN §7; what matters is that a scrape costs little beside a probe and never stalls."""
    for routes, foreign in ((5, 50), (50, 500), (500, 5000)):
        body = _body(routes, foreign)
        reader = ExpositionReader(NAMES)
        assert _ours(reader, body) == _theirs(body)
        first = _best_ms(lambda body=body: _ours(ExpositionReader(NAMES), body))  # type: ignore[misc]  # a default binds it
        again = _best_ms(lambda reader=reader, body=body: _ours(reader, body))  # type: ignore[misc]  # as above
        theirs = _best_ms(lambda body=body: _theirs(body))  # type: ignore[misc]  # as above
        lines = len(body.splitlines())
        print(
            f"{lines:6} lines, {routes} routes: {again:6.2f} ms a scrape ({first:.2f} the first), "
            f"prometheus_client {theirs:7.2f} ms: {theirs / again:.0f} times"
        )
