"""A small HTTP/1.1 server for POSTed bodies: hard limits, one shared read buffer, no framework to import.

aiohttp would cost 200 ms and 17 MiB before the port is open, drops the connection on a truncated gzip body
and answers errors as text. RFC 9112 strictly: anything ambiguous is 400 and the connection closes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, cast

from msgspec import Struct

from agent.http_head import Head, HeadError, parse_head
from agent.telemetry.signals import Rejected

logger = logging.getLogger(__name__)

_BUFFER_BYTES: Final = 256 * 1024
_MAX_HEAD_BYTES: Final = 32 * 1024
_MAX_CHUNK_LINE: Final = 256
_PHRASES: Final = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 413: "Content Too Large", 415: "Unsupported Media Type", 429: "Too Many Requests",
    431: "Request Header Fields Too Large", 503: "Service Unavailable",
}  # fmt: skip


class Answer(Struct, frozen=True, kw_only=True):
    """What goes back. `headers` are whole lines without their end."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[str, ...] = ()


class ServerLimits(Struct, frozen=True, kw_only=True):
    """What one client, and all together, may take."""

    request_bytes: int
    in_flight_bytes: int
    connections: int = 512
    head_s: float = 10.0
    body_s: float = 30.0
    idle_s: float = 75.0
    linger_s: float = 2.0


class Site:
    """What the server serves; an Intake is one."""

    __slots__ = ("admit", "answer", "refuse")

    def __init__(
        self,
        *,
        admit: Callable[[Head, str], None],
        answer: Callable[[Head, bytes, str], Awaitable[Answer]],
        refuse: Callable[[Head | None, Rejected], Answer],
    ) -> None:
        # `admit` raises Rejected before a body is read; `answer` must not raise; `refuse` words a rejection.
        # The text is the client's address.
        self.admit = admit
        self.answer = answer
        self.refuse = refuse


class HttpServer:
    """Listens until closed. `in_flight_bytes` is what unanswered bodies hold now."""

    def __init__(self, site: Site, limits: ServerLimits) -> None:
        self.site = site
        self.limits = limits
        self.buffer = memoryview(bytearray(_BUFFER_BYTES))
        self.connections: set[Connection] = set()
        self.in_flight_bytes = 0
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def open(self, host: str, port: int) -> int:
        """Listen; the port that was taken. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), host, port, backlog=512)
        self._sweep()
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening, let running requests finish, close what is idle."""
        if self._server is not None:
            self._server.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        tasks = [each.task for each in self.connections if each.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=5.0)
        for connection in tuple(self.connections):
            connection.close()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in tuple(self.connections):
            if connection.due_s <= now:
                connection.overdue()
        self._sweeper = loop.call_later(1.0, self._sweep)


class Connection(asyncio.BufferedProtocol):
    """One client. Requests are answered in order; what follows one is read once it is answered."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._client = ""
        self._input = bytearray()
        self._head: Head | None = None
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._missing = 0
        self._lingering = False
        self.task: asyncio.Task[None] | None = None
        self.due_s = self._loop.time() + server.limits.idle_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._client = str((transport.get_extra_info("peername") or ("",))[0])
        if len(self._server.connections) >= self._server.limits.connections:
            self._refuse(Rejected(503, "too many connections", retry_after_s=1))
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        self._server.connections.discard(self)
        self._transport = None
        if self.task is None:
            self._release()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's signature
        # Read and consumed within one callback, so all connections share one buffer.
        return self._server.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._lingering:
            return
        self._input += self._server.buffer[:nbytes]
        if self.task is None:
            self._advance()
        elif len(self._input) > _MAX_HEAD_BYTES and self._transport is not None:
            self._transport.pause_reading()

    def close(self) -> None:
        """Close once what was written is sent."""
        if self._transport is not None:
            self._transport.close()

    def overdue(self) -> None:
        """The client took too long: told so in the middle of a request, simply closed in between."""
        if self.task is not None:
            self.due_s = self._loop.time() + self._server.limits.body_s
        elif self._lingering or (self._head is None and not self._input):
            self.close()
        else:
            self._refuse(Rejected(408, "the request did not arrive in time"))

    def _advance(self) -> None:
        """Do what the bytes at hand allow."""
        try:
            if self._head is None and not self._read_head():
                return
            head = self._head
            assert head is not None
            if not (self._read_chunks() if head.chunked else self._read_length()):
                return
        except Rejected as rejected:
            self._refuse(rejected)
            return
        self.task = self._loop.create_task(self._respond(head, b"".join(self._body)))

    def _read_head(self) -> bool:
        end = self._input.find(b"\r\n\r\n")
        if end < 0:
            if len(self._input) > _MAX_HEAD_BYTES:
                raise Rejected(431, f"the request's head is larger than {_MAX_HEAD_BYTES} bytes")
            if len(self._input) > 0 and not self._due_for_head():
                self.due_s = self._loop.time() + self._server.limits.head_s
            return False
        try:
            head = parse_head(bytes(self._input[:end]))
        except HeadError as error:
            raise Rejected(400, str(error)) from None
        del self._input[: end + 4]
        self._head = head
        self._server.site.admit(head, self._client)
        if head.length > self._server.limits.request_bytes:
            raise Rejected(413, f"the body is larger than {self._server.limits.request_bytes} bytes")
        self._missing = head.length
        self.due_s = self._loop.time() + self._server.limits.body_s
        if head.expects_continue and not self._input and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _due_for_head(self) -> bool:
        return self.due_s <= self._loop.time() + self._server.limits.head_s

    def _read_length(self) -> bool:
        if self._missing and self._input:
            self._keep(bytes(self._input[: self._missing]))
            del self._input[: self._missing]
            self._missing -= len(self._body[-1])
        return self._missing == 0

    def _read_chunks(self) -> bool:
        """RFC 9112 section 7.1; extensions are skipped, trailers are dropped."""
        while True:
            if self._missing > 2:
                if not self._input:
                    return False
                part = bytes(self._input[: self._missing - 2])
                self._keep(part)
                del self._input[: len(part)]
                self._missing -= len(part)
            if 0 < self._missing <= 2:
                if len(self._input) < 2:
                    return False
                if self._input[:2] != b"\r\n":
                    raise Rejected(400, "a chunk does not end where it should")
                del self._input[:2]
                self._missing = 0
            line_end = self._input.find(b"\r\n")
            if line_end < 0:
                if len(self._input) > _MAX_CHUNK_LINE:
                    raise Rejected(400, "a chunk has no size")
                return False
            size = _chunk_size(bytes(self._input[:line_end]))
            if size == 0:
                return self._skip_trailers(line_end)
            if self._body_bytes + size > self._server.limits.request_bytes:
                raise Rejected(413, f"the body is larger than {self._server.limits.request_bytes} bytes")
            del self._input[: line_end + 2]
            self._missing = size + 2

    def _skip_trailers(self, line_end: int) -> bool:
        end = self._input.find(b"\r\n\r\n", line_end)
        if self._input[line_end : line_end + 4] == b"\r\n\r\n":
            end = line_end
        if end < 0:
            if len(self._input) > _MAX_HEAD_BYTES:
                raise Rejected(431, "the request's trailers are too large")
            return False
        del self._input[: end + 4]
        return True

    def _keep(self, part: bytes) -> None:
        self._body.append(part)
        self._body_bytes += len(part)
        server = self._server
        server.in_flight_bytes += len(part)
        # A request alone may always use its own limit.
        if server.in_flight_bytes > max(server.limits.in_flight_bytes, self._body_bytes):
            raise Rejected(503, "too much is in flight: send it again in a moment", retry_after_s=1)

    async def _respond(self, head: Head, body: bytes) -> None:
        try:
            answer = await self._server.site.answer(head, body, self._client)
        except Exception as error:
            # Never 500: clients must not retry it, and would drop what we could take a moment later.
            logger.exception("telemetry.answer_failed", extra={"error": repr(error)})
            answer = self._server.site.refuse(head, Rejected(503, "the agent failed", retry_after_s=1))
        finally:
            self._release()
        self.task = None
        self._send(answer, head, keep_alive=head.keep_alive)
        if self._transport is None:
            return
        if not head.keep_alive:
            self._transport.close()
            return
        self.due_s = self._loop.time() + self._server.limits.idle_s
        self._transport.resume_reading()
        if self._input:
            self._advance()

    def _refuse(self, rejected: Rejected) -> None:
        """Answer and close, reading on for a moment: a reset would take the answer from the client."""
        head = self._head
        answer = self._server.site.refuse(head, rejected)
        self._release()
        self._input.clear()
        self._send(answer, head, keep_alive=False)
        self._lingering = True
        self.due_s = self._loop.time() + self._server.limits.linger_s
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()

    def _release(self) -> None:
        self._server.in_flight_bytes -= self._body_bytes
        self._head = None
        self._body = []
        self._body_bytes = self._missing = 0

    def _send(self, answer: Answer, head: Head | None, *, keep_alive: bool) -> None:
        if self._transport is None:
            return
        lines = [
            f"HTTP/1.1 {answer.status} {_PHRASES.get(answer.status, 'Status')}",
            f"Content-Type: {answer.content_type}",
            f"Content-Length: {len(answer.body)}",
            *answer.headers,
        ]
        if not keep_alive:
            lines.append("Connection: close")
        # RFC 9110, section 9.3.2: the answer to HEAD is the same without its content.
        body = b"" if head is not None and head.method == "HEAD" else answer.body
        self._transport.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip(b" \t")
    if not digits or len(digits) > 16 or not all(byte in b"0123456789abcdefABCDEF" for byte in digits):
        raise Rejected(400, "a chunk has no size")
    return int(digits, 16)
