"""Services for tests: in this process with spans and lines at hand, or as processes one may kill."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from services.asset.service import AssetService
from services.auth.service import AuthService
from services.chat.service import ChatService
from services.gateway.service import GatewayService
from services.instrumentation.kit import Instrumentation
from services.instrumentation.logs import LineWriter
from services.instrumentation.process import listen
from services.instrumentation.redaction import Redactor
from services.instrumentation.settings import Settings
from services.instrumentation.tracing import Span

PLATFORM_KEY = "platform-key-for-tests"
BUILDERS: Mapping[str, Callable[[Instrumentation], web.Application]] = {
    "gateway": lambda kit: GatewayService(kit).application(),
    "auth": lambda kit: AuthService(kit).application(),
    "asset": lambda kit: AssetService(kit).application(),
    "chat": lambda kit: ChatService(kit).application(),
}


class Recorder:
    """An exporter that keeps what it gets."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def export(self, span: Span) -> None:
        self.spans.append(span)

    def close(self, timeout_s: float) -> None:
        del timeout_s

    def named(self, part: str) -> list[Span]:
        return [span for span in self.spans if part in span.name]


@dataclass(slots=True)
class Running:
    """One application that listens, with everything it told."""

    kit: Instrumentation
    url: str
    spans: Recorder
    log: Path
    runner: web.AppRunner
    server: asyncio.Server

    async def stop(self) -> None:
        """As if the process had ended; stopping twice is harmless."""
        self.server.close()
        await self.runner.cleanup()

    def lines(self) -> list[dict[str, Any]]:
        """Every line that is written whole; the writer may be in the middle of the next."""
        # Not `splitlines`: U+2028 and its like stand in JSON as they are, and end no line.
        return [json.loads(line) for line in self.log.read_text().split("\n")[:-1]]

    def sample(self, name: str, labels: Mapping[str, str] | None = None) -> float:
        """The value of one series; 0.0 while it is not there."""
        return self.kit.metrics.registry.get_sample_value(name, dict(labels or {})) or 0.0

    def series(self, name: str) -> int:
        """How many series a metric has."""
        found = [s for m in self.kit.metrics.registry.collect() for s in m.samples if s.name == name]
        return len(found)


def environment(**changes: str) -> dict[str, str]:
    """Variables of a service under test: nothing listens there unless said so."""
    return {
        "ENVIRONMENT": "development", "HOST": "127.0.0.1", "PORT": "0", "API_KEY": PLATFORM_KEY,
        "DRAIN_DELAY": "0", "SHUTDOWN_TIMEOUT": "3", "LOOP_LAG_LIMIT": "0", "CHAT_PROVIDER": "offline",
        "HEALTH_CHECK_INTERVAL": "500ms", **changes,
    }  # fmt: skip


@asynccontextmanager
async def serving(
    service: str,
    environ: Mapping[str, str],
    folder: Path,
    build: Callable[[Instrumentation], web.Application] | None = None,
) -> AsyncIterator[Running]:
    """One service (or any app) in this process, on a free port."""
    settings = Settings.from_environment(service, environ)
    descriptor, name = tempfile.mkstemp(prefix=f"{service}.", suffix=".log", dir=folder)
    log = Path(name)
    writer = LineWriter(Redactor.from_environment(environ), descriptor)
    spans = Recorder()
    kit = Instrumentation(settings, access=writer, exporter=spans)
    app = (build or BUILDERS[service])(kit)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    server = await listen(runner, kit)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Running(kit, f"http://127.0.0.1:{port}", spans, log, runner, server)
    finally:
        server.close()
        await runner.cleanup()
        writer.close()
        os.close(descriptor)


@dataclass(slots=True)
class Process:
    """One service as a process."""

    service: str
    environ: dict[str, str]
    child: subprocess.Popen[bytes] | None = None
    output: list[bytes] = field(default_factory=list)
    errors: list[bytes] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.environ['PORT']}"

    def start(self) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-m", f"services.{self.service}"],
            env={"PATH": os.environ["PATH"], **self.environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for stream, lines in ((self.child.stdout, self.output), (self.child.stderr, self.errors)):
            assert stream is not None
            threading.Thread(target=lines.extend, args=(stream,), daemon=True).start()

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()

    def signal(self, number: int) -> None:
        assert self.child is not None
        self.child.send_signal(number)

    def wait(self, within_s: float = 10.0) -> int:
        assert self.child is not None
        return self.child.wait(within_s)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in list(self.output)]


@contextmanager
def process(service: str, environ: Mapping[str, str], *, port: int = 0) -> Iterator[Process]:
    """A started process on a free port; killed at the end whatever happened."""
    one = Process(service, {**environ, "PORT": str(port or free_port())})
    one.start()
    try:
        yield one
    finally:
        if one.child is not None and one.child.poll() is None:
            one.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def answers(
    session: aiohttp.ClientSession, url: str, *, status: int = 200, within_s: float = 15.0
) -> bytes:
    """Wait until `url` answers with `status`; its body."""
    async with asyncio.timeout(within_s):
        while True:
            try:
                async with session.get(url) as response:
                    body = await response.read()
                    if response.status == status:
                        return body
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.02)
