"""What the agent knows now: one row per target, and the events that changed them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping
from enum import StrEnum
from struct import Struct as Packing
from typing import Final

from msgspec import Struct, field

from checks.finding import State
from checks.instances import groups, together
from checks.observation import Observation
from checks.reason import Reason
from checks.target import Target, TargetKey
from checks.verdict import Verdict

_STATES: Final = tuple(State)
_POINTS_KEPT: Final = 90
_POINT: Final = Packing("<IfB")
_NOT_MEASURED: Final = -1.0
_EVENTS_KEPT: Final = 1000
_CLIENT_QUEUE: Final = 256


class Point(Struct, frozen=True, kw_only=True):
    """One past look: wall second, state, and latency where one was measured."""

    at_s: float
    state: State
    latency_s: float | None


class Recent:
    """The last looks of one target in 9 bytes each, at once as large as it ever gets.

    Times are whole seconds and latencies have seven digits: they are drawn, never compared.
    """

    __slots__ = ("_count", "_packed")

    def __init__(self) -> None:
        self._packed = bytearray(_POINTS_KEPT * _POINT.size)
        self._count = 0

    def add(self, at_s: float, state: State, latency_s: float | None) -> None:
        """Remember one look, forgetting the oldest when full."""
        latency = _NOT_MEASURED if latency_s is None else latency_s
        place = self._count % _POINTS_KEPT * _POINT.size
        _POINT.pack_into(self._packed, place, int(at_s), latency, _STATES.index(state))
        self._count += 1

    def __len__(self) -> int:
        return min(self._count, _POINTS_KEPT)

    def __iter__(self) -> Iterator[Point]:
        """Oldest first."""
        for number in range(self._count - len(self), self._count):
            place = number % _POINTS_KEPT * _POINT.size
            at_s, latency, state = _POINT.unpack_from(self._packed, place)
            yield Point(
                at_s=float(at_s),
                state=_STATES[state],
                latency_s=None if latency == _NOT_MEASURED else latency,
            )


class Row(Struct, kw_only=True):
    """All that is known of one target. Changed only by the Board, on the event loop."""

    target: Target
    interval_s: float
    slower_than_s: float | None
    depends_on: tuple[str, ...] = ()
    verdict: Verdict = field(default_factory=Verdict)
    latest: Observation | None = None
    recent: Recent = field(default_factory=Recent)
    looks: int = 0

    def shown(self, now_s: float) -> Verdict:
        """The verdict as it may be shown at wall second `now_s`: never green without a fresh look."""
        if self.latest is None or now_s - self.latest.at_s <= 3 * self.interval_s + 5:
            return self.verdict
        age_s = round(now_s - self.latest.at_s)
        return Verdict(
            state=State.UNKNOWN,
            reason=Reason.STALE,
            message=f"last look {age_s} s ago, due every {self.interval_s:g} s; it was {self.verdict.state}",
            since_s=self.latest.at_s,
            observation=self.verdict.observation,
        )


class EventKind(StrEnum):
    """What an event is about."""

    TARGET = "target"
    ALERT = "alert"
    NOTIFICATION = "notification"
    CHANGE = "change"
    AGENT = "agent"


class Event(Struct, frozen=True, kw_only=True):
    """One thing that happened: `seq` grows by one, `subject` is what it is about, `text` one line."""

    seq: int
    at_s: float
    kind: EventKind
    env: str
    subject: str
    state: str
    text: str
    facts: Mapping[str, str]


class Board:
    """Rows by key, and a bounded stream of events. Everything happens on one event loop."""

    def __init__(self) -> None:
        self._rows: dict[TargetKey, Row] = {}
        self._instances: dict[TargetKey, tuple[Row, ...]] = {}
        self._events: deque[Event] = deque(maxlen=_EVENTS_KEPT)
        self._seq = 0
        self._clients: set[asyncio.Queue[Event | None]] = set()

    def place(self, rows: Mapping[TargetKey, Row]) -> None:
        """Take over the targets of a new configuration, keeping what is known of those that stay."""
        kept: dict[TargetKey, Row] = {}
        for key, row in rows.items():
            old = self._rows.get(key)
            if old is not None:
                row.verdict, row.latest, row.looks = old.verdict, old.latest, old.looks
                row.recent = old.recent
            kept[key] = row
        self._rows = kept
        self._instances = {
            one.key: tuple(kept[member.key] for member in members)
            for members in groups(row.target for row in kept.values()).values()
            for one in members
        }

    def rows(self) -> tuple[Row, ...]:
        """Every row, in the order of gaia.yaml."""
        return tuple(self._rows.values())

    def row(self, key: TargetKey) -> Row | None:
        """The row of one target, None when it is not watched."""
        return self._rows.get(key)

    def verdict(self, key: TargetKey) -> Verdict | None:
        """What a target is, with the other instances of its service if it is one; None: it is not watched."""
        rows = self._instances.get(key)
        if rows is not None:
            return together([(row.target, row.verdict) for row in rows])
        row = self._rows.get(key)
        return None if row is None else row.verdict

    def record(self, observation: Observation, verdict: Verdict) -> Row | None:
        """Take in one look and the verdict it led to; None when the target is no longer watched."""
        row = self._rows.get(observation.target.key)
        if row is None:
            return None
        finding = observation.finding
        row.latest = observation
        row.verdict = verdict
        row.looks += 1
        row.recent.add(observation.at_s, finding.state, finding.latency_s)
        return row

    def emit(
        self,
        kind: EventKind,
        *,
        at_s: float,
        env: str,
        subject: str,
        state: str,
        text: str,
        facts: Mapping[str, str] | None = None,
    ) -> Event:
        """Append an event and hand it to every subscriber; one too slow to follow is told to start again."""
        self._seq += 1
        event = Event(
            seq=self._seq, at_s=at_s, kind=kind, env=env, subject=subject, state=state, text=text,
            facts=facts or {},
        )  # fmt: skip
        self._events.append(event)
        for queue in self._clients:
            if queue.full():
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(None)
            else:
                queue.put_nowait(event)
        return event

    def events(self, after_seq: int = 0) -> tuple[Event, ...]:
        """Kept events later than `after_seq`, oldest first."""
        return tuple(event for event in self._events if event.seq > after_seq)

    @property
    def last_seq(self) -> int:
        """The number of the newest event; 0 before the first."""
        return self._seq

    async def subscribe(self, after_seq: int | None = None) -> AsyncGenerator[Event | None, None]:
        """Events as they happen, first those after `after_seq`; None: some were missed, read all again.

        The stream ends only by cancellation or by closing the iterator.
        """
        queue: asyncio.Queue[Event | None] = asyncio.Queue(maxsize=_CLIENT_QUEUE)
        self._clients.add(queue)
        try:
            for event in self._missed(after_seq):
                yield event
            while True:
                yield await queue.get()
        finally:
            self._clients.discard(queue)

    def _missed(self, after_seq: int | None) -> tuple[Event | None, ...]:
        if after_seq is None or after_seq == self._seq:
            return ()
        oldest = self._events[0].seq if self._events else self._seq + 1
        if after_seq > self._seq or after_seq + 1 < oldest:
            return (None,)
        return self.events(after_seq)
