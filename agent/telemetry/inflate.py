"""Content-Encoding undone under a hard limit: a bomb costs the limit, a truncated body is named."""

from __future__ import annotations

import zlib
from typing import Final

from agent.telemetry.signals import Rejected

_STEP: Final = 256 * 1024
# Joined members are how batches are concatenated; each costs a new decoder, so endless ones are refused.
_MAX_MEMBERS: Final = 1024


def inflate(body: bytes, *, max_bytes: int) -> bytes:
    """The plain content of one or more gzip members. Raises Rejected: 413 beyond the limit, 400 if broken."""
    decoder = zlib.decompressobj(31)
    try:
        # Nearly every body is one small member: one call, no joining.
        plain = decoder.decompress(body, _STEP)
        if decoder.eof and not decoder.unused_data and len(plain) <= max_bytes:
            return plain
        return _inflate_all(body, max_bytes)
    except zlib.error:
        raise Rejected(400, "the body is not valid gzip") from None


def _inflate_all(body: bytes, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = members = 0
    decoder, ended = zlib.decompressobj(31), False
    for start in range(0, len(body), _STEP):
        # Fed in steps because what a decoder leaves over is copied each time.
        data = body[start : start + _STEP]
        while data:
            if ended:
                decoder, ended = zlib.decompressobj(31), False
            part = decoder.decompress(data, _STEP)
            parts.append(part)
            size += len(part)
            if size > max_bytes:
                raise Rejected(
                    413,
                    f"the body is larger than {max_bytes} bytes after decompression: send smaller batches",
                )
            if decoder.eof:
                data, ended = decoder.unused_data, True
                members += 1
                if members > _MAX_MEMBERS:
                    raise Rejected(400, f"the body has more than {_MAX_MEMBERS} gzip members")
            else:
                data = decoder.unconsumed_tail
    if not ended:
        raise Rejected(400, "the gzip body ends early: send it again whole")
    return b"".join(parts)
