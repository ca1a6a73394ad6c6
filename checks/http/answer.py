"""A whole answer, and the short way to one that is ordinary: a target says the same head again and again."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from msgspec import Struct

from checks.http.head import Head, content_length, parse_head, reusable
from checks.http.response import HEAD_BYTES
from checks.wire.fault import Fault

_REMEMBERED_BYTES: Final = 2048
_DATE_FIELD: Final = b"\r\nDate: "
_DATE: Final = re.compile(rb"[A-Za-z0-9 ,:]{29}")  # RFC 9110 section 5.6.7
_DATE_BYTES: Final = 37


class Answer(Struct, frozen=True, kw_only=True):
    """A whole response. `body` is decoded; `wire_bytes` is its size before decoding."""

    head: Head
    body: bytes
    wire_bytes: int
    reusable: bool


def plain_answer(data: bytes, body_limit: int) -> Answer | None:
    """The answer when `data` is one ordinary answer, whole and nothing else; the parser reads all others."""
    end = data.find(b"\r\n\r\n")
    head = _known_head(data[:end]) if end >= 0 else None
    if head is None or len(data) - end - 4 != head.body_bytes or head.body_bytes > body_limit:
        return None
    return Answer(head=head.head, body=data[end + 4 :], wire_bytes=head.body_bytes, reusable=head.reusable)


class _PlainHead(Struct, frozen=True, kw_only=True):
    """A head after which exactly `body_bytes` bytes follow as they are."""

    head: Head
    body_bytes: int
    reusable: bool


def _known_head(raw: bytes) -> _PlainHead | None:
    """What `raw`, which ends before the empty line, says, if it is a plain final answer of known length.

    None for everything else, wrong or only unusual: `ResponseParser` tells. Remembered but for its Date,
    because a target says the same with each answer; the Date is left out then.
    """
    at = raw.find(_DATE_FIELD)
    if at >= 0:
        stop = at + _DATE_BYTES
        ends = raw[stop : stop + 2] in (b"\r\n", b"") and raw[stop + 2 : stop + 3] not in (b" ", b"\t")
        if ends and _DATE.fullmatch(raw, at + 8, stop):
            raw = raw[:at] + raw[stop:]
    return _plain_head(raw) if len(raw) <= _REMEMBERED_BYTES else _plain_head.__wrapped__(raw)


@lru_cache(maxsize=512)
def _plain_head(raw: bytes) -> _PlainHead | None:
    if len(raw) > HEAD_BYTES - 4 or raw.count(b"\n") != raw.count(b"\r\n"):
        return None
    try:
        head = parse_head(raw)
        length = content_length(head)
    except Fault:
        return None
    if length is None or head.status < 200 or head.status in (204, 304):
        return None
    if head.get("transfer-encoding") is not None or head.get("content-encoding") is not None:
        return None
    return _PlainHead(head=head, body_bytes=length, reusable=reusable(head))
