"""What instrumentation adds to a request: ours beside OpenTelemetry's SDK."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack

import psutil
from aiohttp import web
from aiohttp.typedefs import Middleware

from tests.services.raw_load import cpu_per_request_s, cpu_s, request_bytes

_ROUNDS = 40
_REQUESTS = 400
_IDLE_S = 3.0
_MODES = {
    "bare": "aiohttp alone",
    "metrics": "ours: metrics and trace ids",
    "access": "ours: the same and an access line",
    "health": "ours: the same and three dependencies",
    "traced": "ours: the same, every request traced",
    "otel-metrics": "OpenTelemetry SDK: metrics",
    "otel": "OpenTelemetry SDK: metrics and spans",
}


def serve(mode: str) -> None:
    """One application in this process; prints its port."""
    asyncio.run(_serve(mode))


async def _serve(mode: str) -> None:
    app = web.Application()

    async def item(request: web.Request) -> web.Response:
        return web.Response(text=request.match_info["name"])

    app.router.add_get("/items/{name}", item)
    if mode.startswith("otel"):
        app.middlewares.append(_opentelemetry(traces=mode == "otel"))
    elif mode != "bare":
        _attach(app, mode)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


def _attach(app: web.Application, mode: str) -> None:
    from services.instrumentation.health import Criticality, Dependency, Reading, Status
    from services.instrumentation.kit import Instrumentation
    from services.instrumentation.logs import LineWriter
    from services.instrumentation.redaction import Redactor
    from services.instrumentation.settings import Settings
    from services.instrumentation.tracing import Exporter, Span

    class Discard:
        def export(self, span: Span) -> None: ...

        def close(self, timeout_s: float) -> None: ...

    async def well() -> Reading:
        return Reading(status=Status.PASS)

    environ = {"API_KEY": "bench-api-key", "LOG_LEVEL": "WARNING", "OTEL_TRACES_SAMPLER_ARG": "0"}
    if mode == "traced":
        environ["OTEL_TRACES_SAMPLER_ARG"] = "1"
    exporter: Exporter | None = Discard() if mode == "traced" else None
    access = None
    if mode != "metrics":
        access = LineWriter(Redactor.from_environment(environ), os.open(os.devnull, os.O_WRONLY))
    settings = Settings.from_environment("bench", {**environ, "HEALTH_CHECK_INTERVAL": "1s"})
    kit = Instrumentation(settings, access=access, exporter=exporter)
    if mode in {"health", "traced"}:
        for name in ("postgresql", "nats", "storage"):
            kit.depends_on(
                Dependency(
                    name=f"{name}:responseTime",
                    component_type="datastore",
                    criticality=Criticality.REQUIRED,
                    probe=well,
                )
            )
    kit.attach(app)


def _opentelemetry(*, traces: bool) -> Middleware:
    """What contrib's instrumentation records for each request, written straight on the SDK."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    class Discard(SpanExporter):
        def export(self, _spans: object) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    meter = MeterProvider([InMemoryMetricReader()]).get_meter("bench")
    duration = meter.create_histogram("http.server.request.duration", "s")
    active = meter.create_up_down_counter("http.server.active_requests")
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Discard()))
    tracer = provider.get_tracer("bench")
    propagator = TraceContextTextMapPropagator()

    @web.middleware
    async def middleware(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        resource = request.match_info.route.resource
        shared = {"http.request.method": request.method, "url.scheme": request.scheme}
        active.add(1, shared)
        start = time.perf_counter()
        try:
            if not traces:
                response = await handler(request)
            else:
                with tracer.start_as_current_span(
                    f"{request.method} {resource.canonical if resource else ''}",
                    context=propagator.extract(request.headers),
                    kind=SpanKind.SERVER,
                    attributes={
                        **shared, "url.path": request.path, "server.address": request.host,
                        "client.address": request.remote or "", "network.protocol.version": "1.1",
                    },
                ) as span:  # fmt: skip
                    response = await handler(request)
                    span.set_attribute("http.response.status_code", response.status)
                    span.set_attribute("http.route", resource.canonical if resource else "")
        finally:
            active.add(-1, shared)
        route = resource.canonical if resource else ""
        duration.record(
            time.perf_counter() - start,
            {**shared, "http.route": route, "http.response.status_code": response.status},
        )
        return response

    return middleware


def main() -> None:
    """Microseconds of processor time each request costs more than in a bare application."""
    with ExitStack() as stack:
        servers = {}
        for mode in _MODES:
            child = subprocess.Popen(
                [sys.executable, "-c", f"from tests.bench.instrumentation import serve; serve({mode!r})"],
                stdout=subprocess.PIPE,
            )
            stack.callback(child.wait)
            stack.callback(child.kill)
            assert child.stdout is not None
            servers[mode] = (int(child.stdout.readline()), child.pid)
        request = request_bytes("/items/tea")
        taken: dict[str, list[float]] = {mode: [] for mode in _MODES}
        for _ in range(_ROUNDS):
            for mode, (port, pid) in servers.items():
                taken[mode].append(cpu_per_request_s(port, [pid], request, count=_REQUESTS) * 1e6)
        bare = statistics.median(taken["bare"])
        for mode, (_, pid) in servers.items():
            spent = statistics.median(taken[mode])
            # Rounds are paired: the machine's mood hits both sides of a difference.
            added = statistics.median(a - b for a, b in zip(taken[mode], taken["bare"], strict=True))
            rss = psutil.Process(pid).memory_info().rss / 2**20
            print(
                f"{_MODES[mode]:<38} {spent:6.1f} us CPU/request, adds {added:6.1f} us "
                f"({added / bare:4.0%})   {rss:5.1f} MiB"
            )
        idle = {mode: cpu_s([pid]) for mode, (_, pid) in servers.items() if not mode.startswith("otel")}
        time.sleep(_IDLE_S)
        print(f"without requests, of one core over {_IDLE_S:.0f} s:")
        for mode, before in idle.items():
            print(f"{_MODES[mode]:<38} {(cpu_s([servers[mode][1]]) - before) / _IDLE_S:7.3%}")
