"""Clients that are slow on purpose, ill-formed or too large: refused, counted, and let go."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web

from services.instrumentation.body import read_body
from services.instrumentation.kit import Instrumentation
from tests.services.running import Running, environment, serving
from tests.waiting import until

REFUSED = "http_server_refused_requests_total"
LARGE_BYTES = 64 * 1024 * 1024


def shop(kit: Instrumentation) -> web.Application:
    async def sell(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await read_body(request))))

    async def catalogue(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(LARGE_BYTES // 65536):
            await response.write(bytes(65536))
        return response

    app = web.Application()
    app.router.add_post("/sales", sell)
    app.router.add_get("/catalogue", catalogue)
    kit.attach(app)
    return app


async def connect(running: Running) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(running.url.rpartition(":")[2]))


async def problem_from(reader: asyncio.StreamReader) -> tuple[int, dict[str, object]]:
    """Status and problem of the answer after which the server closes the connection."""
    async with asyncio.timeout(10):
        answer = await reader.read()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, answer
    return int(head.split(b" ")[1]), json.loads(body)


@pytest.mark.parametrize("drip", ["G", "GET /sales HTTP/1.1\r\nHost: x\r\nX-A: b"])
async def test_a_head_that_does_not_end_is_refused(drip: str, tmp_path: Path) -> None:
    async with serving("shop", environment(HEADER_TIMEOUT="100ms"), tmp_path, shop) as running:
        reader, writer = await connect(running)
        writer.write(drip.encode())
        status, problem = await problem_from(reader)
        writer.close()
        assert (status, problem["type"]) == (408, "urn:gaia:problem:slow_headers")
        assert running.sample(REFUSED, {"reason": "slow_headers"}) == 1


async def test_dripped_bytes_do_not_prolong_a_heads_time(tmp_path: Path) -> None:
    async with serving("shop", environment(HEADER_TIMEOUT="300ms"), tmp_path, shop) as running:
        reader, writer = await connect(running)
        closed = asyncio.create_task(problem_from(reader))
        for byte in "GET /sales HTTP/1.1\r\nX-A: " + "b" * 100_000:
            writer.write(byte.encode())
            await asyncio.sleep(0.02)
            if closed.done():
                break
        status, _ = await closed
        writer.close()
        assert status == 408


async def test_a_connection_that_says_nothing_is_closed_without_an_answer(tmp_path: Path) -> None:
    async with serving("shop", environment(HEADER_TIMEOUT="100ms"), tmp_path, shop) as running:
        reader, writer = await connect(running)
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()
        assert running.sample(REFUSED, {"reason": "slow_headers"}) == 0


async def test_a_kept_connection_may_rest_between_requests_longer_than_a_head_may_take(
    tmp_path: Path,
) -> None:
    async with serving("shop", environment(HEADER_TIMEOUT="100ms"), tmp_path, shop) as running:
        reader, writer = await connect(running)
        request = b"POST /sales HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
        for _ in range(2):
            # The body is late, which is no matter of the head's.
            writer.write(request)
            await asyncio.sleep(0.15)
            writer.write(b"ab")
            async with asyncio.timeout(5):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200"), head
                assert await reader.readexactly(1) == b"2"
            await asyncio.sleep(0.15)
        writer.write(b"POST /sal")
        status, _ = await problem_from(reader)
        writer.close()
        assert status == 408


async def test_a_body_that_stalls_is_refused(tmp_path: Path) -> None:
    async with serving("shop", environment(BODY_TIMEOUT="100ms"), tmp_path, shop) as running:
        reader, writer = await connect(running)
        writer.write(b"POST /sales HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 9\r\n\r\nab")
        status, problem = await problem_from(reader)
        writer.close()
        assert (status, problem["type"]) == (408, "urn:gaia:problem:slow_body")
        assert running.sample(REFUSED, {"reason": "slow_body"}) == 1


async def test_a_body_that_drips_is_refused_though_it_never_stalls(tmp_path: Path) -> None:
    async with serving("shop", environment(BODY_TIMEOUT="300ms"), tmp_path, shop) as running:
        reader, writer = await connect(running)
        writer.write(b"POST /sales HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 9999\r\n\r\n")
        refused = asyncio.create_task(problem_from(reader))
        sent = 0
        while not refused.done() and sent < 9999:
            writer.write(b"a")
            sent += 1
            await asyncio.sleep(0.05)
        status, _ = await refused
        writer.close()
        assert status == 408


async def test_a_client_that_reads_nothing_does_not_hold_its_answer_for_ever(tmp_path: Path) -> None:
    async with serving("shop", environment(SEND_TIMEOUT="100ms"), tmp_path, shop) as running:
        _, writer = await connect(running)
        assert writer.transport is not None
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /catalogue HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: running.sample(REFUSED, {"reason": "slow_reader"}) == 1)
        await until(lambda: running.kit.metrics.answering["GET"] == 0)
        writer.close()


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 9000 + b"\r\n\r\n",
    ],
    ids=["request line", "header"],
)
async def test_a_head_above_the_limits_is_431(raw: bytes, tmp_path: Path) -> None:
    async with serving("shop", environment(), tmp_path, shop) as running:
        reader, writer = await connect(running)
        writer.write(raw)
        status, problem = await problem_from(reader)
        writer.close()
        assert status == 431
        assert problem["type"] == "urn:gaia:problem:headers_too_large"
        assert running.sample(REFUSED, {"reason": "headers_too_large"}) == 1
