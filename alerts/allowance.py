"""When a channel may be used: its rate, its breaker, and what its receiver asked us to wait."""

from __future__ import annotations

from typing import Final

_BREAKS_AFTER: Final = 5
_PROBE_EVERY_S: Final = 30.0
_BURST: Final = 10.0


class Allowance:
    """A token bucket with a breaker: after five failures in a row one try every half minute.

    Pure: every moment is passed in as monotonic seconds, so a clock that is set back blocks nobody.
    """

    def __init__(self, per_minute: int, now: float) -> None:
        self._per_s = max(1, per_minute) / 60
        self._tokens = _BURST
        self._refilled = now
        self._failures = 0
        self._blocked_until = 0.0

    @property
    def broken(self) -> bool:
        """Whether the breaker is open."""
        return self._failures >= _BREAKS_AFTER

    def wait_s(self, now: float) -> float:
        """How long until the next try is allowed; 0 for now."""
        if self._blocked_until > now:
            return self._blocked_until - now
        tokens = self.tokens(now)
        return 0.0 if tokens >= 1 else (1 - tokens) / self._per_s

    def tokens(self, now: float) -> float:
        """How many messages may leave at once."""
        self._tokens = min(_BURST, self._tokens + max(0.0, now - self._refilled) * self._per_s)
        self._refilled = now
        return self._tokens

    def spend(self) -> None:
        """One message leaves."""
        self._tokens -= 1

    def succeeded(self) -> None:
        """The receiver took one: the breaker closes."""
        self._failures = 0

    def forgive(self) -> None:
        """The network is back: one try at once."""
        self._blocked_until = 0.0

    def failed(self, now: float, *, asked_s: float | None) -> None:
        """The receiver did not; `asked_s` is its Retry-After, which holds for the whole channel."""
        self._failures += 1
        wait_s = _PROBE_EVERY_S if self.broken else 0.0
        self._blocked_until = max(self._blocked_until, now + max(wait_s, asked_s or 0.0))
