"""A circuit breaker as a pure state machine: no clock, no tasks, no I/O; time and jitter are handed in.

Defaults follow resilience4j's `CircuitBreakerConfig`, shrunk for services with little traffic.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_BUCKET_S: Final = 1.0


class BreakerState(StrEnum):
    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"

    @property
    def number(self) -> int:
        """The state as a gauge: 0 closed, 1 half open, 2 open."""
        return ("closed", "half_open", "open").index(self.value)


class BreakerOpenError(Exception):
    """No call is made now. A new object for each rejection, so that no traceback is kept."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"open for {retry_after_s:.1f} s more")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When to stop calling, and how to find out whether calling works again.

    It opens at `failure_ratio` or `slow_ratio` of at least `min_calls` in the window, and at once when
    `min_calls` in a row have failed.
    """

    window_s: float = 30.0
    min_calls: int = 10
    failure_ratio: float = 0.5
    slow_ratio: float = 0.8
    slow_after_s: float = 2.0
    open_s: float = 10.0
    open_max_s: float = 120.0
    jitter: float = 0.2
    permits: int = 3
    permit_ttl_s: float = 60.0


@dataclass(slots=True)
class _Bucket:
    start_s: float
    calls: int = 0
    failures: int = 0
    slow: int = 0


@dataclass(slots=True, eq=False)
class Permit:
    """The right to make one call; give it back with exactly one of succeed, fail or release."""

    generation: int
    granted_s: float


class Breaker:
    """One dependency instance's breaker. All times are seconds of one monotonic clock, passed as `now`."""

    def __init__(
        self,
        policy: BreakerPolicy | None = None,
        *,
        jitter: Callable[[], float] = lambda: 0.0,
        on_transition: Callable[[BreakerState, BreakerState], None] = lambda _before, _after: None,
    ) -> None:
        """`jitter()` returns a number in -1..1; `on_transition` is told of each change of state."""
        self.policy = policy or BreakerPolicy()
        self.state = BreakerState.CLOSED
        self._jitter = jitter
        self._on_transition = on_transition
        self._buckets: deque[_Bucket] = deque()
        self._sum = _Bucket(0.0)
        self._generation = 0
        self._openings = 0
        self._until_s = 0.0
        self._out: dict[Permit, None] = {}
        self._successes = 0
        self._failures = 0
        self._failed_in_a_row = 0
        self._row_s = 0.0

    @property
    def in_flight(self) -> int:
        """Half-open permits not yet given back."""
        return len(self._out)

    def acquire(self, now: float) -> Permit:
        """A permit for one call. Raises BreakerOpenError."""
        if self.state is BreakerState.OPEN:
            if now < self._until_s:
                raise BreakerOpenError(self._until_s - now)
            self._enter(BreakerState.HALF_OPEN)
        if self.state is BreakerState.HALF_OPEN:
            self._expire(now)
            if len(self._out) + self._successes + self._failures >= self.policy.permits:
                raise BreakerOpenError(1.0)
            permit = Permit(self._generation, now)
            self._out[permit] = None
            return permit
        return Permit(self._generation, now)

    def succeed(self, permit: Permit, now: float, duration_s: float) -> None:
        """The call was answered, be it with a 4xx the caller deserved. Too slow an answer counts as slow."""
        self._count(permit, now, failed=False, slow=duration_s > self.policy.slow_after_s)

    def fail(self, permit: Permit, now: float, duration_s: float) -> None:
        """The call failed through the dependency's fault: no connection, no answer in time, a 5xx."""
        self._count(permit, now, failed=True, slow=duration_s > self.policy.slow_after_s)

    def release(self, permit: Permit) -> None:
        """The call says nothing about the dependency (the caller went away): as if it had not been made."""
        self._out.pop(permit, None)

    def retry_after_s(self, now: float) -> float:
        """Seconds until a call may be tried; 0 when one may be tried now."""
        return max(0.0, self._until_s - now) if self.state is BreakerState.OPEN else 0.0

    def _count(self, permit: Permit, now: float, *, failed: bool, slow: bool) -> None:
        if permit.generation != self._generation:
            return  # It began under an earlier state and says nothing about this one.
        if self.state is BreakerState.HALF_OPEN:
            if permit not in self._out:
                return  # Its time ran out and its place was given away.
            del self._out[permit]
            self._count_probe(now, failed=failed or slow)
        elif self.state is BreakerState.CLOSED:
            self._count_call(now, failed=failed, slow=slow)

    def _count_probe(self, now: float, *, failed: bool) -> None:
        if failed:
            self._failures += 1
        else:
            self._successes += 1
        if self._failures >= self.policy.failure_ratio * self.policy.permits:
            self._open(now)
        elif self._successes + self._failures >= self.policy.permits:
            self._openings = 0
            self._enter(BreakerState.CLOSED)

    def _count_call(self, now: float, *, failed: bool, slow: bool) -> None:
        if not self._buckets or now >= self._buckets[-1].start_s + _BUCKET_S:
            self._buckets.append(_Bucket(now))
        while self._buckets[0].start_s <= now - self.policy.window_s:
            old = self._buckets.popleft()
            self._sum.calls -= old.calls
            self._sum.failures -= old.failures
            self._sum.slow -= old.slow
        for bucket in (self._buckets[-1], self._sum):
            bucket.calls += 1
            bucket.failures += failed
            bucket.slow += slow
        # Much good traffic just before a death must not make it take the whole window to be seen.
        if self._failed_in_a_row == 0 or now - self._row_s >= self.policy.window_s:
            self._row_s, self._failed_in_a_row = now, 0
        self._failed_in_a_row = self._failed_in_a_row + 1 if failed else 0
        total = self._sum
        if self._failed_in_a_row >= self.policy.min_calls or (
            total.calls >= self.policy.min_calls
            and (
                total.failures >= self.policy.failure_ratio * total.calls
                or total.slow >= self.policy.slow_ratio * total.calls
            )
        ):
            self._open(now)

    def _open(self, now: float) -> None:
        wait_s = min(self.policy.open_s * 2**self._openings, self.policy.open_max_s)
        self._until_s = now + wait_s * (1 + self.policy.jitter * self._jitter())
        self._openings = min(self._openings + 1, 16)
        self._enter(BreakerState.OPEN)

    def _enter(self, state: BreakerState) -> None:
        before, self.state = self.state, state
        self._generation += 1
        self._buckets.clear()
        self._sum = _Bucket(0.0)
        self._out.clear()
        self._successes = self._failures = self._failed_in_a_row = 0
        self._on_transition(before, state)

    def _expire(self, now: float) -> None:
        # A caller that lost its permit must not keep the breaker half open for ever.
        for permit in [out for out in self._out if now - out.granted_s > self.policy.permit_ttl_s]:
            del self._out[permit]
