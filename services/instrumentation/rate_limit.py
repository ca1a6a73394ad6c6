"""A rate limit by GCRA: one number a subject, exact, with a bounded number of subjects."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import NamedTuple


class Decision(NamedTuple):
    """Whether one request may pass, and what its answer says about it."""

    allowed: bool
    limit: int
    remaining: int
    retry_after_s: float

    @property
    def headers(self) -> dict[str, str]:
        headers = {"RateLimit-Limit": str(self.limit), "RateLimit-Remaining": str(self.remaining)}
        if not self.allowed:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after_s)))
        return headers


class RateLimit:
    """`rate` requests a second for each subject, in bursts of up to `burst`. Pure: time is handed in."""

    def __init__(self, *, rate: float, burst: int, subjects: int = 100_000) -> None:
        self._interval_s = 1 / rate
        self._burst = burst
        self._subjects = subjects
        self._arrivals: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._arrivals)

    def take(self, subject: str, now: float) -> Decision:
        """Count one request of `subject` at monotonic second `now`."""
        arrival = max(self._arrivals.get(subject, 0.0), now)
        wait_s = arrival + self._interval_s - now - self._burst * self._interval_s
        # The tolerance absorbs the rounding of sums; without it a client at exactly the rate is refused.
        if wait_s > 1e-9:
            return Decision(False, self._burst, 0, wait_s)
        self._arrivals[subject] = arrival + self._interval_s
        self._arrivals.move_to_end(subject)
        if len(self._arrivals) > self._subjects:
            self._arrivals.popitem(last=False)
        remaining = int(self._burst - (arrival + self._interval_s - now) / self._interval_s + 1e-9)
        return Decision(True, self._burst, remaining, 0.0)
