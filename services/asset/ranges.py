"""Byte ranges of RFC 9110: one range, or the whole."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_RANGE: Final = re.compile(r"bytes=\s*(\d{0,19})-(\d{0,19})\s*")


@dataclass(frozen=True, slots=True)
class Span:
    """`length` bytes from `start`."""

    start: int
    length: int

    def content_range(self, size: int) -> str:
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


class UnsatisfiableRangeError(ValueError):
    """The range lies outside the content: 416."""


def parse_range(header: str | None, size: int) -> Span | None:
    """The range asked for; None for none, several or a malformed one (RFC 9110 §14.2: then send everything).

    Raises UnsatisfiableRangeError.
    """
    if header is None or (match := _RANGE.fullmatch(header)) is None:
        return None
    first, last = match.groups()
    if not first and not last:
        return None
    if not first:
        length = min(int(last), size)
        if length == 0:
            raise UnsatisfiableRangeError(header)
        return Span(size - length, length)
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise UnsatisfiableRangeError(header)
    end = min(int(last), size - 1) if last else size - 1
    return Span(start, end - start + 1)
