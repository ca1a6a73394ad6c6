"""What is remembered of one way: its last twenty tries, and how long connecting usually takes over a day."""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Final

from msgspec import Struct, field

from checks.network.way import Trip

REMEMBERED: Final = 20
_DAY_S: Final = 86400.0
_STEP_S: Final = 300.0
_LEAST_POINTS: Final = 12


class Memory(Struct):
    """One way's past. The median is over at most one look per five minutes, and known after an hour."""

    tries: deque[bool] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    connects: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=int(_DAY_S / _STEP_S)))

    def add(self, trip: Trip, at_s: float) -> None:
        """Take in one try at this monotonic second."""
        self.tries.append(trip.failure is None)
        connect_s = dict(trip.times).get("connect")
        if connect_s is not None and (not self.connects or at_s - self.connects[-1][0] >= _STEP_S):
            self.connects.append((at_s, connect_s))

    @property
    def loss(self) -> float | None:
        """The share lost; None before there were twenty tries."""
        return self.tries.count(False) / len(self.tries) if len(self.tries) == REMEMBERED else None

    @property
    def usual_connect_s(self) -> float | None:
        """None before an hour has passed."""
        if len(self.connects) < _LEAST_POINTS:
            return None
        return median(took_s for _, took_s in self.connects)
