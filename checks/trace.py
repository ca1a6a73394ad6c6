"""W3C trace context for what probes send: a trace of its own for each."""

from __future__ import annotations

import os
from typing import Final

_TRACES_AT_ONCE: Final = 64
_TRACE_DIGITS: Final = 32


class TraceIds:
    """Random ids, drawn from the system many at a time: a call for each would cost as much as its request."""

    __slots__ = ("_digits", "_left")

    def __init__(self) -> None:
        self._digits = ""
        self._left = 0

    def draw(self) -> tuple[str, str]:
        """A trace id and a parent id, 32 and 16 hexadecimal digits.

        The parent is the trace's second half: whoever has the one has the other, as its span needs.
        """
        if not self._left:
            self._digits = os.urandom(_TRACES_AT_ONCE * _TRACE_DIGITS // 2).hex()
            self._left = _TRACES_AT_ONCE
        self._left -= 1
        at = self._left * _TRACE_DIGITS
        trace_id = self._digits[at : at + _TRACE_DIGITS]
        return trace_id, trace_id[_TRACE_DIGITS // 2 :]
