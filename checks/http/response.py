"""A strict, small HTTP/1.x response parser: bytes in, head and body out, hard limits on everything.

RFC 9110, RFC 9112. Pure: no socket, no clock. Lenient only where RFC 9112 allows a client to be (a bare LF
ends a line, an obsolete fold becomes a space, equal Content-Length values repeat).
"""

from __future__ import annotations

import re
from enum import Enum, auto
from functools import lru_cache
from typing import Final, Protocol

from msgspec import Struct

from checks.reason import Reason
from checks.wire.fault import Fault

HEAD_BYTES: Final = 65536
_LINE_BYTES: Final = 16384
_INTERIM_ANSWERS: Final = 5
_LONGEST_LENGTH: Final = 18
_REMEMBERED_BYTES: Final = 200
_STATUS_LINE: Final = re.compile(rb"HTTP/(\d)\.(\d) ([1-9]\d\d)(?: ([^\r\n\0]*))?")
_FIELD_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PLAIN_SIZE: Final = re.compile(rb"[0-9a-fA-F]{1,8}")
_SHORT_LINE_BYTES: Final = 12
_FRAMING_BYTES: Final = 1 << 17
_CHUNK_SIZE: Final = re.compile(rb"([0-9a-fA-F]{1,16})[ \t]*(?:;.*)?")
_FORBIDDEN: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Head(Struct, frozen=True, kw_only=True):
    """A response's status line and header fields, names in lower case, in order."""

    version: str
    status: int
    phrase: str
    fields: tuple[tuple[str, str], ...]
    _joined: dict[str, str]

    def get(self, name: str) -> str | None:
        """The value of the field called `name` (lower case); repeated fields are joined by commas."""
        return self._joined.get(name)

    def tokens(self, name: str) -> tuple[str, ...]:
        """Every comma-separated token of the field called `name`, in lower case."""
        value = self._joined.get(name)
        if value is None:
            return ()
        if "," not in value:
            return (value.lower(),) if value else ()
        return tuple([token.strip().lower() for token in value.split(",") if token.strip()])


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
        raw, size = _split_head(pending)
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


def reusable(head: Head) -> bool:
    """RFC 9112 section 9.3: whether the connection outlives the answer."""
    connection = head.tokens("connection")
    return "close" not in connection and (head.version != "1.0" or "keep-alive" in connection)


def parse_head(raw: bytes) -> Head:
    """Status line and fields of `raw`, which ends before the empty line. Raises Fault."""
    lines = raw.split(b"\r\n")
    if b"\n" in raw.replace(b"\r\n", b""):
        lines = [line.removesuffix(b"\r") for line in raw.split(b"\n")]
    match = _STATUS_LINE.fullmatch(lines[0])
    if match is None:
        raise Fault(Reason.PROTOCOL, f"sent a status line that is not valid: {shown(lines[0])}")
    major, minor = match[1].decode(), match[2].decode()
    # RFC 9110 section 2.5: a higher minor version is understood as the highest one known.
    if major != "1":
        raise Fault(Reason.HTTP_VERSION, f"answered in HTTP/{major}.{minor}")
    fields = _fields(lines)
    joined = dict(fields)
    if len(joined) != len(fields):
        joined = {}
        for name, value in fields:
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return Head(
        version=f"{major}.{minor}",
        status=int(match[3]),
        phrase=(match[4] or b"").decode("latin-1"),
        fields=fields,
        _joined=joined,
    )


def _fields(lines: list[bytes]) -> tuple[tuple[str, str], ...]:
    fields: list[tuple[str, str]] = []
    for line in lines[1:]:
        if line[:1] in (b" ", b"\t") and fields:
            name, value = fields[-1]
            fields[-1] = (name, f"{value} {line.decode('latin-1').strip()}")
        else:
            fields.append(_field(line) if len(line) <= _REMEMBERED_BYTES else _field.__wrapped__(line))
    return tuple(fields)


@lru_cache(maxsize=2048)
def _field(line: bytes) -> tuple[str, str]:
    """One header line; remembered, because a target sends the same ones with each answer."""
    name, colon, value = line.decode("latin-1").partition(":")
    if not colon or not _FIELD_NAME.fullmatch(name):
        raise Fault(Reason.PROTOCOL, f"sent a header line that is not valid: {shown(line)}")
    value = value.strip(" \t")
    if _FORBIDDEN.search(value):
        raise Fault(Reason.PROTOCOL, f'sent a control character in the header "{name[:60]}"')
    return name.lower(), value


def content_length(head: Head) -> int | None:
    text = head.get("content-length")
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) <= _LONGEST_LENGTH:
        return int(text)
    stripped = {value.strip() for value in text.split(",")}
    value = stripped.pop()
    if stripped:
        raise Fault(Reason.PROTOCOL, "sent two different Content-Length values")
    if not (value.isascii() and value.isdigit() and len(value) <= _LONGEST_LENGTH):
        raise Fault(Reason.PROTOCOL, f'sent the Content-Length "{value[:60]}", which is no length')
    return int(value)


def _split_head(buffer: bytes) -> tuple[bytes, int]:
    """The head without its empty line, and the bytes it took; -1 when it has not ended yet."""
    strict = buffer.find(b"\r\n\r\n")
    if strict >= 0 and buffer.count(b"\n", 0, strict) == buffer.count(b"\r\n", 0, strict):
        return buffer[:strict], strict + 4
    loose = buffer.find(b"\n\n", 0, strict if strict >= 0 else len(buffer))
    mixed = buffer.find(b"\n\r\n", 0, strict if strict >= 0 else len(buffer))
    ends = [(at, at + width) for at, width in ((strict, 4), (loose, 2), (mixed, 3)) if at >= 0]
    if not ends:
        return b"", -1
    at, size = min(ends)
    return buffer[:at], size


def shown(data: bytes, limit: int = 60) -> str:
    """The first bytes of `data`, as a person can read them."""
    text = data[:limit].decode("latin-1").encode("unicode_escape").decode("ascii")
    return f'"{text}"' + ("…" if len(data) > limit else "")
