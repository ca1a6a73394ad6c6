"""Bytes of an answer, passed on as they come; streams of events end with one when this instance leaves."""

from __future__ import annotations

import asyncio

import aiohttp
from aiohttp import web

from services.instrumentation.server_events import CONTENT_TYPE, GOODBYE


class Relay:
    """Passes bodies of any length. Between two pieces an upstream has `idle_s`."""

    def __init__(self) -> None:
        self._leaving = asyncio.Event()

    async def say_goodbye(self, _app: web.Application) -> None:
        """End every stream of events at the end of an event, as if its service had."""
        self._leaving.set()

    async def pass_on(
        self, upstream: aiohttp.ClientResponse, response: web.StreamResponse, idle_s: float
    ) -> None:
        """Raises ConnectionAbortedError when the upstream broke off: only a cut tells the client so."""
        try:
            if upstream.content_type == CONTENT_TYPE:
                await self._events(upstream, response, idle_s)
            else:
                await _pieces(upstream, response, idle_s)
            await response.write_eof()
        except (aiohttp.ClientPayloadError, TimeoutError) as error:
            raise ConnectionAbortedError("the upstream broke off") from error

    async def _events(
        self, upstream: aiohttp.ClientResponse, response: web.StreamResponse, idle_s: float
    ) -> None:
        leaving = asyncio.create_task(self._leaving.wait(), name="leaving")
        piece = b"\n\n"
        try:
            while True:
                reading = asyncio.create_task(upstream.content.readany(), name="next event")
                try:
                    # In the middle of an event there is no place for ours.
                    either = {reading, leaving} if piece.endswith(b"\n\n") else {reading}
                    done, _ = await asyncio.wait(either, timeout=idle_s, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if not reading.done():
                        reading.cancel()
                if not done:
                    raise TimeoutError
                if reading not in done:
                    await response.write(GOODBYE)
                    return
                piece = reading.result()
                if not piece:
                    return
                await response.write(piece)
        finally:
            leaving.cancel()


async def _pieces(upstream: aiohttp.ClientResponse, response: web.StreamResponse, idle_s: float) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(idle_s) as limit:
        async for piece in upstream.content.iter_any():
            # A client that reads slowly is the server's matter: the upstream's time stands still.
            limit.reschedule(None)
            await response.write(piece)
            limit.reschedule(loop.time() + idle_s)
