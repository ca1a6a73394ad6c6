"""The decoded body of an answer, never larger than its limit, whatever a hostile server sends."""

from __future__ import annotations

import zlib
from typing import Final, Protocol

from checks.http.head import Head
from checks.reason import Reason
from checks.units import Size
from checks.wire.fault import Fault

_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_CODINGS_AT_ONCE: Final = 2
_DEFLATE_METHOD: Final = 8


class _Decoder(Protocol):
    def decode(self, data: bytes, limit: int) -> bytes: ...

    def end(self) -> None: ...


class Body:
    """Collects and decodes the pieces of a body. Raises Fault when it is too large or broken."""

    __slots__ = ("_codings", "_decoders", "_kept", "_limit", "_pieces", "wire_bytes")

    def __init__(self, *, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._pieces: list[bytes] = []
        self._kept = 0
        self._codings: tuple[str, ...] = ()
        self._decoders: tuple[_Decoder, ...] = ()
        self.wire_bytes = 0

    def begin(self, head: Head) -> None:
        """The head tells the codings, in the order they were applied."""
        self._codings = head.tokens("content-encoding")

    def _decode(self) -> None:
        named = tuple(coding for coding in self._codings if coding != "identity")
        if len(named) > _CODINGS_AT_ONCE:
            raise Fault(Reason.DECODE, f"applies {len(named)} content codings to one body")
        decoders: list[_Decoder] = []
        for coding in reversed(named):
            if coding in ("gzip", "x-gzip"):
                decoders.append(_Gzip())
            elif coding == "deflate":
                decoders.append(_Deflate())
            else:
                raise Fault(
                    Reason.DECODE, f'uses the content coding "{coding[:40]}", which was not asked for'
                )
        self._decoders = tuple(decoders)

    def take(self, piece: bytes) -> None:
        """The next piece as it came."""
        if self._codings and not self.wire_bytes:
            self._decode()
        self.wire_bytes += len(piece)
        if self.wire_bytes > self._limit:
            raise self._too_large()
        for decoder in self._decoders:
            # One byte more than allowed is enough to know.
            piece = decoder.decode(piece, self._limit - self._kept + 1)
        self._kept += len(piece)
        if self._kept > self._limit:
            raise self._too_large()
        if piece:
            self._pieces.append(piece)

    def end(self) -> None:
        """The body is complete on the wire. Raises Fault when its coding is not."""
        if self.wire_bytes:
            for decoder in self._decoders:
                decoder.end()

    def content(self) -> bytes:
        """What was collected so far."""
        if len(self._pieces) > 1:
            self._pieces = [b"".join(self._pieces)]
        return self._pieces[0] if self._pieces else b""

    def _too_large(self) -> Fault:
        return Fault(Reason.BODY_TOO_LARGE, f"sends a body larger than {Size(self._limit)}")


class _Gzip:
    """RFC 1952, several members allowed."""

    __slots__ = ("_inflate",)

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_GZIP_WINDOW)

    def decode(self, data: bytes, limit: int) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while data and size < limit:
            if self._inflate.eof:
                self._inflate = zlib.decompressobj(_GZIP_WINDOW)
            piece = _inflated(self._inflate, data, limit - size)
            pieces.append(piece)
            size += len(piece)
            data = self._inflate.unused_data or self._inflate.unconsumed_tail
        return b"".join(pieces)

    def end(self) -> None:
        if not self._inflate.eof:
            raise Fault(Reason.DECODE, "ended its gzip body early")


class _Deflate:
    """RFC 9110 section 8.4.1.2 says zlib; some servers send the bare stream."""

    __slots__ = ("_inflate",)

    def __init__(self) -> None:
        self._inflate: zlib._Decompress | None = None

    def decode(self, data: bytes, limit: int) -> bytes:
        if not data:
            return b""
        if self._inflate is None:
            wrapped = data[0] & 0x0F == _DEFLATE_METHOD
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
        if self._inflate.eof:
            raise Fault(Reason.DECODE, "sent more after the end of its deflate body")
        return _inflated(self._inflate, data, limit)

    def end(self) -> None:
        if self._inflate is None or not self._inflate.eof:
            raise Fault(Reason.DECODE, "ended its deflate body early")


def _inflated(inflate: zlib._Decompress, data: bytes, limit: int) -> bytes:
    try:
        return inflate.decompress(data, limit)
    except zlib.error as error:
        raise Fault(Reason.DECODE, f"sent a compressed body that is broken ({error})") from error
