"""Instrumentation for any aiohttp application in three lines: make a kit, attach it, run it.

kit = Instrumentation.from_environment("orders", os.environ)
kit.attach(app)
sys.exit(kit.run(app))
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

from aiohttp import web

from services.instrumentation.access import AccessLog
from services.instrumentation.body import PACE, BodyPace
from services.instrumentation.endpoints import Endpoints
from services.instrumentation.faults import FaultSwitch
from services.instrumentation.health import Dependency, Health
from services.instrumentation.heartbeat import Heartbeat
from services.instrumentation.logs import LineWriter, set_up_logging
from services.instrumentation.metrics import Metrics
from services.instrumentation.middleware import RequestMiddleware
from services.instrumentation.process import serve
from services.instrumentation.redaction import Redactor
from services.instrumentation.settings import Settings
from services.instrumentation.tracing import Exporter, Tracer

logger = logging.getLogger(__name__)

_STOP_S: Final = 5.0

Background = Callable[[], Coroutine[Any, Any, None]]


class Instrumentation:
    """Everything a service shares with its neighbours; one per process, or per app in tests."""

    def __init__(
        self, settings: Settings, *, access: LineWriter | None = None, exporter: Exporter | None = None
    ) -> None:
        self.settings = settings
        self.metrics = Metrics(settings)
        self.tracer = Tracer(ratio=settings.trace_ratio, exporter=exporter)
        self.health = Health(interval_s=settings.check_interval_s, metrics=self.metrics)
        self.faults = FaultSwitch() if settings.faults else None
        self.port: int | None = None
        """Where the application listens, once it does."""
        self.description = b"{}"
        """The application's OpenAPI document."""
        self._writer = access
        self._background: list[tuple[str, Background]] = []
        self._on_drain: list[Callable[[], Awaitable[None]]] = []
        if self.faults is not None:
            self.on_drain(self.faults.release)
        self._on_close: list[Callable[[], Awaitable[None]]] = []

    @classmethod
    def from_environment(cls, service: str, environ: Mapping[str, str]) -> Instrumentation:
        """Read the settings, set up JSON logs on stdout and, where an endpoint is set, traces over OTLP/HTTP.

        Raises SettingsError with one sentence when a variable is wrong.
        """
        settings = Settings.from_environment(service, environ)
        writer = set_up_logging(settings, Redactor.from_environment(environ))
        exporter: Exporter | None = None
        if settings.otlp_endpoint is not None:
            # 100 ms and 15 MB that a service without a collector does not pay.
            from services.instrumentation.otlp import OtlpExporter

            exporter = OtlpExporter(settings)
        return cls(settings, access=writer, exporter=exporter)

    def depends_on(self, dependency: Dependency) -> None:
        self.health.add(dependency)

    def in_background(self, name: str, run: Background) -> None:
        """Run `run()` beside the application from start-up until clean-up; only cancellation ends it."""
        self._background.append((name, run))

    def on_drain(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Called when the instance stops taking work, before in-flight requests are waited for."""
        self._on_drain.append(callback)

    def on_close(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Called after the last request, in reverse order of registration."""
        self._on_close.append(callback)

    def attach(self, app: web.Application) -> None:
        """Put the middleware, the operational routes and the background work on `app`."""
        middleware = RequestMiddleware(
            metrics=self.metrics,
            tracer=self.tracer,
            health=self.health,
            access=None if self._writer is None else AccessLog(self._writer, self.settings),
            faults=self.faults,
            on_fly=self.settings.on_fly,
        )
        app.middlewares.insert(0, middleware.build())
        app[PACE] = BodyPace(idle_s=self.settings.body_timeout_s)
        Endpoints(
            self.settings,
            health=self.health,
            metrics=self.metrics,
            faults=self.faults,
            description=self.description,
        ).add_to(app)
        app.cleanup_ctx.append(self._running)

    def run(self, app: web.Application) -> int:
        """Serve `app` until SIGTERM or SIGINT, drain, and return the exit code."""
        try:
            return asyncio.run(serve(app, self))
        finally:
            if self._writer is not None:
                self._writer.close()

    async def drain(self) -> None:
        """Tell the world that this instance is leaving: `/readyz` 503, subscriptions drained."""
        self.health.draining = True
        for callback in self._on_drain:
            await callback()

    async def _running(self, _app: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.callback(self.tracer.close)
            for callback in self._on_close:
                stack.push_async_callback(callback)
            heartbeat = Heartbeat(self.metrics, limit_s=self.settings.lag_limit_s)
            stack.callback(heartbeat.stop)
            tasks = [
                asyncio.create_task(_forever(name, run), name=name)
                for name, run in (
                    ("heartbeat", heartbeat.run),
                    ("health", self.health.run),
                    *self._background,
                )
            ]
            stack.push_async_callback(_stop, tasks)
            yield


async def _forever(name: str, run: Background) -> None:
    """One background task: its crash is an ERROR with traceback, and it is started again."""
    while True:
        try:
            await run()
        except Exception:
            logger.exception("background.failed", extra={"task": name})
        await asyncio.sleep(1.0)


async def _stop(tasks: list[asyncio.Task[None]]) -> None:
    # Python 3.11's wait_for, which drivers use, may swallow a cancellation: repeat it, but not for ever.
    pending = set(tasks)
    end_s = time.monotonic() + _STOP_S
    while pending and time.monotonic() < end_s:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=0.2)
    for task in pending:
        logger.error("background.not_stopped", extra={"task": task.get_name()})
