"""The outgoing client's limits of time, which count progress where there is some."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from services.instrumentation.client import CallFailedError, Failure, HttpClient, Upstream
from services.instrumentation.kit import Instrumentation
from tests.services.running import Running, environment, serving


def shop(kit: Instrumentation) -> web.Application:
    async def count(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    async def refuse(_request: web.Request) -> web.Response:
        return web.Response(status=413, text="too much")

    app = web.Application(client_max_size=0)
    app.router.add_post("/count", count)
    app.router.add_post("/refuse", refuse)
    kit.attach(app)
    return app


def client_of(running: Running) -> tuple[HttpClient, Upstream]:
    client = HttpClient(running.kit)
    return client, client.upstream("shop", running.url)


async def test_an_upload_may_take_longer_than_an_answer_as_long_as_it_moves(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(6):
            await asyncio.sleep(0.1)
            yield b"x"

    async with serving("shop", environment(), tmp_path, shop) as running:
        client, upstream = client_of(running)
        async with client.call(
            upstream, "POST", upstream.url / "count", data=pieces(), timeout_s=0.3
        ) as response:
            assert await response.read() == b"6"


async def test_an_answer_before_the_bodys_end_is_the_answer(tmp_path: Path) -> None:
    sent = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"
        await sent.wait()
        yield b"y"

    async with serving("shop", environment(), tmp_path, shop) as running:
        client, upstream = client_of(running)
        async with client.call(
            upstream, "POST", upstream.url / "refuse", data=pieces(), timeout_s=2.0
        ) as response:
            assert (response.status, await response.read()) == (413, b"too much")
            sent.set()


async def test_an_upstream_that_stops_reading_fails_in_time(tmp_path: Path) -> None:
    async def deaf(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1 << 20)

    server = await asyncio.start_server(deaf, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with serving("shop", environment(), tmp_path, shop) as running:
        client = HttpClient(running.kit)
        upstream = client.upstream("deaf", f"http://127.0.0.1:{port}")
        with pytest.raises(CallFailedError) as failed:
            async with client.call(upstream, "POST", upstream.url / "x", data=pieces(), timeout_s=0.2):
                pass
        assert failed.value.failure is Failure.TIMEOUT
    server.close()


async def test_the_same_header_twice_is_sent_twice(tmp_path: Path) -> None:
    async def heard(request: web.Request) -> web.Response:
        return web.json_response(request.headers.getall("X-A"))

    def echo(kit: Instrumentation) -> web.Application:
        app = web.Application()
        app.router.add_get("/", heard)
        kit.attach(app)
        return app

    from multidict import CIMultiDict

    async with serving("shop", environment(), tmp_path, echo) as running:
        client, upstream = client_of(running)
        headers = CIMultiDict([("X-A", "1"), ("X-A", "2")])
        async with client.call(upstream, "GET", upstream.url, headers=headers) as response:
            assert isinstance(response, aiohttp.ClientResponse)
            assert await response.json() == ["1", "2"]
