"""The head of an HTTP/1.x response: where it ends, its lines, and what they say of its framing.

RFC 9110, RFC 9112, read as strictly as a client may.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from msgspec import Struct

from checks.reason import Reason
from checks.wire.fault import Fault

_LONGEST_LENGTH: Final = 18
_REMEMBERED_BYTES: Final = 200
_STATUS_LINE: Final = re.compile(rb"HTTP/(\d)\.(\d) ([1-9]\d\d)(?: ([^\r\n\0]*))?")
_FIELD_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
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
    """RFC 9112 section 6.3: the length the head promises; None when it promises none. Raises Fault."""
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


def split_head(buffer: bytes) -> tuple[bytes, int]:
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
