"""A way to a local server that takes time: what a look has to travel when its target is far away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def far(port: int, *, one_way_s: float) -> Iterator[int]:
    """A port of 127.0.0.1 behind which `port` is `one_way_s` seconds away; it ends as `port` does."""
    loop = asyncio.new_event_loop()
    relay = _Relay(port, one_way_s)
    server = loop.run_until_complete(asyncio.start_server(relay.welcome, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(relay.close(server), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class _Relay:
    def __init__(self, port: int, one_way_s: float) -> None:
        self._port = port
        self._one_way_s = one_way_s
        self._open: set[asyncio.Task[None]] = set()

    async def close(self, server: asyncio.Server) -> None:
        server.close()
        for task in self._open:
            task.cancel()
        if self._open:
            await asyncio.wait(self._open)

    async def welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with suppress(OSError):
                there, onward = await asyncio.open_connection("127.0.0.1", self._port)
                await asyncio.gather(self._carry(reader, onward), self._carry(there, writer))
        except asyncio.CancelledError:
            return
        finally:
            writer.close()
            self._open.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while chunk := await reader.read(65536):
                loop.call_later(self._one_way_s, writer.write, chunk)
        loop.call_later(self._one_way_s, writer.close)
