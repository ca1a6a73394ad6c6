"""A strict, small HTTP/1.x response parser: bytes in, head and body out, hard limits on everything.

RFC 9110, RFC 9112. Pure: no socket, no clock. Lenient only where RFC 9112 allows a client to be (a bare LF
ends a line, an obsolete fold becomes a space, equal Content-Length values repeat).
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Final, Protocol

from checks.http.head import Head, content_length, parse_head, reusable, shown, split_head
from checks.reason import Reason
from checks.wire.fault import Fault

HEAD_BYTES: Final = 65536
_LINE_BYTES: Final = 16384
_INTERIM_ANSWERS: Final = 5
_PLAIN_SIZE: Final = re.compile(rb"[0-9a-fA-F]{1,8}")
_SHORT_LINE_BYTES: Final = 12
_FRAMING_BYTES: Final = 1 << 17
_CHUNK_SIZE: Final = re.compile(rb"([0-9a-fA-F]{1,16})[ \t]*(?:;.*)?")


class _At(Enum):
    HEAD = auto()
    LENGTH = auto()
    UNTIL_CLOSE = auto()
    CHUNK_SIZE = auto()
    CHUNK = auto()
    CHUNK_END = auto()
    TRAILER = auto()
    DONE = auto()


class Sink(Protocol):
    """Where a body goes."""

    def begin(self, head: Head) -> None:
        """The head of the answer whose body follows."""
        ...

    def take(self, piece: bytes) -> None:
        """The next piece of the body, without its transfer coding. May raise Fault."""
        ...


class ResponseParser:
    """Reads one response into `sink`; raises Fault."""

    __slots__ = (
        "_at",
        "_bodyless",
        "_buffer",
        "_framing_bytes",
        "_interim",
        "_left",
        "_position",
        "_sink",
        "head",
        "head_bytes",
        "reusable",
    )

    def __init__(self, *, method: str, sink: Sink) -> None:
        self._at = _At.HEAD
        self._bodyless = method == "HEAD"
        self._buffer = b""
        self._framing_bytes = 0
        self._interim = 0
        self._left = 0
        self._position = 0  # what lies before it is consumed; tiny chunks must not copy the buffer each
        self._sink = sink
        self.head: Head | None = None
        self.head_bytes = 0
        self.reusable = False

    @property
    def done(self) -> bool:
        return self._at is _At.DONE

    def feed(self, data: bytes) -> None:
        """More bytes arrived."""
        self._buffer = self._buffer + data if self._buffer else data
        while self._position < len(self._buffer) and self._step():
            pass
        self._buffer = self._buffer[self._position :]
        self._position = 0
        if self._at is _At.DONE and self._buffer:
            # Whatever follows was not asked for: the connection cannot be trusted with a next request.
            self.reusable = False

    def end(self) -> None:
        """The connection ended. Raises Fault when the response had not."""
        if self._at is _At.UNTIL_CLOSE:
            self._at = _At.DONE
        elif self._at is _At.HEAD and not self._buffer and self.head_bytes == 0:
            raise Fault(Reason.CONNECTION_CLOSED, "closed the connection without an answer", hard=True)
        elif self._at is _At.HEAD:
            raise Fault(Reason.PROTOCOL, "ended its answer in the middle of the header")
        elif self._at is _At.LENGTH:
            raise Fault(Reason.INCOMPLETE_BODY, f"ended the body {self._left} bytes early")
        elif self._at is not _At.DONE:
            raise Fault(Reason.INCOMPLETE_BODY, "ended the chunked body before its last chunk")

    def _step(self) -> bool:
        """Consume what can be consumed; False when more bytes are needed."""
        match self._at:
            case _At.HEAD:
                return self._read_head()
            case _At.LENGTH | _At.CHUNK:
                return self._read_counted()
            case _At.UNTIL_CLOSE:
                self._sink.take(self._buffer[self._position :])
                self._position = len(self._buffer)
                return False
            case _At.CHUNK_SIZE:
                return self._read_chunks() or self._read_line()
            case _At.CHUNK_END | _At.TRAILER:
                return self._read_line()
            case _At.DONE:
                return False

    def _read_head(self) -> bool:
        pending = self._buffer[self._position :] if self._position else self._buffer
        if not b"HTTP/".startswith(pending[:5]):
            raise Fault(Reason.PROTOCOL, f"answered something that is not HTTP: {shown(pending)}")
        raw, size = split_head(pending)
        if max(size, 0 if size >= 0 else len(pending)) + self.head_bytes > HEAD_BYTES:
            raise Fault(Reason.BODY_TOO_LARGE, f"sent a header larger than {HEAD_BYTES} bytes")
        if size < 0:
            return False
        self._position += size
        self.head_bytes += size
        head = parse_head(raw)
        if 100 <= head.status < 200 and head.status != 101:
            self._interim += 1
            if self._interim > _INTERIM_ANSWERS:
                raise Fault(Reason.PROTOCOL, f"sent more than {_INTERIM_ANSWERS} interim answers")
            return True
        self.head = head
        self._begin_body(head)
        self._sink.begin(head)
        return True

    def _begin_body(self, head: Head) -> None:
        """RFC 9112 section 6.3: how long the body is."""
        self.reusable = reusable(head)
        length = content_length(head)
        codings = head.tokens("transfer-encoding")
        if self._bodyless or head.status in (101, 204, 304):
            self._at = _At.DONE
        elif codings:
            if codings != ("chunked",):
                raise Fault(Reason.PROTOCOL, f'uses the transfer coding "{", ".join(codings)[:60]}"')
            if head.version == "1.0":
                raise Fault(Reason.PROTOCOL, "uses chunks in an HTTP/1.0 answer")
            # Both framings at once is how requests are smuggled: never reuse such a connection.
            self.reusable = self.reusable and length is None
            self._at = _At.CHUNK_SIZE
        elif length is not None:
            self._left = length
            self._at = _At.LENGTH if length else _At.DONE
        else:
            self.reusable = False
            self._at = _At.UNTIL_CLOSE

    def _read_counted(self) -> bool:
        piece = self._buffer[self._position : self._position + self._left]
        self._position += len(piece)
        self._left -= len(piece)
        self._sink.take(piece)
        if self._left:
            return False
        self._at = _At.DONE if self._at is _At.LENGTH else _At.CHUNK_END
        return True

    def _read_chunks(self) -> bool:
        """Take all chunks that are whole, at once: a body in crumbs must not hold up everybody else."""
        buffer, at, pieces = self._buffer, self._position, []
        while (end := buffer.find(b"\r\n", at, at + _SHORT_LINE_BYTES)) > 0:
            match = _PLAIN_SIZE.fullmatch(buffer, at, end)
            stop = end + 2 + int(match[0], 16) if match is not None else 0
            if stop <= end + 2 or buffer[stop : stop + 2] != b"\r\n":
                break
            pieces.append(buffer[end + 2 : stop])
            self._spend(end + 4 - at)
            at = stop + 2
        if not pieces:
            return False
        self._position = at
        self._sink.take(b"".join(pieces))
        return True

    def _spend(self, framing_bytes: int) -> None:
        self._framing_bytes += framing_bytes
        if self._framing_bytes > _FRAMING_BYTES:
            raise Fault(
                Reason.BODY_TOO_LARGE, f"spends more than {_FRAMING_BYTES} bytes on framing its chunks"
            )

    def _read_line(self) -> bool:
        end = self._buffer.find(b"\n", self._position)
        if (len(self._buffer) if end < 0 else end) - self._position > _LINE_BYTES:
            raise Fault(Reason.PROTOCOL, f"sent a line of more than {_LINE_BYTES} bytes between chunks")
        if end < 0:
            return False
        self._spend(end + 1 - self._position)
        line = self._buffer[self._position : end].removesuffix(b"\r")
        self._position = end + 1
        if self._at is _At.CHUNK_SIZE:
            self._begin_chunk(line)
        elif self._at is _At.CHUNK_END:
            if line:
                raise Fault(Reason.PROTOCOL, "sent a chunk longer than it said")
            self._at = _At.CHUNK_SIZE
        else:
            self._read_trailer(line)
        return True

    def _begin_chunk(self, line: bytes) -> None:
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            raise Fault(Reason.PROTOCOL, f"sent a chunk size that is no number: {shown(line)}")
        self._left = int(match[1], 16)
        self._at = _At.CHUNK if self._left else _At.TRAILER

    def _read_trailer(self, line: bytes) -> None:
        self.head_bytes += len(line) + 2
        if self.head_bytes > HEAD_BYTES:
            raise Fault(Reason.BODY_TOO_LARGE, f"sent header and trailer larger than {HEAD_BYTES} bytes")
        if not line:
            self._at = _At.DONE
