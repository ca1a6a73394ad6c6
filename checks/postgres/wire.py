"""The few PostgreSQL protocol messages a knock needs, as bytes. Source: PostgreSQL docs, 55.7."""

from __future__ import annotations

import struct
from typing import Final

from msgspec import Struct

SSL_REQUEST: Final = struct.pack("!ii", 8, 80877103)
# Since 12; what follows a refusal or an acceptance is up to us, and hanging up leaves no line in the log.
GSSENC_REQUEST: Final = struct.pack("!ii", 8, 80877104)
TERMINATE: Final = b"X\x00\x00\x00\x04"
_PROTOCOL_3_0: Final = 196608
MAX_MESSAGE_BYTES: Final = 65536
INSUFFICIENT_RESOURCES: Final = "53000"


class ServerError(Struct, frozen=True, kw_only=True):
    """An ErrorResponse. `routine` is the C function that raised it; unlike `message` never translated."""

    sqlstate: str
    message: str = ""
    detail: str = ""
    routine: str = ""


def startup(*, user: str, database: str, application: str) -> bytes:
    """A StartupMessage of protocol 3.0."""
    pairs = ("user", user, "database", database, "application_name", application)
    body = b"".join(text.encode() + b"\x00" for text in pairs) + b"\x00"
    return struct.pack("!ii", len(body) + 8, _PROTOCOL_3_0) + body


def message_bytes(head: bytes) -> int:
    """Length of the body that follows the five bytes `head`. Raises ValueError when it cannot be one."""
    (length,) = struct.unpack("!i", head[1:5])
    if not 4 <= length <= MAX_MESSAGE_BYTES:
        raise ValueError(f"a message of {length} bytes")
    return int(length) - 4


def parse_error(body: bytes) -> ServerError:
    """An ErrorResponse's fields; a field that is missing is empty."""
    fields = {part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\x00") if part}
    return ServerError(
        sqlstate=fields.get(b"C", ""),
        message=fields.get(b"M", ""),
        detail=fields.get(b"D", ""),
        routine=fields.get(b"R", ""),
    )
