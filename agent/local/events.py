"""The agent's event stream, read without an HTTP library: what `gaia up` retells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress

import msgspec

from agent.local.ports import LOOPBACK

_RETRY_S = 0.2
_SILENCE_S = 60.0


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """One event of `GET /api/v1/events`; other fields are not ours to know."""

    seq: int = 0
    at_s: float = 0.0
    kind: str = ""
    subject: str = ""
    state: str = ""
    text: str = ""


async def happenings(port: int, *, after: int | None = None) -> AsyncGenerator[Happening]:
    """Events of the agent on `port` as they happen, over its restarts, until closed or cancelled.

    `after` starts with those later than that number; without it only new ones come.
    """
    last = "" if after is None else str(after)
    while True:
        with suppress(OSError, asyncio.IncompleteReadError, TimeoutError, ValueError):
            async for seq, data in _stream(port, last):
                last = seq or last
                with suppress(msgspec.DecodeError):
                    yield msgspec.json.decode(data, type=Happening)
        await asyncio.sleep(_RETRY_S)


async def _stream(port: int, last: str) -> AsyncIterator[tuple[str, bytes]]:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        resume = f"Last-Event-ID: {last}\r\n" if last else ""
        # HTTP/1.0, so that the body comes as it is instead of in chunks.
        request = f"GET /api/v1/events HTTP/1.0\r\nHost: {LOOPBACK}:{port}\r\n{resume}\r\n"
        writer.write(request.encode("ascii"))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5.0)
        if b" 200 " not in head.split(b"\r\n", 1)[0]:
            return
        seq, data = "", b""
        while line := await asyncio.wait_for(reader.readline(), _SILENCE_S):
            field, _, value = line.rstrip(b"\r\n").partition(b":")
            value = value.removeprefix(b" ")
            if field == b"id":
                seq = value.decode("ascii", "replace")
            elif field == b"data":
                data += value
            elif not field and not value and data:
                yield seq, data
                data = b""
    finally:
        writer.close()
