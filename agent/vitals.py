"""How the agent itself is doing: late loop, late looks, and holes in its own time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from checks.clock import Clock

_BEAT_S: Final = 0.25
_KEPT_BEATS: Final = 240
# The process was stopped, or the machine slept: shorter pauses are lag, longer ones are a hole.
_GAP_S: Final = 5.0
_STEP_S: Final = 1.0


class Gap(Struct, frozen=True, kw_only=True):
    """A time the agent did not live through: `lost_s` seconds, `stepped_s` of them by the wall clock."""

    lost_s: float
    stepped_s: float


class Vitals:
    """Measures the event loop by asking to be called every 250 ms; keeps the last minute."""

    def __init__(self, clock: Clock, on_gap: Callable[[Gap], None]) -> None:
        self._clock = clock
        self._on_gap = on_gap
        self._lags_s: deque[float] = deque(maxlen=_KEPT_BEATS)
        self._look_lags_s: deque[float] = deque(maxlen=1000)
        self.started_s = clock.wall_s()
        self.missed_looks = 0

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            monotonic_s, wall_s = self._clock.monotonic_s(), self._clock.wall_s()
            await asyncio.sleep(_BEAT_S)
            elapsed_s = self._clock.monotonic_s() - monotonic_s
            stepped_s = self._clock.wall_s() - wall_s - elapsed_s
            self._lags_s.append(max(0.0, elapsed_s - _BEAT_S))
            # After a suspend Linux's monotonic clock has stood still, so the wall clock seems to step.
            if elapsed_s > _GAP_S or abs(stepped_s) > _STEP_S:
                self._on_gap(Gap(lost_s=elapsed_s + max(0.0, stepped_s), stepped_s=stepped_s))

    def looked(self, lag_s: float, missed: int) -> None:
        """Count one scheduled look and how late it started."""
        self._look_lags_s.append(lag_s)
        self.missed_looks += missed

    @property
    def loop_lag_s(self) -> float:
        """The worst lateness of the event loop within the last minute, seconds."""
        return max(self._lags_s, default=0.0)

    @property
    def look_lag_p99_s(self) -> float:
        """How late looks start, 99th percentile of the last thousand, seconds."""
        ordered = sorted(self._look_lags_s)
        return ordered[int(0.99 * (len(ordered) - 1))] if ordered else 0.0
