"""Request increments of one service, exact and anchored, summed over its sources.

The increment of a window (t-w, t] is taken from the last sample at or before t-w, so nothing is lost at its
edges and nothing is extrapolated. A counter that restarted counts from 0.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from typing import Final

from msgspec import Struct

from alerts.requests import RequestSample

_FINE_S: Final = 1920.0
_COARSE_STEP_S: Final = 60.0
_PRUNE_AT: Final = 512
# Scrapes of several sources arrive out of order by less than this.
_STEP_BACK_S: Final = 30.0


class Counts(Struct, frozen=True, kw_only=True):
    """Requests of one window. `slow` is None when no sample has that bucket edge."""

    total: int
    errors: int
    slow: int | None
    covered_s: float


class Ledger:
    """Takes the samples of one service; answers for any window up to `keep_s`.

    `edges` are the latency thresholds (seconds) whose slower requests are counted.
    """

    def __init__(self, *, edges: tuple[float, ...] = (), keep_s: float = _FINE_S) -> None:
        self._edges = edges
        self._previous: dict[str, RequestSample] = {}
        self._sums = [0] * (2 + len(edges))
        self._edge_seen = [False] * len(edges)
        self._fine = _Track(width=len(self._sums), keep_s=_FINE_S, step_s=0.0)
        self._coarse = (
            _Track(width=len(self._sums), keep_s=keep_s, step_s=_COARSE_STEP_S) if keep_s > _FINE_S else None
        )
        self._failing_run = 0
        self._slow_runs = [0] * len(edges)
        self.last_at_s = 0.0
        self._first_at_s = 0.0
        self.traffic_at_s = 0.0

    def add(self, sample: RequestSample) -> None:
        """Take in one source's counters."""
        previous = self._previous.get(sample.source)
        self._previous[sample.source] = sample
        if sample.at_s < self.last_at_s - _STEP_BACK_S:
            self._step_back(self.last_at_s - sample.at_s)
        at_s = max(sample.at_s, self.last_at_s)
        increments = self._increments(sample, previous)
        self.last_at_s = at_s
        self._first_at_s = self._first_at_s or at_s
        if increments[0] > 0:
            self.traffic_at_s = at_s
            self._runs(increments)
        for index, increment in enumerate(increments):
            self._sums[index] += increment
        self._fine.append(at_s, self._sums)
        if self._coarse is not None:
            self._coarse.append(at_s, self._sums)

    def forget_source(self, source: str) -> None:
        """Drop a source that is gone for good; what it counted stays."""
        self._previous.pop(source, None)

    def counts(self, now_s: float, window_s: float, edge: float | None = None) -> Counts:
        """Requests in (now - window, now]; `edge` chooses what counts as slow."""
        fits = window_s <= _FINE_S or self._coarse is None
        track = self._fine if fits or self._coarse is None else self._coarse
        delta, covered_s = track.delta(now_s, window_s)
        slow: int | None = None
        if edge in self._edges:
            index = self._edges.index(edge)
            slow = delta[2 + index] if self._edge_seen[index] else None
        return Counts(total=delta[0], errors=delta[1], slow=slow, covered_s=covered_s)

    def failing_run(self, edge: float | None = None) -> int:
        """How many of the latest requests in a row failed, or were slower than `edge`; a lower bound."""
        if edge is None:
            return self._failing_run
        return self._slow_runs[self._edges.index(edge)] if edge in self._edges else 0

    def _step_back(self, by_s: float) -> None:
        """The wall clock was set back: what was counted keeps its distance from now."""
        for track in (self._fine, self._coarse):
            if track is not None:
                track.shift(by_s)
        self.last_at_s -= by_s
        self.traffic_at_s -= by_s
        self._first_at_s -= by_s

    def _increments(self, sample: RequestSample, previous: RequestSample | None) -> list[int]:
        slow = [self._slow(sample, index) for index in range(len(self._edges))]
        now = [sample.total, sample.errors, *slow]
        if previous is None:
            born = sample.born_s is not None and 0 < self._first_at_s < sample.born_s
            return now if born else [0] * len(now)
        if previous.incarnation != sample.incarnation or sample.total < previous.total:
            return now
        before = [previous.total, previous.errors]
        before += [self._slow(previous, index) for index in range(len(self._edges))]
        return [max(0, new - old) for new, old in zip(now, before, strict=True)]

    def _slow(self, sample: RequestSample, index: int) -> int:
        edge = self._edges[index]
        for upper, cumulative in sample.buckets:
            if upper == edge:
                self._edge_seen[index] = True
                return sample.buckets[-1][1] - cumulative
        return 0

    def _runs(self, increments: list[int]) -> None:
        total = increments[0]
        self._failing_run = self._failing_run + total if increments[1] >= total else 0
        for index in range(len(self._edges)):
            all_slow = increments[2 + index] >= total
            self._slow_runs[index] = self._slow_runs[index] + total if all_slow else 0


class _Track:
    """Cumulative sums over time; equal steps overwrite each other when `step_s` is given."""

    __slots__ = ("_columns", "_floor", "_keep_s", "_step_s", "_times")

    def __init__(self, *, width: int, keep_s: float, step_s: float) -> None:
        self._times = array("d")
        self._columns: list[list[int]] = [[] for _ in range(width)]
        self._floor = [0] * width
        self._keep_s = keep_s
        self._step_s = step_s

    def append(self, at_s: float, sums: list[int]) -> None:
        if self._step_s and self._times and self._times[-1] // self._step_s == at_s // self._step_s:
            self._times[-1] = at_s
            for column, value in zip(self._columns, sums, strict=True):
                column[-1] = value
            return
        self._times.append(at_s)
        for column, value in zip(self._columns, sums, strict=True):
            column.append(value)
        if len(self._times) >= _PRUNE_AT and self._times[_PRUNE_AT // 2] < at_s - self._keep_s:
            self._prune(at_s)

    def shift(self, by_s: float) -> None:
        self._times = array("d", (at_s - by_s for at_s in self._times))

    def delta(self, now_s: float, window_s: float) -> tuple[list[int], float]:
        end = bisect_right(self._times, now_s) - 1
        base = bisect_right(self._times, now_s - window_s) - 1
        if end < 0:
            return [0] * len(self._columns), 0.0
        start = self._floor if base < 0 else [column[base] for column in self._columns]
        delta = [column[end] - first for column, first in zip(self._columns, start, strict=True)]
        return delta, min(window_s, now_s - self._times[max(base, 0)])

    def _prune(self, at_s: float) -> None:
        # One sample at or before the longest window's start stays: it is that window's baseline.
        dead = bisect_right(self._times, at_s - self._keep_s) - 1
        if dead <= 0:
            return
        self._floor = [column[dead - 1] for column in self._columns]
        del self._times[:dead]
        for column in self._columns:
            del column[:dead]
