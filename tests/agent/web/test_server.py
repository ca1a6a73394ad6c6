"""The server byte by byte: what no well-behaved client sends."""

from __future__ import annotations

import asyncio

import pytest

from agent.web.server import WebOptions, serving
from tests.agent.web.platform import Platform, small


async def spoken(port: int, request: bytes) -> bytes:
    """Everything the server answers to `request` until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await writer.drain()
    writer.write_eof()
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400, id="a TLS hello"),
        pytest.param(b"GET /livez\r\n\r\n", 400, id="no version"),
        pytest.param(b"GET /livez HTTP/1.1\r\n\r\n", 400, id="no host"),
        pytest.param(b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, id="two hosts"),
        pytest.param(
            b"POST /api/v1/changes HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
            400,
            id="two lengths",
        ),
        pytest.param(
            b"POST /api/v1/changes HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            411,
            id="a body without a length",
        ),
        pytest.param(b"GET /../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", 404, id="dot segments"),
        pytest.param(
            b"GET /livez?" + b"a=1&" * 200 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="200 parameters"
        ),
    ],
)
async def test_what_cannot_be_read_one_way_only_is_refused(request_bytes: bytes, status: int) -> None:
    async with serving(small(), WebOptions(port=0)) as port:
        answer = await spoken(port, request_bytes)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"application/problem+json" in answer


async def test_requests_sent_together_are_answered_in_order() -> None:
    one = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
    other = b"GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    async with serving(small(), WebOptions(port=0)) as port:
        answer = await spoken(port, one + other)
    assert answer.index(b"HTTP/1.1 200 ") < answer.index(b"HTTP/1.1 404 ")
    assert answer.count(b"HTTP/1.1 ") == 2


async def test_a_flood_of_idle_connections_costs_the_oldest_idle_one_its_place() -> None:
    livez = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
    async with asyncio.timeout(20), serving(small(), WebOptions(port=0, max_clients=0)) as port:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
        for reader, writer in held:
            writer.write(livez)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        for _ in range(3):
            assert (await spoken(port, livez)).startswith(b"HTTP/1.1 200 ")
        await held[0][0].read()
        held[-1][1].write(livez)
        await _until(held[-1][0], b"HTTP/1.1 200 ")
        for _, writer in held:
            writer.close()


async def _until(reader: asyncio.StreamReader, line: bytes) -> None:
    while not (await reader.readline()).startswith(line):
        assert not reader.at_eof()


async def test_one_stream_too_many_is_refused_and_the_others_go_on() -> None:
    events = b"GET /api/v1/events HTTP/1.1\r\nHost: a\r\n\r\n"
    async with asyncio.timeout(20), serving(small(), WebOptions(port=0, max_clients=1)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(events)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        assert (await spoken(port, events)).startswith(b"HTTP/1.1 503 ")
        assert not reader.at_eof()
        writer.close()


async def test_http_1_0_gets_a_stream_as_it_is() -> None:
    platform: Platform = small()
    async with serving(platform, WebOptions(port=0)) as port:
        answer = await spoken(port, b"GET /metrics HTTP/1.0\r\n\r\n")
    assert b"Transfer-Encoding" not in answer
    assert b"Connection: close" in answer
