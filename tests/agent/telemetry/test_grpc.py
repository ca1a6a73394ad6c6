"""OTLP over gRPC, with the SDK's own exporters and with bare calls."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]  # ships no types
import pytest
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]  # ships no types
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # ships no types
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind

from agent.telemetry import grpc_server
from agent.telemetry.grpc_server import GrpcMissingError, GrpcServer, require_grpc
from agent.telemetry.intake import Intake
from agent.telemetry.options import IntakeOptions
from agent.telemetry.signals import Rejected, Signal
from checks.secret import Secret
from checks.units import Size
from tests.agent.telemetry.otlp import logs, metrics, post, running, traces

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
METHODS = {
    Signal.TRACES: TRACES,
    Signal.METRICS: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    Signal.LOGS: "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
LIMIT = 100_000


def options(**more: Any) -> IntakeOptions:
    return IntakeOptions(
        listen="127.0.0.1:0", grpc_listen="127.0.0.1:0", keep_free=Size(0), request=Size(LIMIT), **more
    )


@asynccontextmanager
async def channel(port: int) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened


async def call(port: int, body: bytes, *, method: str = TRACES, **more: Any) -> bytes:
    async with channel(port) as opened:
        answer: bytes = await opened.unary_unary(method)(body, timeout=10, **more)
        return answer


async def refused(port: int, body: bytes, **more: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(port, body, **more)
    return caught.value


def retry_info(error: grpc.aio.AioRpcError) -> RetryInfo | None:
    """The RetryInfo of a refusal, as clients look for it; None when it must not be sent again."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = Status.FromString(value)
            assert status.code == error.code().value[0]
            for detail in status.details:
                info = RetryInfo()
                if detail.Unpack(info):
                    return info
    return None


def unlimited(_client: str, *, size: int = 0) -> None:
    """Nobody is told to wait."""


def received(intake: Intake) -> dict[Signal, int]:
    return dict(intake._parts()[1].received_items)


async def test_each_signal_is_kept_and_answered_with_an_empty_response(tmp_path: Path) -> None:
    async with running(tmp_path, options()) as intake:
        bodies = {Signal.TRACES: traces(2), Signal.METRICS: metrics(3), Signal.LOGS: logs("a", "b", "c", "d")}
        for signal, body in bodies.items():
            assert await call(intake.grpc_port, body, method=METHODS[signal]) == b""
        assert received(intake) == {Signal.TRACES: 2, Signal.METRICS: 3, Signal.LOGS: 4}


async def test_gzip_is_understood_and_both_doors_count_into_one_table(tmp_path: Path) -> None:
    async with running(tmp_path, options()) as intake:
        await call(intake.grpc_port, traces(3), compression=grpc.Compression.Gzip)
        assert (await post(intake.port, "/v1/traces", traces(4))).status == 200
        routes = intake._parts()[1].requests.routes("auth", envs=frozenset())
        assert routes["/login"].total == 7


async def test_the_sdk_s_exporter_delivers(tmp_path: Path) -> None:
    async with running(tmp_path, options(token=Secret("s3cret"))) as intake:
        exporter = OTLPSpanExporter(
            endpoint=f"127.0.0.1:{intake.grpc_port}",
            insecure=True,
            headers={"authorization": "Bearer s3cret"},
            compression=grpc.Compression.Gzip,
        )
        provider = TracerProvider(resource=Resource.create({"service.name": "chat"}))
        provider.add_span_processor(SimpleSpanProcessor(exporter))

        def work() -> None:
            tracer = provider.get_tracer("t")
            for status in (200, 503):
                with tracer.start_as_current_span("GET /rooms", kind=SpanKind.SERVER) as span:
                    span.set_attribute("http.request.method", "GET")
                    span.set_attribute("http.route", "/rooms")
                    span.set_attribute("http.response.status_code", status)
            provider.shutdown()

        await asyncio.to_thread(work)
        row = intake._parts()[1].requests.routes("chat", envs=frozenset())["/rooms"]
        assert (row.total, row.errors) == (2, 1)


async def test_invalid_spans_are_rejected_alone(tmp_path: Path) -> None:
    message = ExportTraceServiceRequest.FromString(traces(3))
    message.resource_spans[0].scope_spans[0].spans[1].span_id = b""
    async with running(tmp_path, options()) as intake:
        answer = ExportTraceServiceResponse.FromString(
            await call(intake.grpc_port, message.SerializeToString())
        )
        assert answer.partial_success.rejected_spans == 1
        assert received(intake)[Signal.TRACES] == 2


async def test_bad_data_is_invalid_argument_and_never_to_be_sent_again(tmp_path: Path) -> None:
    async with running(tmp_path, options()) as intake:
        error = await refused(intake.grpc_port, b"\xff\xff\xff")
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert retry_info(error) is None
        assert await call(intake.grpc_port, b"") == b""


async def test_a_body_beyond_the_limit_is_refused_for_good_compressed_or_not(tmp_path: Path) -> None:
    body = traces(2000)
    assert len(body) > LIMIT
    async with running(tmp_path, options()) as intake:
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            error = await refused(intake.grpc_port, body, compression=compression)
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert retry_info(error) is None
        assert received(intake)[Signal.TRACES] == 0


@pytest.mark.parametrize("given", ["", "Bearer wrong", "s3cret "])
async def test_without_the_token_nothing_is_taken(tmp_path: Path, given: str) -> None:
    async with running(tmp_path, options(token=Secret("s3cret"))) as intake:
        metadata = (("authorization", given),) if given else ()
        error = await refused(intake.grpc_port, traces(1), metadata=metadata)
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert retry_info(error) is None


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (OSError("disk"), grpc.StatusCode.UNAVAILABLE),
        (ValueError("a defect"), grpc.StatusCode.UNAVAILABLE),
        (Rejected(503, "not yet", retry_after_s=1), grpc.StatusCode.UNAVAILABLE),
        (Rejected(429, "slower", retry_after_s=2), grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
    ids=["disk", "defect", "busy", "throttled"],
)
async def test_what_may_be_sent_again_carries_a_short_retry_info(
    failure: Exception, code: grpc.StatusCode
) -> None:
    async def fail(_signal: Signal, _body: bytes) -> int:
        raise failure

    server = GrpcServer(fail, limit=unlimited, token=None, request_bytes=LIMIT, in_flight_bytes=LIMIT)
    port = await server.open("127.0.0.1:0")
    try:
        error = await refused(port, traces(1))
    finally:
        await server.close()
    assert error.code() is code
    info = retry_info(error)
    assert info is not None
    assert 1 <= info.retry_delay.seconds <= 2


async def test_more_in_flight_than_the_budget_is_unavailable_for_a_moment() -> None:
    entered, release = asyncio.Event(), asyncio.Event()

    async def hold(_signal: Signal, _body: bytes) -> int:
        entered.set()
        await release.wait()
        return 0

    server = GrpcServer(hold, limit=unlimited, token=None, request_bytes=LIMIT, in_flight_bytes=100)
    port = await server.open("127.0.0.1:0")
    try:
        first = asyncio.create_task(call(port, traces(5)))
        await entered.wait()
        error = await refused(port, traces(5))
        release.set()
        assert await first == b""
    finally:
        await server.close()
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert retry_info(error) is not None


async def test_a_client_beyond_its_limit_is_told_to_wait_a_moment(tmp_path: Path) -> None:
    async with running(tmp_path, options(per_client=Size(1000))) as intake:
        await call(intake.grpc_port, traces(100))
        error = await refused(intake.grpc_port, traces(1))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        info = retry_info(error)
        assert info is not None
        assert info.retry_delay.seconds == 2


async def test_an_unknown_method_is_unimplemented(tmp_path: Path) -> None:
    async with running(tmp_path, options()) as intake:
        error = await refused(intake.grpc_port, b"", method="/opentelemetry.proto.X/Export")
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_without_the_extra_the_start_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_server, "find_spec", lambda _name: None)
    with pytest.raises(GrpcMissingError, match=r"pip install 'gaia-agent\[grpc\]'"):
        require_grpc()
    with pytest.raises(GrpcMissingError):
        async with running(tmp_path, options()):
            pass


async def test_nothing_of_grpc_is_imported_until_it_is_configured(tmp_path: Path) -> None:
    program = (
        "import sys, agent.assembly, agent.telemetry.intake, agent.telemetry.grpc_server;"
        "print([name for name in sys.modules if name.partition('.')[0] == 'grpc'])"
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    out, _ = await child.communicate()
    assert out == b"[]\n"
