"""When each look is due: a fixed grid of slots, so nothing drifts and things due together start together."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable, Collection, Hashable, Iterable, KeysView, Mapping
from typing import Final, Generic, TypeVar

from msgspec import Struct

from checks.clock import Clock
from checks.wire.reactor import GRID_S

SLOT_S: Final = GRID_S
# So many due together share one wake-up, which costs more than a look; the next is not farther than this.
_TOGETHER: Final = 16
_FARTHEST_APART_SLOTS: Final = 50
_FIRST_PASS_PER_SLOT: Final = 25
# After a stall everything is due at once: between so many starts the loop answers whoever else waits.
_STARTS_AT_ONCE: Final = 250
# The golden ratio's fraction spreads any number of phases evenly, also when targets come and go.
_SPREAD: Final = 0.6180339887498949

K = TypeVar("K", bound=Hashable)


class Due(Struct, Generic[K], frozen=True, kw_only=True):
    """One key that is due: `lag_s` is how late it starts, `missed` how many of its slots were skipped."""

    key: K
    lag_s: float
    missed: int


class _Entry(Struct, Generic[K]):
    key: K
    interval_slots: int
    phase_slot: int
    live: bool = True


class Wheel(Generic[K]):
    """Pure: keys with intervals, turned into slots of 20 ms counted from `origin_s` (monotonic seconds).

    Every key is due once soon after it was added, 25 keys to a slot, and from then on at
    `phase + n x interval` exactly, whatever happened in between. A slot that has passed is never made up
    for: it is counted as missed. Phases are ours to choose, so those of few keys lie on few slots.
    """

    def __init__(self, origin_s: float) -> None:
        # On the reactor's grid.
        self._origin_s = origin_s // SLOT_S * SLOT_S
        self._apart_slots = 1
        self._entries: dict[K, _Entry[K]] = {}
        self._slots: dict[int, list[_Entry[K]]] = {}
        self._order: list[int] = []
        self._added = 0

    def __len__(self) -> int:
        return len(self._entries)

    def expect(self, intervals_s: Iterable[float]) -> None:
        """Everything there will be: of keys added from now on, about 16 are due together."""
        per_slot = sum(1 / _slots(interval_s) for interval_s in intervals_s)
        apart = math.ceil(_TOGETHER / per_slot) if per_slot else 1
        self._apart_slots = min(apart, _FARTHEST_APART_SLOTS)

    def add(self, key: K, interval_s: float, *, now_s: float) -> None:
        """Schedule `key` every `interval_s` seconds; its first look is due at once, after earlier ones."""
        self.remove(key)
        interval_slots = _slots(interval_s)
        apart = self._apart_slots
        phase = math.floor((self._added * _SPREAD) % 1 * interval_slots / apart) * apart
        entry = _Entry(key, interval_slots, phase)
        self._entries[key] = entry
        first = self._slot_at(now_s)
        while len(self._slots.get(first, ())) >= _FIRST_PASS_PER_SLOT:
            first += 1
        self._put(entry, first)
        self._added += 1

    def remove(self, key: K) -> None:
        """Forget `key`; nothing happens when it is not there."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            entry.live = False

    def keys(self) -> KeysView[K]:
        """Everything scheduled."""
        return self._entries.keys()

    def interval_s(self, key: K) -> float | None:
        """The interval of `key` in seconds; None when it is not scheduled."""
        entry = self._entries.get(key)
        return None if entry is None else entry.interval_slots * SLOT_S

    def next_s(self) -> float | None:
        """The monotonic second at which something is due; None when nothing is scheduled."""
        return self._origin_s + self._order[0] * SLOT_S if self._order else None

    def due(self, now_s: float, *, about: int | None = None) -> list[Due[K]]:
        """Everything due by `now_s`, each put back to its next grid point after `now_s`.

        No further slot is taken once `about` many are found; what is left is due at once.
        """
        current = self._slot_at(now_s)
        found: list[Due[K]] = []
        while self._order and self._order[0] <= current and (about is None or len(found) < about):
            slot = heapq.heappop(self._order)
            for entry in self._slots.pop(slot):
                if entry.live:
                    upcoming, missed = self._following(entry, slot, current)
                    self._put(entry, upcoming)
                    lag_s = max(0.0, now_s - self._origin_s - slot * SLOT_S)
                    found.append(Due(key=entry.key, lag_s=lag_s, missed=missed))
        return found

    def _slot_at(self, now_s: float) -> int:
        # The tolerance keeps a timer that fires at 0.0399999999 in slot 2.
        return math.floor((now_s - self._origin_s) / SLOT_S + 1e-6)

    def _following(self, entry: _Entry[K], slot: int, current: int) -> tuple[int, int]:
        # Not sooner than half an interval, so that the first pass is not followed by the grid at once.
        earliest = slot + (entry.interval_slots + 1) // 2
        upcoming = earliest + (entry.phase_slot - earliest) % entry.interval_slots
        if upcoming > current:
            return upcoming, 0
        missed = (current - upcoming) // entry.interval_slots + 1
        return upcoming + missed * entry.interval_slots, missed

    def _put(self, entry: _Entry[K], slot: int) -> None:
        waiting = self._slots.get(slot)
        if waiting is None:
            self._slots[slot] = [entry]
            heapq.heappush(self._order, slot)
        else:
            waiting.append(entry)


class Scheduler(Generic[K]):
    """Calls `start` for each key when it is due; owns one timer of the running loop."""

    def __init__(self, clock: Clock, start: Callable[[Due[K]], None]) -> None:
        self._clock = clock
        self._start = start
        self._wheel: Wheel[K] = Wheel(clock.monotonic_s())
        self._timer: asyncio.TimerHandle | None = None

    def place(self, intervals_s: Mapping[K, float], *, changed: Collection[K] = ()) -> None:
        """Take over a new set of keys.

        One whose interval stays keeps its place on the grid, unless it is `changed`: then it is due at once.
        """
        now_s = self._clock.monotonic_s()
        for key in tuple(self._wheel.keys()):
            if key not in intervals_s or key in changed:
                self._wheel.remove(key)
        self._wheel.expect(intervals_s.values())
        for key, interval_s in intervals_s.items():
            if self._wheel.interval_s(key) != _on_grid_s(interval_s):
                self._wheel.add(key, interval_s, now_s=now_s)
        self._arm()

    def stop(self) -> None:
        """Start nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self.stop()
        next_s = self._wheel.next_s()
        if next_s is not None:
            delay_s = max(0.0, next_s - self._clock.monotonic_s())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._fire)

    def _fire(self) -> None:
        for due in self._wheel.due(self._clock.monotonic_s(), about=_STARTS_AT_ONCE):
            self._start(due)
        self._arm()


def _slots(interval_s: float) -> int:
    return max(1, round(interval_s / SLOT_S))


def _on_grid_s(interval_s: float) -> float:
    return _slots(interval_s) * SLOT_S
