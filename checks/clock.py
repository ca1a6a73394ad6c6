"""The two clocks, injected wherever time matters."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Durations come from `monotonic_s`; `wall_s` is only shown and stored."""

    def monotonic_s(self) -> float:
        """Seconds that never jump or go back; the origin means nothing."""
        ...

    def wall_s(self) -> float:
        """Seconds since 1970-01-01 UTC; may step."""
        ...


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    def monotonic_s(self) -> float:
        return time.monotonic()

    def wall_s(self) -> float:
        return time.time()
