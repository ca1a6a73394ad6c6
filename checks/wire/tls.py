"""TLS over a Wire, through memory buffers: arrival times stay the kernel's, and a connection costs 60 kB."""

from __future__ import annotations

import ssl
import time
from typing import Final

from checks.reason import Reason
from checks.wire.fault import Fault
from checks.wire.stream import Wire

_READ_BYTES: Final = 65536
# RFC 8446 section 5.1: the first record a server sends is a handshake message or an alert.
_RECORD_TYPES: Final = (0x15, 0x16)


class TlsWire:
    """A TLS client connection. `handshake_s` leaves out our own lateness."""

    __slots__ = ("_in", "_out", "_ssl", "_wire", "handshake_s", "plain_answer")

    def __init__(self, wire: Wire, context: ssl.SSLContext, *, server_name: str | None) -> None:
        self._wire = wire
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._in, self._out, server_hostname=server_name)
        self.handshake_s = 0.0
        self.plain_answer = b""

    @property
    def ssl_object(self) -> ssl.SSLObject:
        return self._ssl

    @property
    def arrived_s(self) -> float:
        return self._wire.arrived_s

    async def handshake(self) -> None:
        """Raises ssl.SSLError, Fault (not TLS, closed) and OSError."""
        started, lag_s = time.monotonic(), self._wire.lag_s
        first = True
        while True:
            try:
                self._ssl.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self._wire.receive()
                if not data:
                    raise Fault(
                        Reason.CONNECTION_CLOSED, "closed the connection in the TLS handshake", hard=True
                    ) from None
                if first and data[0] not in _RECORD_TYPES:
                    self.plain_answer = data[:200]
                    raise Fault(
                        Reason.NOT_TLS, "answers, but not in TLS: does this port speak plain text?"
                    ) from None
                first = False
                self._in.write(data)
            except ssl.SSLError:
                await self._flush()  # the alert that tells the server why
                raise
            else:
                break
        await self._flush()
        self.handshake_s = max(0.0, time.monotonic() - started - (self._wire.lag_s - lag_s))

    async def send(self, data: bytes) -> None:
        self._ssl.write(data)
        await self._flush()

    async def receive(self) -> bytes:
        """Decrypted bytes; b"" after close_notify. Raises ssl.SSLEOFError at an end without one."""
        while True:
            try:
                return self._ssl.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                if self._out.pending:
                    await self._flush()
                data = await self._wire.receive()
                if data:
                    self._in.write(data)
                else:
                    self._in.write_eof()
            except ssl.SSLZeroReturnError:
                return b""

    async def _flush(self) -> None:
        data = self._out.read()
        if data:
            await self._wire.send(data)

    def close(self) -> None:
        self._wire.close()
