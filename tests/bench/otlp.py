"""OTLP intake: spans per second and core, acknowledged after fsync, counted, for small and large bodies."""

from __future__ import annotations

import asyncio
import gzip
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

_SECONDS = 2.0
_CONNECTIONS = 8
_WARM = 80
_ROUNDS = 10
_PROMISED = 150_000


def _body(spans: int) -> tuple[bytes, bytes]:
    """Spans as a web service sends them, ten attributes, one in three SERVER; and the first trace id."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    for key, value in (("service.name", "gateway"), ("deployment.environment.name", "production")):
        resource_spans.resource.attributes.add(key=key).value.string_value = value
    scope_spans = resource_spans.scope_spans.add()
    scope_spans.scope.name = "gateway"
    for number in range(spans):
        begin_ns = 1_700_000_000_000_000_000 + number
        span = scope_spans.spans.add(
            trace_id=os.urandom(16), span_id=os.urandom(8), parent_span_id=os.urandom(8),
            name="GET /api/v1/assets/{id}", kind=(2, 1, 3)[number % 3], start_time_unix_nano=begin_ns,
            end_time_unix_nano=begin_ns + random.randrange(10**6, 10**9),
        )  # fmt: skip
        for key, value in (
            ("http.request.method", "GET"), ("url.scheme", "https"), ("http.route", "/api/v1/assets/{id}"),
            ("server.address", "gaia-gateway.internal"), ("network.protocol.version", "1.1"),
            ("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64)"), ("client.address", "10.0.0.1"),
            ("url.path", f"/api/v1/assets/{number}"),
        ):  # fmt: skip
            span.attributes.add(key=key).value.string_value = value
        span.attributes.add(key="http.response.status_code").value.int_value = (
            500 if number % 50 == 0 else 200
        )
        span.attributes.add(key="server.port").value.int_value = 443
    return request.SerializeToString(), scope_spans.spans[0].trace_id


async def _intake(directory: str) -> None:
    """The child: an intake."""
    from agent.telemetry.intake import Intake
    from agent.telemetry.options import IntakeOptions
    from agent.telemetry.traffic import Traffic
    from checks.clock import SystemClock
    from checks.units import Size

    started = time.perf_counter()
    intake = Intake(
        IntakeOptions(listen="127.0.0.1:0", keep_free=Size(0)), directory=Path(directory), env="production",
        clock=SystemClock(), traffic=Traffic(env="production"), requests=lambda _: None,
        error_logs=lambda _: None,
    )  # fmt: skip
    task = asyncio.create_task(intake.run())
    await intake.opened.wait()
    open_ms = (time.perf_counter() - started) * 1000
    # Taken from the durable counts, to be compared with what was acknowledged.
    await _report(f"{intake.port} {open_ms:.0f}", lambda: sum(intake._parts()[1].received_items.values()))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _obvious(directory: str) -> None:
    """The child: what one would write first."""
    started = time.perf_counter()
    from aiohttp import web
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans = 0
    file = os.open(f"{directory}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def keep(body: bytes) -> None:
        os.write(file, body)
        os.fdatasync(file)

    async def handle(request: web.Request) -> web.Response:
        nonlocal spans
        body = await request.read()
        message = ExportTraceServiceRequest.FromString(body)
        await asyncio.to_thread(keep, body)
        spans += sum(len(scope.spans) for each in message.resource_spans for scope in each.scope_spans)
        return web.Response(content_type="application/x-protobuf")

    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v1/traces", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    open_ms = (time.perf_counter() - started) * 1000
    await _report(f"{runner.addresses[0][1]} {open_ms:.0f}", lambda: spans)
    await runner.cleanup()


async def _report(first: str, kept: Callable[[], int]) -> None:
    """Say `first`, then CPU time, memory and kept spans for each line read."""
    print(first, flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while await reader.readline():
        usage = resource.getrusage(resource.RUSAGE_SELF)
        pages = _resident_pages()
        print(usage.ru_utime + usage.ru_stime, pages * 4096 / 2**20, kept(), flush=True)


def _resident_pages() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1])


async def _write(port: int, requests: Sequence[bytes], until_s: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = 0
    while sent < len(requests) and time.perf_counter() < until_s:
        writer.write(requests[sent])
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        sent += 1
    writer.close()
    return sent


async def _load(port: int, bodies: Sequence[bytes], *, gzipped: bool) -> int:
    coding = "Content-Encoding: gzip\r\n" if gzipped else ""
    requests = [
        f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n{coding}"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
        for body in bodies
    ]
    end_s = time.perf_counter() + _SECONDS
    share = len(requests) // _CONNECTIONS
    shares = [requests[at * share : (at + 1) * share] for at in range(_CONNECTIONS)]
    return sum(await asyncio.gather(*(_write(port, part, end_s) for part in shares)))


def _measure(server: str, spans: int, *, gzipped: bool) -> float:
    """Print one line; spans per CPU second of the server."""
    plain, first = _body(spans)
    # Each body once: the same spans again would be recognised as a retry.
    bodies = [plain.replace(first, os.urandom(16)) for _ in range(2500 if spans > 100 else 12_000)]
    wire = [gzip.compress(body, 1) for body in bodies] if gzipped else bodies
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "tests.bench.otlp", server, directory]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            port, open_ms = _read(child)
            asyncio.run(_load(int(port), wire[:_WARM], gzipped=gzipped))
            before_s, _, kept_before = _ask(child)
            requests = asyncio.run(_load(int(port), wire[_WARM:], gzipped=gzipped))
            after_s, rss_mib, kept = _ask(child)
            assert child.stdin is not None
            child.stdin.close()
    cpu_s = after_s - before_s
    rate = (kept - kept_before) / cpu_s
    coding = "gzip" if gzipped else "    "
    print(
        f"{server:8} {len(plain) / 1000:4.0f} kB {coding} ({spans:3} spans): {cpu_s / requests * 1e6:6.0f} µs"
        f" CPU a request, {rate:9,.0f} spans/s per core, RSS {rss_mib:.1f} MiB, port open after {open_ms} ms"
    )
    return rate


def _read(child: subprocess.Popen[str]) -> list[str]:
    assert child.stdout is not None
    return child.stdout.readline().split()


def _ask(child: subprocess.Popen[str]) -> tuple[float, float, float]:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()
    cpu_s, rss_mib, kept = map(float, _read(child))
    return cpu_s, rss_mib, kept


def _parse_alone() -> float:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    body, _ = _body(216)
    started, rounds = time.process_time(), 500
    for _ in range(rounds):
        ExportTraceServiceRequest.FromString(body)
    return 216 * rounds / (time.process_time() - started)


def _where_the_time_goes() -> None:
    """CPU of each step of one 100 kB gzip body, alone and warm; the rest is sockets, HTTP and the sync."""
    from agent.telemetry import schema
    from agent.telemetry.inflate import inflate
    from agent.telemetry.record import Head, encode
    from agent.telemetry.series import SeriesTable
    from agent.telemetry.signals import Lane, Signal
    from agent.telemetry.spans import SpanCounter
    from agent.telemetry.trails import Trails

    spans = 216
    plain, _ = _body(spans)
    wire = gzip.compress(plain, 1)
    counter = SpanCounter(SeriesTable(), Trails(env="production"))
    slim = schema.parse_slim_traces(plain)
    tally = counter.tally(slim)
    head = Head(seq=1, received_ns=1, lane=Lane.TRACES, gzip=True, items=spans, oldest_ns=0, digest=bytes(16))
    steps: tuple[tuple[str, Callable[[], object]], ...] = (
        ("inflate", lambda: inflate(wire, max_bytes=1 << 26)),
        ("validate (full parse)", lambda: schema.parse(Signal.TRACES, plain)),
        ("parse for counting", lambda: schema.parse_slim_traces(plain)),
        ("tally", lambda: counter.tally(slim)),
        ("count", lambda: tally.apply(1.0)),
        ("checksum, header", lambda: encode(head, wire)),
    )
    told = []
    for name, step in steps:
        step()
        best_s = float("inf")
        for _ in range(_ROUNDS):
            started = time.process_time()
            for _ in range(20):
                step()
            best_s = min(best_s, (time.process_time() - started) / 20)
        told.append(f"{name} {best_s * 1e6:.0f}")
    print(f"where it goes, µs a body of {len(plain) / 1000:.0f} kB: {', '.join(told)}")


def main() -> None:
    """Promise (DESIGN §7): at least 150,000 spans/s per core with 100 kB gzip bodies, at most 64 MiB."""
    parse = _parse_alone()
    print(
        f"this machine, now: C protobuf parses {parse:,.0f} spans/s and does nothing else (1.6 M when quiet)"
    )
    for spans, gzipped in ((18, False), (18, True), (216, False), (216, True)):
        ours = _measure("intake", spans, gzipped=gzipped)
        obvious = _measure("obvious", spans, gzipped=gzipped)
        print(f"{'':8} {parse / ours:.1f} times the cost of the C parse alone, everything included")
        print(
            f"{'':8} {ours / obvious:.1f} times the obvious build (aiohttp, parse, fsync each, no counting)"
        )
    print(f"promised: {_PROMISED:,} spans/s per core: {'kept' if ours >= _PROMISED else 'MISSED'}")
    _where_the_time_goes()


if __name__ == "__main__":
    asyncio.run(_obvious(sys.argv[2]) if sys.argv[1] == "obvious" else _intake(sys.argv[2]))
