"""Signals read from ERROR log events: storms against what is usual, and kinds not seen for a week."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from statistics import median_low
from typing import Final

from msgspec import Struct

from alerts.reading import Outcome, Reading
from alerts.requests import ErrorLog
from alerts.rule import ErrorLogRateRule, NewErrorLogRule

_KINDS_KEPT: Final = 1024
_COUNTS_KEPT: Final = 4096
_USUAL_OVER_S: Final = 3600.0
# Fewer whole windows than this say nothing about what is usual.
_USUAL_FROM: Final = 6
_NEW_FOR_S: Final = 30.0
_SAVED_EVERY_S: Final = 60.0
_SAVED_AT_ONCE: Final = 256
_SHOWN: Final = 3
_SAMPLE_LIMIT: Final = 240


class LogKind(Struct, kw_only=True, eq=False):
    """One kind of event: how often since it was new, its newest sample and the trace that belongs to it."""

    fingerprint: str
    last_at_s: float
    count: int = 0
    sample: str = ""
    trace_id: str = ""

    def __str__(self) -> str:
        times = "once" if self.count == 1 else f"{self.count} times"
        trace = f", trace {self.trace_id}" if self.trace_id else ""
        sample = self.sample if len(self.sample) <= _SAMPLE_LIMIT else f"{self.sample[:_SAMPLE_LIMIT]}…"
        return f"{sample} ({times}{trace})"


class LogWindow:
    """ERROR log events of one service: counts over the last hour, and each kind with its last event.

    `news` are the kinds that nobody was told of yet. All is bounded: the kinds longest unseen go first.
    """

    __slots__ = (
        "_counts",
        "_fatal",
        "_kinds",
        "_saved_s",
        "_unsaved",
        "began_s",
        "last_new_s",
        "last_told",
        "news",
    )

    def __init__(self, began_s: float = 0.0) -> None:
        self.began_s = began_s
        self.news: dict[str, LogKind] = {}
        self.last_new_s = 0.0
        self.last_told = ""
        self._counts: deque[tuple[float, int]] = deque(maxlen=_COUNTS_KEPT)
        self._fatal: deque[tuple[float, int]] = deque(maxlen=_COUNTS_KEPT)
        self._kinds: dict[str, LogKind] = {}
        self._unsaved: dict[str, float] = {}
        self._saved_s = 0.0

    def remember(self, fingerprint: str, last_at_s: float) -> None:
        """A kind that an earlier process saw."""
        self._keep(LogKind(fingerprint=fingerprint, last_at_s=last_at_s))

    def add(self, event: ErrorLog, *, quiet_for_s: float) -> None:
        """Count events; a kind unseen for `quiet_for_s` is new."""
        at_s = event.at_s
        _count(self._counts, at_s, event.count)
        if event.fatal:
            _count(self._fatal, at_s, event.count)
        kind = self._kinds.pop(event.fingerprint, None)
        if kind is None or at_s - kind.last_at_s > quiet_for_s:
            kind = self.news[event.fingerprint] = LogKind(fingerprint=event.fingerprint, last_at_s=at_s)
            self.last_new_s = at_s
        kind.last_at_s = at_s
        kind.count += event.count
        kind.sample, kind.trace_id = event.sample, event.trace_id or kind.trace_id
        self._keep(kind)
        if len(self._unsaved) < _SAVED_AT_ONCE:
            self._unsaved[kind.fingerprint] = at_s

    def told(self, now_s: float) -> list[tuple[str, float]]:
        """Somebody was told of what is new; what to keep on disk, so that the next process knows it too."""
        self.last_told = described(self.news.values())
        told = [(kind.fingerprint, kind.last_at_s) for kind in self.news.values()]
        self.news.clear()
        return [*self.unsaved(now_s, at_once=True), *told]

    def unsaved(self, now_s: float, *, at_once: bool = False) -> list[tuple[str, float]]:
        """When kinds were last seen, as far as the disk does not know; once a minute is often enough."""
        if not self._unsaved or (not at_once and 0 <= now_s - self._saved_s < _SAVED_EVERY_S):
            return []
        self._saved_s = now_s
        # What is new but untold is new to the next process too.
        saved = [(mark, at_s) for mark, at_s in self._unsaved.items() if at_once or mark not in self.news]
        self._unsaved = {} if at_once else {m: at for m, at in self._unsaved.items() if m in self.news}
        return saved

    def count(self, now_s: float, window_s: float, *, fatal: bool = False) -> int:
        """Events in (now - window, now]."""
        counts = self._fatal if fatal else self._counts
        return sum(count for at_s, count in counts if now_s - window_s < at_s <= now_s)

    def usual(self, until_s: float, window_s: float) -> int:
        """The median count of the whole windows in the hour up to `until_s`; 0 while too few are known."""
        windows = int(_USUAL_OVER_S // window_s)
        known = min(windows, int((until_s - self.began_s) // window_s))
        if known < min(windows, _USUAL_FROM):
            return 0
        return median_low(self.count(until_s - number * window_s, window_s) for number in range(known))

    def worst(self, now_s: float, window_s: float) -> list[LogKind]:
        """The kinds seen within the window, the most frequent first."""
        lately = [kind for kind in self._kinds.values() if now_s - window_s < kind.last_at_s and kind.sample]
        return sorted(lately, key=lambda kind: -kind.count)[:_SHOWN]

    def _keep(self, kind: LogKind) -> None:
        if len(self._kinds) >= _KINDS_KEPT:
            oldest = next(iter(self._kinds))
            del self._kinds[oldest]
            self.news.pop(oldest, None)
        self._kinds[kind.fingerprint] = kind


def error_log_rate(
    rule: ErrorLogRateRule, window: LogWindow, now_s: float, *, active_at_s: float = 0.0
) -> Reading:
    """Too many ERROR events. Silence is good here: a log has no heartbeat, no_data watches its source.

    A service that logs errors all the time has its own bar: `times_usual` the median of the hour before.
    While the alert is on (`active_at_s`) that is the hour before it began: a storm never becomes usual.
    """
    over_s = float(rule.over)
    count = window.count(now_s, over_s, fatal=rule.fatal)
    usual = 0 if rule.fatal else window.usual((active_at_s or now_s) - over_s, over_s)
    limit = max(rule.at_least, round(rule.times_usual * usual))
    needed = max(1, limit // 2) if active_at_s else limit
    level = "CRITICAL or FATAL" if rule.fatal else "ERROR"
    text = f"{count} {level} log events in {rule.over}" + (f", usually {usual}" if usual else "")
    if count >= needed:
        text = "; ".join((text, *map(str, window.worst(now_s, over_s))))
    return Reading(
        outcome=Outcome.BAD if count >= needed else Outcome.GOOD,
        at_s=now_s,
        text=text,
        value=count,
        threshold=limit,
    )


def new_error_log(rule: NewErrorLogRule, window: LogWindow, now_s: float) -> Reading:
    """An ERROR event of a kind that was not seen lately; on for the rule's `keep_firing_for`."""
    del rule
    if window.news or (window.last_new_s and 0 <= now_s - window.last_new_s <= _NEW_FOR_S):
        text = described(window.news.values()) if window.news else window.last_told
        return Reading(outcome=Outcome.BAD, at_s=now_s, text=text, value=len(window.news) or None)
    return Reading(outcome=Outcome.GOOD, at_s=now_s, text="no new kind of ERROR log event")


def described(kinds: Iterable[LogKind]) -> str:
    """Kinds as people read them: each with sample, count and trace; of many the first few."""
    every = list(kinds)
    if len(every) == 1:
        return str(every[0])
    shown = "; ".join(map(str, every[:_SHOWN]))
    rest = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return f"{len(every)} new kinds, {sum(kind.count for kind in every)} events: {shown}{rest}"


def _count(counts: deque[tuple[float, int]], at_s: float, count: int) -> None:
    """One entry per second is exact enough and lasts for more than an hour."""
    if counts and int(counts[-1][0]) == int(at_s):
        counts[-1] = (at_s, counts[-1][1] + count)
    else:
        counts.append((at_s, count))
