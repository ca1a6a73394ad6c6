"""One NATS connection, spoken by hand: what it says is what the server said, now.

nats-py answers flush() for servers that are gone (its reconnect buffer) and takes 350 ms to import, so
neither liveness nor the JetStream API goes through it. Source: NATS client protocol documentation.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from checks.nats.credentials import Credentials
from checks.nats.place import Place

_MAX_LINE_BYTES: Final = 1 << 20
_NAME: Final = "gaia-agent"
_T = TypeVar("_T")


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says of itself before anything else."""

    server_id: str = ""
    server_name: str = ""
    version: str = ""
    cluster: str = ""
    jetstream: bool = False
    tls_required: bool = False
    tls_available: bool = False
    auth_required: bool = False
    max_payload: int = 0
    nonce: str = ""
    ldm: bool = False
    client_id: int = 0


class Reply(Struct, frozen=True, kw_only=True):
    """A message received; `status` is the code of a status header such as 503, 0 without one."""

    subject: str
    data: bytes
    status: int = 0


class LinkRefusedError(Exception):
    """The server said -ERR; `text` is what it said."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class NotNatsError(Exception):
    """What was received is not NATS; `text` holds its first bytes."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class TlsMissingError(Exception):
    """TLS is configured and the server offers none; nothing was sent."""


class Link(asyncio.Protocol):
    """A connection from its first byte on.

    What waits raises OSError when the connection ends and LinkRefusedError when the server said -ERR before.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.info = Info()
        self.errors: list[str] = []
        self.on_lost: Callable[[], None] | None = None
        self.on_lame_duck: Callable[[], None] | None = None
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._greeted: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._pongs: list[asyncio.Future[None]] = []
        self._listeners: dict[int, Callable[[Reply], None]] = {}
        self._next_sid = 1
        self._closing = False

    @classmethod
    async def connect(cls, address: str, port: int) -> Link:
        """A TCP connection to the literal `address`, nothing said yet. Raises OSError."""
        _, link = await asyncio.get_running_loop().create_connection(cls, address, port)
        return link

    async def enter(
        self,
        place: Place,
        *,
        credentials: Credentials | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """Be greeted, log in and see one PONG. The caller owns the deadline and closes.

        Raises OSError, ssl.SSLError, LinkRefusedError, NotNatsError or TlsMissingError.
        """
        await self._during(self._greeted)
        if place.tls or self.info.tls_required:
            if not (self.info.tls_required or self.info.tls_available):
                raise TlsMissingError
            await self._start_tls(context or ssl.create_default_context(), place.host)
        self._write(b"CONNECT " + json.dumps(self._hello(place, credentials)).encode() + b"\r\n")
        await self.ping()

    async def ping(self) -> None:
        """PING, and wait for this PING's PONG."""
        pong: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pongs.append(pong)
        self._write(b"PING\r\n")
        await self._during(pong)

    async def request(self, subject: str, data: bytes = b"") -> Reply:
        """One request, one reply. Nobody listening gives a reply with status 503."""
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        inbox = f"_INBOX.gaia.{self.info.client_id}.{self._next_sid}"

        def take(reply: Reply) -> None:
            if not answer.done():
                answer.set_result(reply)

        sid = self.subscribe(inbox, take)
        try:
            self.publish(subject, data, reply_to=inbox)
            return await self._during(answer)
        finally:
            self.unsubscribe(sid)

    def subscribe(self, subject: str, listener: Callable[[Reply], None]) -> int:
        sid, self._next_sid = self._next_sid, self._next_sid + 1
        self._listeners[sid] = listener
        self._write(f"SUB {subject} {sid}\r\n".encode())
        return sid

    def unsubscribe(self, sid: int) -> None:
        self._listeners.pop(sid, None)
        self._write(f"UNSUB {sid}\r\n".encode())

    def publish(self, subject: str, data: bytes = b"", *, reply_to: str = "") -> None:
        self._write(
            f"PUB {subject} {reply_to + ' ' if reply_to else ''}{len(data)}\r\n".encode() + data + b"\r\n"
        )

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._ended.done()

    def close(self) -> None:
        """Close at once; `on_lost` is not called. May be called twice."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._step():
            pass
        if len(self._buffer) > _MAX_LINE_BYTES + self.info.max_payload:
            self._fail(NotNatsError(self._buffer[:40].decode(errors="replace")))

    def connection_lost(self, exc: Exception | None) -> None:
        error = exc if isinstance(exc, OSError) else ConnectionResetError("the server closed the connection")
        if self.errors and exc is None:
            self._fail(LinkRefusedError(self.errors[-1]))
        else:
            self._fail(error)
        if self.on_lost is not None and not self._closing:
            self.on_lost()

    # Inside

    async def _start_tls(self, context: ssl.SSLContext, host: str) -> None:
        assert self._transport is not None
        transport = await asyncio.get_running_loop().start_tls(
            self._transport, self, context, server_hostname=host
        )
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def _hello(self, place: Place, credentials: Credentials | None) -> dict[str, object]:
        hello: dict[str, object] = {
            "verbose": False,
            "pedantic": False,
            "name": _NAME,
            "lang": "python",
            "version": "1",
            "protocol": 1,  # Only then does the server announce its lame duck mode.
            "headers": True,
            "no_responders": True,
        }
        if place.user:
            hello |= {"user": place.user, "pass": place.password.reveal()}
        if place.token:
            hello["auth_token"] = place.token.reveal()
        if credentials is not None:
            hello["sig"] = credentials.sign(self.info.nonce)
            if credentials.jwt:
                hello["jwt"] = credentials.jwt.reveal()
            else:
                hello["nkey"] = credentials.public_key()
        return hello

    async def _during(self, waited: asyncio.Future[_T]) -> _T:
        both: set[asyncio.Future[_T] | asyncio.Future[None]] = {waited, self._ended}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if waited.done():
            return waited.result()
        waited.cancel()
        return self._ended.result()  # type: ignore[return-value]  # It never has a result, it raises.

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _fail(self, error: Exception) -> None:
        if self._ended.done():
            return
        self._ended.set_exception(error)
        self._ended.exception()  # Read here: a link that nobody waits on may fail in silence.
        if self._transport is not None:
            self._transport.abort()

    def _step(self) -> bool:
        """Take one message off the buffer; False when it is not complete."""
        line, found, rest = self._buffer.partition(b"\r\n")
        if not found:
            return self._check_start()
        word = line[:4].upper()
        if word in (b"MSG ", b"HMSG"):
            return self._message(line, rest)
        self._buffer = rest
        if word == b"PING":
            self._write(b"PONG\r\n")
        elif word == b"PONG":
            self._pong()
        elif word == b"INFO":
            self._take_info(line[5:])
        elif word == b"-ERR":
            self._refused(line[5:].decode(errors="replace").strip("' "))
        elif not self._greeted.done():
            self._fail(NotNatsError(line[:40].decode(errors="replace")))
        return bool(rest)

    def _check_start(self) -> bool:
        start = self._buffer[:5].upper()
        if not self._greeted.done() and start and not (b"INFO "[: len(start)] == start or start[:1] == b"-"):
            self._fail(NotNatsError(self._buffer[:40].decode(errors="replace")))
        return False

    def _pong(self) -> None:
        if self._pongs:
            pong = self._pongs.pop(0)
            # A PONG whose PING was given up on still belongs to that PING, not to the next one.
            if not pong.done():
                pong.set_result(None)

    def _take_info(self, text: bytes) -> None:
        try:
            self.info = msgspec.json.decode(text, type=Info)
        except msgspec.MsgspecError:
            self._fail(NotNatsError(text[:40].decode(errors="replace")))
            return
        if not self._greeted.done():
            self._greeted.set_result(None)
        elif self.info.ldm and self.on_lame_duck is not None:
            self.on_lame_duck()

    def _refused(self, text: str) -> None:
        self.errors.append(text)
        if "permissions violation" not in text.lower():
            self._fail(LinkRefusedError(text))

    def _message(self, line: bytes, rest: bytes) -> bool:
        words = line.split()
        with_header = words[0].upper() == b"HMSG"
        try:
            total, sid = int(words[-1]), int(words[2])
            header_bytes = int(words[-2]) if with_header else 0
        except (ValueError, IndexError):
            total, sid, header_bytes = -1, 0, 0
        if not 0 <= header_bytes <= total <= _MAX_LINE_BYTES + self.info.max_payload:
            self._fail(NotNatsError(line[:40].decode(errors="replace")))
            self._buffer = b""
            return False
        if len(rest) < total + 2:
            return False
        self._buffer = rest[total + 2 :]
        listener = self._listeners.get(sid)
        if listener is not None:
            status = rest[8:12].strip() if with_header else b""
            listener(
                Reply(
                    subject=words[1].decode(errors="replace"),
                    data=rest[header_bytes:total],
                    status=int(status) if status.isdigit() else 0,
                )
            )
        return bool(self._buffer)
