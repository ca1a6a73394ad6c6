"""A backend that telemetry is forwarded to: takes, refuses, hangs or is away, as a test asks."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Verdict:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


ACCEPT = Verdict()


class Backend:
    """`decide` sees path and plain body of each request; what it accepts is kept in order."""

    def __init__(self) -> None:
        self.decide: Callable[[str, bytes], Verdict] = lambda _path, _body: ACCEPT
        self.accepted: list[tuple[str, bytes]] = []
        self.requests: list[tuple[str, int]] = []
        self.headers: list[dict[str, str]] = []
        # Some readers of gzip stop after the first member.
        self.reads_joined = True
        self.url = ""

    def bodies(self, path: str) -> list[bytes]:
        return [body for accepted, body in self.accepted if accepted == path]

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip":
            if not self.reads_joined and body.count(b"\x1f\x8b\x08") > 1:
                return web.Response(status=400, body=b"trailing garbage")
            body = gzip.decompress(body)
        verdict = self.decide(request.path, body)
        self.headers.append(dict(request.headers))
        self.requests.append((request.path, verdict.status))
        if 200 <= verdict.status < 300:
            self.accepted.append((request.path, body))
        return web.Response(status=verdict.status, body=verdict.body, headers=verdict.headers)


@asynccontextmanager
async def backend(port: int = 0) -> AsyncIterator[Backend]:
    serving = Backend()

    @web.middleware
    async def undecoded(request: web.Request, handler: Callable[[web.Request], object]) -> web.StreamResponse:
        return await serving.handle(request)

    app = web.Application(client_max_size=1 << 30, middlewares=[undecoded])
    runner = web.AppRunner(app, auto_decompress=False)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    serving.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield serving
    finally:
        async with asyncio.timeout(5):
            await runner.cleanup()
