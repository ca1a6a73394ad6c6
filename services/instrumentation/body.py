"""A request's body, read at a pace: a client that drips or stalls is refused, not waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from aiohttp import ClientPayloadError, web

from services.instrumentation.deadline import remaining_s
from services.instrumentation.problem import ProblemError

_LIMIT_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyPace:
    """`idle_s` between two pieces, and in all `idle_s` and a second more for each `bytes_per_s` that came."""

    idle_s: float = 10.0
    bytes_per_s: int = 1024


PACE: Final = web.AppKey("PACE", BodyPace)
_USUAL: Final = BodyPace()


async def body_pieces(request: web.Request, piece_bytes: int = 256 * 1024) -> AsyncIterator[bytes]:
    """The body as it comes. Raises ProblemError 408 when it comes too slowly, 400 when it is malformed."""
    pace = request.app.get(PACE, _USUAL)
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    received = 0
    while True:
        allowed_s = start_s + pace.idle_s + received / pace.bytes_per_s
        limit_s = min(loop.time() + remaining_s(pace.idle_s), allowed_s)
        try:
            async with asyncio.timeout_at(limit_s):
                piece = await request.content.read(piece_bytes)
        except TimeoutError as error:
            raise ProblemError(408, "the body did not arrive in time", reason="slow_body") from error
        except (ClientPayloadError, ValueError) as error:
            raise ProblemError(400, "the body is malformed", reason="malformed_body") from error
        if not piece:
            return
        received += len(piece)
        yield piece


async def read_body(request: web.Request, limit: int = _LIMIT_BYTES) -> bytes:
    """The whole body. Raises ProblemError 413 above `limit`, 408 when it does not arrive in time."""
    too_large = ProblemError(413, f"the body may be {limit} bytes at most", reason="too_large")
    if (request.content_length or 0) > limit:
        raise too_large
    pieces: list[bytes] = []
    size = 0
    async for piece in body_pieces(request):
        size += len(piece)
        if size > limit:
            raise too_large
        pieces.append(piece)
    return b"".join(pieces)
