"""When a disk will be full, by a straight line through its last hours: pure."""

from __future__ import annotations

from collections import deque
from typing import Final

_WINDOW_S: Final = 6 * 3600.0
_STEP_S: Final = 300.0
_LEAST_POINTS: Final = 7


class Forecast:
    """Keeps at most one point per five minutes for six hours."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, float]] = deque(maxlen=int(_WINDOW_S / _STEP_S))

    def add(self, at_s: float, free_bytes: float) -> None:
        if not self._points or at_s - self._points[-1][0] >= _STEP_S:
            self._points.append((at_s, free_bytes))

    def full_in_s(self) -> float | None:
        """Seconds until nothing is left; None before half an hour has passed or when nothing shrinks."""
        if len(self._points) < _LEAST_POINTS:
            return None
        count = len(self._points)
        mean_t = sum(t for t, _ in self._points) / count
        mean_b = sum(b for _, b in self._points) / count
        spread = sum((t - mean_t) ** 2 for t, _ in self._points)
        slope = sum((t - mean_t) * (b - mean_b) for t, b in self._points) / spread if spread else 0.0
        if slope >= 0:
            return None
        return max(self._points[-1][1] / -slope, 0.0)
