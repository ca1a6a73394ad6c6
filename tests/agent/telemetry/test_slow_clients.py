"""Clients that take their time: told so, closed, and nobody else waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agent.http_head import Head
from agent.telemetry.http_server import Answer, HttpServer, ServerLimits, Site
from agent.telemetry.signals import Rejected
from tests.agent.telemetry.otlp import post

HEAD = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"


async def fine(_head: Head, body: bytes, _client: str) -> Answer:
    return Answer(status=200, content_type="text/plain", body=b"%d" % len(body))


def refused(_head: Head | None, rejected: Rejected) -> Answer:
    return Answer(status=rejected.status, content_type="text/plain", body=rejected.text.encode())


@asynccontextmanager
async def serving(limits: ServerLimits) -> AsyncIterator[tuple[HttpServer, int]]:
    server = HttpServer(Site(admit=lambda _head, _client: None, answer=fine, refuse=refused), limits)
    port = await server.open("127.0.0.1", 0)
    try:
        yield server, port
    finally:
        await server.close()


def limits(**more: float) -> ServerLimits:
    shortest = {"head_s": 0.1, "body_s": 0.1, "idle_s": 0.1, "linger_s": 0.1} | more
    return ServerLimits(request_bytes=1000, in_flight_bytes=1000, **shortest)  # type: ignore[arg-type]  # seconds


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"POST /v1/tra", b"HTTP/1.1 408 Request Timeout"),
        (HEAD, b"HTTP/1.1 408 Request Timeout"),
        (HEAD + b"\r\nhalf a body", b"HTTP/1.1 408 Request Timeout"),
        (
            HEAD.replace(b"Content-Length: 100", b"Transfer-Encoding: chunked") + b"\r\n5\r\nab",
            b"HTTP/1.1 408",
        ),
        (b"", b""),
    ],
    ids=["half a line", "half a head", "half a body", "half a chunk", "nothing at all"],
)
async def test_who_does_not_finish_is_told_and_closed_and_holds_nothing(sent: bytes, said: bytes) -> None:
    async with serving(limits()) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        async with asyncio.timeout(15):
            answer = await reader.read()
        writer.close()
        assert answer.startswith(said)
        assert server.in_flight_bytes == 0
        assert (await post(port, "/v1/traces", b"12345")).body == b"5"


async def test_a_slow_body_keeps_nobody_else_waiting() -> None:
    async with serving(limits(body_s=30.0)) as (_, port):
        _, slow = await asyncio.open_connection("127.0.0.1", port)
        slow.write(HEAD + b"\r\n" + b"x" * 50)
        async with asyncio.timeout(5):
            assert (await post(port, "/v1/traces", b"12345")).body == b"5"
        slow.close()


async def test_more_connections_than_are_allowed_are_503() -> None:
    async with serving(ServerLimits(request_bytes=1000, in_flight_bytes=1000, connections=1)) as (_, port):
        _, first = await asyncio.open_connection("127.0.0.1", port)
        first.write(b"POST")
        reader, second = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(5):
            assert (await reader.read()).startswith(b"HTTP/1.1 503")
        first.close()
        second.close()
