"""The agent's own looks and lines go the way of services' telemetry, and judge nobody."""

from __future__ import annotations

import asyncio
import io
import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from agent.board import Row
from agent.log import LogWriter
from agent.own_telemetry import OwnTelemetry, spans_of
from agent.prober import Look
from agent.telemetry.signals import Rejected, Signal
from checks.finding import Evidence, Finding, State
from checks.observation import Observation
from checks.reason import Reason
from checks.target import Kind, Target, TargetKey
from checks.trace import TraceIds
from checks.verdict import Verdict
from tests.agent.telemetry.backend import backend
from tests.agent.telemetry.otlp import Told, messages_of, running
from tests.agent.telemetry.test_forwarder import options_for
from tests.waiting import until

KEY = TargetKey(env="production", service="auth", check="http", vantage="agent")
TARGET = Target(key=KEY, kind=Kind.SERVICE, address="https://auth.example/health")


def look(*, state: State = State.UP, trace_id: str = "", at_s: float = 1_700_000_000.5) -> Look:
    finding = Finding(
        state=state,
        reason=Reason.OK if state is State.UP else Reason.STATUS,
        message="answers 503",
        latency_s=0.25,
        evidence=(Evidence(name="trace_id", value=trace_id),) if trace_id else (),
    )
    observation = Observation(target=TARGET, at_s=at_s, duration_s=0.25, finding=finding)
    row = Row(target=TARGET, interval_s=10, slower_than_s=2.0)
    return Look(row=row, observation=observation, before=Verdict(), verdict=Verdict(), lag_s=0.0, missed=0)


@contextmanager
def agent_log() -> Iterator[LogWriter]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    writer = LogWriter(level="DEBUG", secrets=("hunter2-secret",), stream=io.StringIO())
    try:
        yield writer
    finally:
        writer.stop()
        root.handlers[:], root.level = handlers, level


def test_a_look_s_span_has_the_ids_that_the_service_was_sent() -> None:
    trace_id, parent = TraceIds().draw()
    [group] = ExportTraceServiceRequest.FromString(
        spans_of([look(state=State.DOWN, trace_id=trace_id)])
    ).resource_spans
    [span] = group.scope_spans[0].spans
    assert (span.trace_id.hex(), span.span_id.hex()) == (trace_id, parent)
    assert (span.name, span.kind, span.status.code, span.status.message) == ("http auth", 3, 2, "answers 503")
    assert span.end_time_unix_nano - span.start_time_unix_nano == 250_000_000
    said = {pair.key: pair.value.string_value for pair in span.attributes}
    assert (said["gaia.state"], said["gaia.reason"], said["server.address"]) == (
        "down",
        "status",
        "https://auth.example/health",
    )
    resource = {pair.key: pair.value.string_value for pair in group.resource.attributes}
    assert resource == {"service.name": "gaia-agent", "deployment.environment.name": "production"}


def test_a_look_without_a_trace_gets_ids_that_are_valid() -> None:
    request = ExportTraceServiceRequest.FromString(spans_of([look(), look()]))
    spans = request.resource_spans[0].scope_spans[0].spans
    assert len({span.trace_id for span in spans}) == 2
    assert all(len(span.trace_id) == 16 and len(span.span_id) == 8 for span in spans)


@pytest.mark.parametrize(("share", "kept"), [(0.0, 0), (1e-12, 100), (1.0, 200)])
def test_of_the_looks_a_share_is_kept_and_all_that_failed(share: float, kept: int) -> None:
    async def keep(*_: Any) -> None:
        raise AssertionError("not yet")

    own = OwnTelemetry(share=share, lines=deque(), env="production", keep=keep)
    for _ in range(100):
        own.looked(look())
        own.looked(look(state=State.DOWN))
    assert len(own._looks) == kept


async def test_looks_and_lines_arrive_and_count_as_nobody_s_requests_or_errors(tmp_path: Path) -> None:
    told = Told()
    async with backend() as collector:
        async with running(tmp_path, options_for(collector), told) as intake:
            with agent_log() as writer:
                lines = writer.copy("WARNING")
                own = OwnTelemetry(share=1.0, lines=lines, env="production", keep=intake.reception.keep)
                task = asyncio.create_task(own.run())
                own.looked(look(state=State.DOWN))
                logging.getLogger("agent.x").info("not.wanted")
                logging.getLogger("agent.x").error("disk.failed", extra={"why": "hunter2-secret"})
                await until(lambda: collector.bodies("/v1/logs") and collector.bodies("/v1/traces"))
                task.cancel()
            assert intake.counting is not None
            assert intake.counting.requests.services() == ()
            assert intake._traffic.services() == ()
        assert messages_of(collector.bodies("/v1/logs")) == ["disk.failed"]
        assert b"hunter2" not in b"".join(collector.bodies("/v1/logs"))
        assert told.errors == []
        assert told.requests == []


async def test_what_cannot_be_kept_is_lost_without_another_line(tmp_path: Path) -> None:
    asked = 0

    async def keep(_signal: Signal, _body: bytes, _identity: bytes) -> None:
        nonlocal asked
        asked += 1
        raise Rejected(503, "not open") if asked % 2 else OSError("disk")

    with agent_log() as writer:
        lines = writer.copy("DEBUG")
        own = OwnTelemetry(share=1.0, lines=lines, env="production", keep=keep)
        task = asyncio.create_task(own.run())
        lines.append(b'{"event":"a"}')
        own.looked(look())
        await until(lambda: asked == 2)
        assert not lines
        assert not task.done()
        task.cancel()


def test_nothing_is_copied_until_it_is_asked_for() -> None:
    with agent_log() as writer:
        logging.getLogger("agent.x").critical("lost")
        writer._listener.stop()
        writer._listener.start()
        lines = writer.copy("ERROR")
        logging.getLogger("agent.x").error("kept")
        writer._listener.stop()
        writer._listener.start()
        assert [b'"kept"' in line for line in lines] == [True]
