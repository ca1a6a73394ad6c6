"""Telemetry as clients send it, and what they get back: used by the tests of this room."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from agent.telemetry.intake import Intake
from agent.telemetry.options import IntakeOptions
from agent.telemetry.traffic import Traffic
from alerts.requests import ErrorLog, RequestSample
from checks.clock import SystemClock
from checks.units import Size
from tests.waiting import until

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
START_NS = 1_700_000_000_000_000_123


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes


async def read_response(reader: asyncio.StreamReader) -> Response:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    body = await reader.readexactly(int(headers["content-length"]))
    return Response(int(head[0].split()[1]), headers, body)


async def send_raw(port: int, request: bytes) -> Response:
    """One connection, these very bytes, the first answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(10):
            return await read_response(reader)
    finally:
        writer.close()


async def post(
    port: int, path: str, body: bytes, *, method: str = "POST", headers: dict[str, str] | None = None
) -> Response:
    lines = {"Host": "x", "Content-Type": PROTOBUF, "Content-Length": str(len(body))} | (headers or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    return await send_raw(port, f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)


@dataclass(slots=True)
class Told:
    """What the rules were told."""

    requests: list[RequestSample] = field(default_factory=list)
    errors: list[ErrorLog] = field(default_factory=list)


@asynccontextmanager
async def running(
    directory: Path, options: IntakeOptions | None = None, told: Told | None = None
) -> AsyncIterator[Intake]:
    told = told or Told()
    intake = Intake(
        options or IntakeOptions(listen="127.0.0.1:0", keep_free=Size(0)),
        directory=directory,
        env="production",
        clock=SystemClock(),
        traffic=Traffic(env="production"),
        requests=told.requests.append,
        error_logs=told.errors.append,
    )
    task = asyncio.create_task(intake.run())
    try:
        await until(lambda: intake.opened.is_set() or task.done())
        if task.done():
            task.result()
        yield intake
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def traces(
    count: int = 1,
    *,
    service: str = "auth",
    status: int = 200,
    route: str = "/login",
    duration_s: float = 0.1,
) -> bytes:
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.add(key="service.name").value.string_value = service
    spans = resource_spans.scope_spans.add().spans
    for _ in range(count):
        span = spans.add(
            trace_id=os.urandom(16), span_id=os.urandom(8), name="GET", kind=2, start_time_unix_nano=START_NS,
            end_time_unix_nano=START_NS + int(duration_s * 1e9),
        )  # fmt: skip
        span.attributes.add(key="http.request.method").value.string_value = "GET"
        span.attributes.add(key="http.route").value.string_value = route
        span.attributes.add(key="http.response.status_code").value.int_value = status
    content: bytes = request.SerializeToString()
    return content


def logs(*messages: str, service: str = "auth", severity: int = 17, at_ns: int = START_NS) -> bytes:
    request = ExportLogsServiceRequest()
    resource_logs = request.resource_logs.add()
    resource_logs.resource.attributes.add(key="service.name").value.string_value = service
    scope_logs = resource_logs.scope_logs.add()
    scope_logs.scope.name = "app"
    for message in messages:
        record = scope_logs.log_records.add(time_unix_nano=at_ns, severity_number=severity)
        record.body.string_value = message
    content: bytes = request.SerializeToString()
    return content


def metrics(points: int = 1) -> bytes:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="m")
    for number in range(points):
        metric.gauge.data_points.add(as_double=number, time_unix_nano=START_NS)
    content: bytes = request.SerializeToString()
    return content


def messages_of(bodies: Iterable[bytes]) -> list[str]:
    """The texts of all log records in these requests, in order."""
    return [
        record.body.string_value
        for body in bodies
        for resource in ExportLogsServiceRequest.FromString(body).resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]
