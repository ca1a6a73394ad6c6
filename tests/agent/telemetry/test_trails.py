"""What is remembered of single requests, and what is shown of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from agent.telemetry import trails
from agent.telemetry.red import RedView, RouteRow
from agent.telemetry.series import SeriesKey
from agent.telemetry.trails import Kept, Trails
from agent.trace_path import facts, path_lines, path_of
from checks.finding import Evidence
from tests.agent.telemetry.otlp import logs, post, running, traces
from tests.agent.telemetry.test_counting import trace_of

TRACE = bytes(range(16))
KEY = SeriesKey(service="auth", env="", kind="server", method="POST", route="/login", status="503", error="")


def line(text: str, *, at_s: float = 1.0, level: str = "info") -> Kept:
    record = LogRecord()
    record.body.string_value = text
    record.attributes.add(key="status").value.int_value = 500
    return Kept(at_s=at_s, service="auth", level=level, record=record.SerializeToString())


def failed(memory: Trails, trace_id: bytes = TRACE, *, at_s: float = 2.0) -> None:
    memory.request(KEY, trace_id=trace_id, duration_s=0.5, at_s=at_s, failed=True)


def test_lines_before_and_after_the_failure_are_shown_in_order_and_redacted() -> None:
    memory = Trails(env="production")
    memory.line(TRACE, line("begin, password=hunter2"), error=False)
    failed(memory)
    memory.line(TRACE, line("rolled back", at_s=3.0, level="error"), error=True)
    trail = memory.trail(TRACE.hex().upper())
    assert trail is not None
    assert [one.text for one in trail.lines] == ["begin, password=*** status=500", "rolled back status=500"]
    assert [(one.service, one.status, one.env) for one in trail.requests] == [("auth", "503", "production")]


@pytest.mark.parametrize("name", ["", "xyz", "00" * 16, TRACE.hex()[:-1]])
def test_of_an_unknown_trace_nothing_is_said(name: str) -> None:
    assert Trails(env="production").trail(name) is None


def test_memory_is_bounded_and_what_failed_outlives_what_did_not() -> None:
    memory = Trails(env="production")
    failed(memory)
    for number in range(5000):
        memory.line(number.to_bytes(16, "big"), line("x"), error=False)
    for _ in range(100):
        memory.line(TRACE, line("again"), error=False)
    trail = memory.trail(TRACE.hex())
    assert trail is not None
    assert len(trail.lines) == trails._MAX_ENTRIES
    assert memory.trail((0).to_bytes(16, "big").hex()) is None
    assert memory.trail((4999).to_bytes(16, "big").hex()) is not None
    for number in range(1000):
        failed(memory, number.to_bytes(16, "little"))
    assert memory.trail(TRACE.hex()) is None
    assert len(memory._marked) == trails._MAX_MARKED


def test_each_service_s_newest_example_is_drained_once() -> None:
    memory = Trails(env="production")
    failed(memory, at_s=1.0)
    failed(memory, at_s=2.0)
    assert [one.at_s for one in memory.drain()] == [2.0]
    assert memory.drain() == ()


async def test_a_failed_request_is_followed_from_its_span_to_its_log_line(tmp_path: Path) -> None:
    body = traces(1, status=503)
    records = ExportLogsServiceRequest.FromString(logs("pool exhausted"))
    records.resource_logs[0].scope_logs[0].log_records[0].trace_id = trace_of(body)
    async with running(tmp_path) as intake:
        await post(intake.port, "/v1/logs", records.SerializeToString())
        await post(intake.port, "/v1/traces", body)
        assert intake.counting is not None
        trail = intake.counting.trails.trail(trace_of(body).hex())
    assert trail is not None
    assert [(one.route, one.status, one.failed) for one in trail.requests] == [("/login", "503", True)]
    assert [(one.level, one.text) for one in trail.lines] == [("error", "pool exhausted")]


def test_a_path_is_told_with_its_routes_numbers() -> None:
    memory = Trails(env="production")
    failed(memory)
    memory.line(TRACE, line("pool exhausted", at_s=1.5, level="error"), error=True)
    row = RouteRow(
        route="/login",
        requests_per_s=0.1,
        error_ratio=0.5,
        p95_s=0.25,
        slow_ratio=0.0,
        requests=30,
        errors=15,
    )
    view = RedView(
        service="auth", requests_per_s=0.1, error_ratio=0.5, p95_s=0.25, slow_ratio=0.0, window_s=300,
        routes=(row,),
    )  # fmt: skip
    trail = memory.trail(TRACE.hex())
    assert trail is not None
    path = path_of(trail, lambda env, service: view if (env, service) == ("production", "auth") else None)
    assert facts(path) == (
        Evidence(name="auth /login", value="30 requests in 5 min, 50 % failed, p95 0.25 s"),
        Evidence(name="log of auth", value="00:00:01 UTC ERROR pool exhausted status=500"),
    )
    assert path_lines(path) == [
        "    00:00:01 UTC  auth ERROR pool exhausted status=500",
        "    00:00:02 UTC  auth POST /login 503 after 500 ms",
        "    auth /login: 30 requests in 5 min, 50 % failed, p95 0.25 s",
    ]
