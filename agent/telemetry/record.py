"""One record of the durable log, on disk: a checked header and the client's own bytes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from msgspec import Struct

from agent.telemetry.signals import Lane

# magic, header crc, payload length, payload crc, seq, received ns, lane, gzip, items, oldest event ns, digest
_HEADER: Final = struct.Struct("<2sIIIQQBBIQ16s")
_MAGIC: Final = b"gT"
_CHECKED_FROM: Final = 6
HEADER_BYTES: Final = _HEADER.size
MAX_PAYLOAD_BYTES: Final = 1 << 30


class Head(Struct, frozen=True, kw_only=True):
    """What is known of a record without its payload.

    `oldest_ns` is the earliest event's time, 0 when not said; `digest` recognises a client's retry.
    """

    seq: int
    received_ns: int
    lane: Lane
    gzip: bool
    items: int
    oldest_ns: int
    digest: bytes
    payload_bytes: int = 0
    payload_crc: int = 0

    @property
    def disk_bytes(self) -> int:
        """Header and payload."""
        return HEADER_BYTES + self.payload_bytes


class Placed(Struct, frozen=True):
    """A record's head and where it begins in its segment."""

    head: Head
    offset: int


def encode(head: Head, payload: bytes) -> bytes:
    """The header for `payload`; the caller writes it and then the payload itself."""
    header = bytearray(
        _HEADER.pack(
            _MAGIC, 0, len(payload), zlib.crc32(payload), head.seq, head.received_ns, head.lane,
            head.gzip, head.items, head.oldest_ns, head.digest,
        )
    )  # fmt: skip
    struct.pack_into("<I", header, 2, zlib.crc32(header[_CHECKED_FROM:]))
    return bytes(header)


def decode(header: bytes) -> Head | None:
    """The head that these bytes spell; None when they are not one."""
    if len(header) < HEADER_BYTES or header[:2] != _MAGIC:
        return None
    _, crc, length, payload_crc, seq, received_ns, lane, gzip, items, oldest_ns, digest = _HEADER.unpack(
        header
    )
    if crc != zlib.crc32(header[_CHECKED_FROM:]) or length > MAX_PAYLOAD_BYTES or lane not in set(Lane):
        return None
    return Head(
        seq=seq,
        received_ns=received_ns,
        lane=Lane(lane),
        gzip=bool(gzip),
        items=items,
        oldest_ns=oldest_ns,
        digest=digest,
        payload_bytes=length,
        payload_crc=payload_crc,
    )


def heads(path: Path, *, start: int = 0, end: int | None = None) -> Iterator[Placed | int]:
    """The records between two offsets in order; an int is a number of damaged bytes that were skipped.

    Payloads are not read: `payload` checks them when they are used.
    """
    with path.open("rb", buffering=64 * 1024) as file:
        size = file.seek(0, 2) if end is None else end
        offset = start
        while offset < size:
            file.seek(offset)
            head = decode(file.read(HEADER_BYTES))
            if head is not None and offset + head.disk_bytes <= size:
                yield Placed(head, offset)
                offset += head.disk_bytes
                continue
            found = _next_header(file, offset + 1, size)
            yield found - offset
            offset = found


def payload(path: Path, placed: Placed) -> bytes | None:
    """A record's payload; None when it is damaged or gone."""
    try:
        with path.open("rb") as file:
            file.seek(placed.offset + HEADER_BYTES)
            content = file.read(placed.head.payload_bytes)
    except FileNotFoundError:
        return None
    intact = len(content) == placed.head.payload_bytes and zlib.crc32(content) == placed.head.payload_crc
    return content if intact else None


def _next_header(file: BinaryIO, start: int, size: int) -> int:
    """Where the next valid header begins at or after `start`; `size` when there is none."""
    at = start
    while at < size:
        file.seek(at)
        window = file.read(256 * 1024)
        found = window.find(_MAGIC)
        while found >= 0:
            file.seek(at + found)
            if decode(file.read(HEADER_BYTES)) is not None:
                return at + found
            found = window.find(_MAGIC, found + 1)
        at += max(len(window) - 1, 1)
    return size
