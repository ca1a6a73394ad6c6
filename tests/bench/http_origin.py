"""A plain HTTP origin in a process of its own, for benchmarks: fixed answers, optional delay, many paths."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import resource
import socket
import ssl
from collections.abc import Iterator

_BODY = b'{"status": "pass", "version": "1", "description": "health of a fake service..."}'
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/health+json\r\ncontent-length: %d\r\n\r\n%s" % (
    len(_BODY),
    _BODY,
)


class _Origin(asyncio.Protocol):
    """Answers every complete request head, after `delay_s`; honours `connection: close`."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            if self._delay_s:
                asyncio.get_running_loop().call_later(self._delay_s, self._answer, head)
            else:
                self._answer(head)

    def _answer(self, head: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_ANSWER)
            if b"connection: close" in head.lower():
                self._transport.close()


async def _serve(listener: socket.socket, delay_s: float, certificate: str | None) -> None:
    context: ssl.SSLContext | None = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Origin(delay_s), sock=listener, ssl=context)
    async with server:
        await server.serve_forever()


def _run(listener: socket.socket, delay_s: float, certificate: str | None) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(listener, delay_s, certificate))


@contextlib.contextmanager
def origin(*, delay_s: float = 0.0, certificate: str | None = None) -> Iterator[int]:
    """The port of a running origin, through TLS with `certificate` (a PEM file with its key)."""
    listener = socket.create_server(("0.0.0.0", 0), backlog=4096)
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_run, args=(listener, delay_s, certificate), daemon=True)
    process.start()
    try:
        yield listener.getsockname()[1]
    finally:
        process.terminate()
        process.join()
        listener.close()


def address_of(number: int) -> str:
    """The loopback address of one of many targets; the origin answers on all of them."""
    return f"127.0.{1 + number // 250}.{1 + number % 250}"


def raise_file_limit() -> None:
    """Let this process and its children hold a connection to each of many targets."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
