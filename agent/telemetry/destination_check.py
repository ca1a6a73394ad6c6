"""Whether a destination gets what it should: its ledger, looked at as any other target is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from agent.telemetry.figures import Figures
from agent.telemetry.ledger import Account
from checks.clock import Clock
from checks.finding import Finding, State
from checks.reason import Reason
from checks.units import Duration

_LATELY_S: Final = 3600.0
_SAMPLES: Final = 720


class _Sample(Struct, frozen=True):
    at_s: float
    dead: int
    evicted: int


class DestinationCheck:
    """Looks at one destination's accounts; `address` is what people are shown of it."""

    def __init__(
        self,
        name: str,
        *,
        address: str,
        late_after_s: float,
        figures: Callable[[], Figures | None],
        clock: Clock,
    ) -> None:
        self._name = name
        self._shown = f"{name} ({address})"
        self._late_after_s = late_after_s
        self._figures = figures
        self._clock = clock
        self._samples: deque[_Sample] = deque(maxlen=_SAMPLES)

    async def close(self) -> None:
        """There is nothing to give back."""

    async def probe(self) -> Finding:
        figures = self._figures()
        accounts = self._accounts(figures) if figures is not None else {}
        if figures is None or not accounts:
            return _finding(State.STARTING, Reason.STARTING, "the ledger is not open yet")
        waiting = sum(account.queued for account in accounts.values())
        dead, evicted = self._lately(accounts)
        return (
            self._unaccounted(accounts)
            or self._paused(figures, waiting)
            or self._given_up(evicted)
            or self._late(figures, waiting)
            or self._put_aside(dead)
            or Finding(
                state=State.UP,
                reason=Reason.OK,
                message=f"{self._shown} gets everything, {waiting} items wait",
            )
        )

    def _accounts(self, figures: Figures) -> dict[str, Account]:
        return {
            signal.value: account
            for (name, signal), account in figures.accounts.items()
            if name == self._name
        }

    def _lately(self, accounts: dict[str, Account]) -> tuple[int, int]:
        """How many items were put aside and given up within an hour, as far as we have been looking."""
        now_s = self._clock.wall_s()
        dead = sum(account.dead for account in accounts.values())
        evicted = sum(account.evicted for account in accounts.values())
        self._samples.append(_Sample(now_s, dead, evicted))
        while self._samples[0].at_s < now_s - _LATELY_S:
            self._samples.popleft()
        first = self._samples[0]
        return dead - first.dead, evicted - first.evicted

    def _unaccounted(self, accounts: dict[str, Account]) -> Finding | None:
        for signal, one in accounts.items():
            if one.missing:
                return _finding(
                    State.DEGRADED,
                    Reason.TELEMETRY_UNACCOUNTED,
                    f"{one.missing} items of {signal} for {self._shown} are neither delivered nor kept:"
                    f" {one.received} received, {one.delivered} delivered, {one.queued} wait, {one.dead} put"
                    f" aside, {one.evicted} given up; report it",
                )
        return None

    def _paused(self, figures: Figures, waiting: int) -> Finding | None:
        why = figures.destinations.get(self._name, "")
        if not why:
            return None
        return _finding(
            State.DOWN,
            Reason.TELEMETRY_REFUSED,
            f"{self._shown} answers {why} under telemetry.destinations.{self._name};"
            f" nothing is sent, {waiting} items wait and are kept",
        )

    def _given_up(self, evicted: int) -> Finding | None:
        if not evicted:
            return None
        return _finding(
            State.DEGRADED,
            Reason.TELEMETRY_GIVEN_UP,
            f"{evicted} items for {self._shown} were given up for lack of room:"
            " mend it, or give telemetry.disk more",
        )

    def _late(self, figures: Figures, waiting: int) -> Finding | None:
        ages_s = [age_s for (name, _), age_s in figures.oldest_unsent_s.items() if name == self._name]
        oldest_s = max(ages_s, default=0.0)
        said = figures.away.get(self._name, "")
        why = f" ({said})" if said else ""
        if oldest_s < self._late_after_s:
            return None
        return _finding(
            State.DEGRADED,
            Reason.TELEMETRY_LATE,
            f"the oldest of {waiting} items for {self._shown} waits for {Duration(round(oldest_s))}{why}:"
            " see whether it runs and keeps up; what waits is kept up to telemetry.disk",
        )

    def _put_aside(self, dead: int) -> Finding | None:
        if not dead:
            return None
        return _finding(
            State.DEGRADED,
            Reason.TELEMETRY_PUT_ASIDE,
            f"{self._shown} refused {dead} items lately, they are put aside: `gaia dlq ls` tells why,"
            " `gaia dlq replay` sends them again",
        )


def _finding(state: State, reason: Reason, message: str) -> Finding:
    # The ledger is a fact: no second look would see anything else.
    return Finding(state=state, reason=reason, message=message, hard=state is State.DOWN)
