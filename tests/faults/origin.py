"""A misbehaving HTTP origin in a process of its own, so that its own memory and lateness are not measured.

`served(behaviours)` gives its port; the first path segment chooses the behaviour.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass

FOREVER_S = 3600.0


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it came, and the connection to answer on."""

    head: str
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def method(self) -> str:
        return self.head.split(" ", 1)[0]

    @property
    def path(self) -> str:
        return self.head.split(" ", 2)[1]

    def header(self, name: str) -> str:
        for line in self.head.split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name:
                return value.strip()
        return ""


Behaviour = Callable[[Call], Awaitable[None]]


def sends(*pieces: bytes, pause_s: float = 0.0) -> Behaviour:
    """Send the pieces, with pauses, and close."""

    async def behave(call: Call) -> None:
        for place, piece in enumerate(pieces):
            if place and pause_s:
                await asyncio.sleep(pause_s)
            call.writer.write(piece)
            await call.writer.drain()

    return behave


def sends_and_hangs(*pieces: bytes) -> Behaviour:
    """Send the pieces and keep the connection open in silence."""

    async def behave(call: Call) -> None:
        await sends(*pieces)(call)
        await asyncio.sleep(FOREVER_S)

    return behave


def drips(prefix: bytes, piece: bytes, *, every_s: float) -> Behaviour:
    """Send the prefix, then the piece for ever."""

    async def behave(call: Call) -> None:
        call.writer.write(prefix)
        while True:
            call.writer.write(piece)
            await call.writer.drain()
            await asyncio.sleep(every_s)

    return behave


def resets(*pieces: bytes) -> Behaviour:
    """Send the pieces, let them arrive, then reset the connection."""

    async def behave(call: Call) -> None:
        await sends(*pieces)(call)
        await asyncio.sleep(0.05 if pieces else 0)
        sock = call.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        call.writer.transport.abort()

    return behave


async def _serve(listener: socket.socket, behaviours: Mapping[str, Behaviour]) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            length = next(
                (
                    int(line.split(":")[1])
                    for line in head.split("\r\n")
                    if line.lower().startswith("content-length:")
                ),
                0,
            )
            body = await reader.readexactly(length)
            call = Call(head, body, reader, writer)
            await behaviours[call.path.strip("/").split("/")[0].split("?")[0]](call)
        with contextlib.suppress(OSError):
            writer.close()

    server = await asyncio.start_server(handle, sock=listener)
    async with server:
        await server.serve_forever()


def _run(listener: socket.socket, behaviours: Mapping[str, Behaviour]) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(listener, behaviours))


@contextlib.contextmanager
def served(behaviours: Mapping[str, Behaviour]) -> Iterator[int]:
    """The port of a process that misbehaves in all these ways."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_run, args=(listener, behaviours), daemon=True)
    process.start()
    try:
        yield listener.getsockname()[1]
    finally:
        process.kill()
        process.join()
        listener.close()
