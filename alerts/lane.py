"""One channel's way out: its queue, the order within it, its retries, and what may be merged.

What one channel does can neither delay another nor the event loop. Order holds within an episode.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from alerts.allowance import Allowance
from alerts.batch import OutboxRow
from alerts.channel import Channel
from alerts.digest import belated, digest_of
from alerts.journal import Journal
from alerts.notice import Notice, NoticeKind
from alerts.notifiers.notifier import Notifier, NotifyError
from alerts.owner import LEFT, Fate
from alerts.porter import Porter
from alerts.troubles import Trouble, trouble_of
from alerts.waiting import LaneStatus, Waiting
from checks.clock import Clock

logger = logging.getLogger(__name__)

_FAST_RETRY_S: Final = 60.0
_FAST_FOR_S: Final = 900.0
_SLOW_RETRY_S: Final = 300.0
_GIVE_UP_S: Final = 86400.0
_LONGEST_WAIT_S: Final = 3600.0
_STALE_S: Final = 60.0
_DIGEST_LIMIT: Final = 200
_IDLE_S: Final = 3600.0
_WARM_AFTER_S: Final = 1.0
_UNDECIDED_S: Final = 1.0
_ALONE: Final = (NoticeKind.TEST, NoticeKind.REPORT)


class Hooks(Struct, frozen=True, kw_only=True):
    """What a lane asks and tells: who calls for a row, how a notice is dressed for its way, how it went.

    `given_up` hears of a row that is dead, `taken` that the channel accepted something.
    """

    fate: Callable[[OutboxRow], Fate]
    dressed: Callable[[Notice], Notice]
    taken: Callable[[], None]
    given_up: Callable[[OutboxRow], None]


class Lane:
    """Delivers the rows of one channel. Lives on the event loop; only `Notifier.deliver` runs elsewhere."""

    def __init__(
        self, channel: Channel, notifier: Notifier, journal: Journal, clock: Clock, hooks: Hooks
    ) -> None:
        self.channel = channel
        self._journal = journal
        self._clock = clock
        self._hooks = hooks
        self._wake = asyncio.Event()
        self._hurried = False
        self._porter = Porter(channel.name, notifier, self._wake.set)
        self._allowance = Allowance(channel.per_minute, clock.monotonic_s())
        self._queue: list[Waiting] = []
        self._sending: frozenset[int] = frozenset()
        self._sent = self._failed = self._dead = 0
        self._last_sent_at_s = self._last_duration_s = 0.0
        self._last_error = ""
        self._refused: Waiting | None = None

    def offer(self, row: OutboxRow) -> None:
        """Queue a row that is already on disk."""
        now, wall_s = self._clock.monotonic_s(), self._clock.wall_s()
        age_s = min(max(0.0, wall_s - row.created_at_s), _GIVE_UP_S)
        wait_s = min(max(0.0, row.next_at_s - wall_s), _LONGEST_WAIT_S)
        self._queue.append(Waiting(row=row, since=now - age_s, due=now + wait_s))
        self._wake.set()

    def hurry(self) -> None:
        """Forget how long to wait before the next try."""
        self._hurried = True
        self._wake.set()

    def prepare(self) -> None:
        """There may be something to say in a moment: begin what takes long to begin."""
        if not self._porter.busy:
            self._porter.warm(self._unusable)

    def overdue(self, after_s: float) -> tuple[OutboxRow, ...]:
        """Rows that nobody has taken for so long, oldest first."""
        now = self._clock.monotonic_s()
        return tuple(one.row for one in self._queue if now - one.since >= after_s)

    def trouble(self) -> Trouble | None:
        """What the channel does not take; None when it does, or had no chance to yet."""
        now = self._clock.monotonic_s()
        return trouble_of(self.channel.name, self._queue, self._refused, self._last_error, now)

    def sending(self, row: OutboxRow) -> bool:
        """Whether the row is under way at this moment."""
        return row.id in self._sending

    def status(self) -> LaneStatus:
        """Figures for the metrics and the page."""
        now = self._clock.monotonic_s()
        return LaneStatus(
            channel=self.channel.name,
            kind=self.channel.kind,
            queued=len(self._queue),
            oldest_s=max((now - one.since for one in self._queue), default=0.0),
            sent=self._sent,
            failed=self._failed,
            dead=self._dead,
            breaker_open=self._allowance.broken,
            last_sent_at_s=self._last_sent_at_s,
            last_duration_s=self._last_duration_s,
            last_error=self._last_error,
        )

    async def run(self) -> None:
        """Deliver until cancelled."""
        await self._warm_up()
        while True:
            self._wake.clear()
            await self._step()

    async def _warm_up(self) -> None:
        """Import what a page needs, after the agent's own start and before the first page."""
        try:
            async with asyncio.timeout(_WARM_AFTER_S):
                await self._wake.wait()
        except TimeoutError:
            self._porter.warm(self._unusable)

    def _unusable(self, error: str) -> None:
        self._last_error = error

    async def _step(self) -> None:
        now = self._clock.monotonic_s()
        if self._hurried:
            self._hurried = False
            self._allowance.forgive()
            for one in self._queue:
                one.due = now
        self._leave_to_owner(now)
        self._collapse(now)
        ready = self._ready(now)
        wait_s = self._wait_s(now, ready=bool(ready))
        if wait_s > 0:
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
            return
        await self._deliver(self._together(ready, now))

    def _ready(self, now: float) -> list[Waiting]:
        """The first row of each episode, or of each key that several share, if its time has come."""
        first: dict[str, Waiting] = {}
        for one in self._queue:
            first.setdefault(one.notice.dedup_key, one)
        return [one for one in first.values() if one.due <= now]

    def _wait_s(self, now: float, *, ready: bool) -> float:
        if not self._queue:
            return _IDLE_S
        if self._porter.busy:
            return _FAST_RETRY_S
        allowed_s = self._allowance.wait_s(now)
        if allowed_s > 0:
            return min(allowed_s, _FAST_RETRY_S)
        if not ready:
            return min(max(0.01, min(one.due for one in self._queue) - now), _FAST_RETRY_S)
        return 0.0

    def _together(self, ready: list[Waiting], now: float) -> list[Waiting]:
        """One row, or as many as one digest says when there are more of them than the rate allows."""
        first = ready[0]
        crowded = len(ready) > self._allowance.tokens(now)
        if self._porter.dedups or not crowded or first.notice.kind in _ALONE:
            return [first]
        same = [one for one in ready if one.over == first.over and one.notice.kind not in _ALONE]
        return same[:_DIGEST_LIMIT]

    async def _deliver(self, chosen: list[Waiting]) -> None:
        row = chosen[0].row
        notice = row.notice if len(chosen) == 1 else digest_of([one.notice for one in chosen], row.id)
        if row.attempts:
            notice = msgspec.structs.replace(notice, repeated=True)
        self._allowance.spend()
        started = self._clock.monotonic_s()
        self._sending = frozenset(one.row.id for one in chosen)
        try:
            ref = self._journal.ref(notice.episode, row.channel)
            deadline_s = float(self.channel.settings.timeout)
            delivery = await self._porter.carry(self._hooks.dressed(notice), deadline_s=deadline_s, ref=ref)
        except Exception as error:
            self._on_failure(chosen, error)
            return
        finally:
            self._sending = frozenset()
        self._last_duration_s = self._clock.monotonic_s() - started
        self._last_sent_at_s = self._clock.wall_s()
        self._allowance.succeeded()
        self._hooks.taken()
        self._last_error, self._refused = "", None
        self._sent += len(chosen)
        for one in chosen:
            self._queue.remove(one)
            ref = delivery.ref if len(chosen) == 1 else None
            self._journal.sent(one.row, self._last_sent_at_s, status=delivery.status, ref=ref)
        logger.info(
            "notification.sent",
            extra={"channel": row.channel, "episode": notice.episode, "kind": notice.kind.value,
                   "attempt": row.attempts + 1, "duration_s": round(self._last_duration_s, 3)},
        )  # fmt: skip

    def _on_failure(self, chosen: list[Waiting], error: Exception) -> None:
        known = error if isinstance(error, NotifyError) else None
        words = str(error) or f"no answer within {self.channel.settings.timeout}"
        self._last_error = words[:200]
        self._failed += 1
        final = known is not None and not known.retryable
        asked_s = known.retry_after_s if known is not None else None
        now = self._clock.monotonic_s()
        self._allowance.failed(now, asked_s=asked_s)
        status = known.status if known is not None else None
        for one in chosen:
            wait_s = max(self._backoff_s(one, now), asked_s or 0.0)
            dead = final or now - one.since >= _GIVE_UP_S
            one.due = now + wait_s
            one.row = replace(
                one.row, attempts=one.row.attempts + 1, last_error=words, http_status=status,
                next_at_s=self._clock.wall_s() + (0.0 if dead else wait_s),
            )  # fmt: skip
            self._journal.failed(one.row, dead=dead)
            if dead:
                self._queue.remove(one)
                self._dead += 1
                self._refused = Waiting(row=one.row, since=now, due=now)
                self._say_no_more(one.row)
                self._hooks.given_up(one.row)
        logger.log(
            logging.ERROR if final else logging.WARNING,
            "notification.failed",
            extra={"channel": self.channel.name, "episode": chosen[0].notice.episode,
                   "attempt": chosen[0].row.attempts, "error": words[:200]},
        )  # fmt: skip

    def _say_no_more(self, row: OutboxRow) -> None:
        """Who refused the call at its only attempt has heard of nothing, so it hears of no end either."""
        if row.notice.kind is not NoticeKind.TRIGGER or row.attempts > 1:
            return
        rest = [one for one in self._queue if one.notice.episode == row.notice.episode]
        self._journal.merge([one.row for one in rest], self._clock.wall_s(), why="the call was refused")
        for one in rest:
            self._queue.remove(one)

    def _backoff_s(self, one: Waiting, now: float) -> float:
        """Full jitter over 1, 2, 4 ... 60 s for a quarter of an hour, then every five minutes."""
        if now - one.since >= _FAST_FOR_S:
            return _SLOW_RETRY_S
        limit_s: float = min(_FAST_RETRY_S, 2.0 ** min(one.row.attempts, 6))
        return max(0.1, secrets.SystemRandom().random() * limit_s)

    def _leave_to_owner(self, now: float) -> None:
        """What Alertmanager calls for is not called for twice; what is open is asked again in a second."""
        for one in list(self._queue):
            fate = self._hooks.fate(one.row)
            if fate is Fate.THEIRS:
                self._queue.remove(one)
                self._journal.merge([one.row], self._clock.wall_s(), why=LEFT)
            elif fate is Fate.OPEN:
                # Its age counts from when it became ours: until then nobody here failed to take it.
                one.since, one.due = now, now + _UNDECIDED_S

    def _collapse(self, now: float) -> None:
        """A call that never got through and is already over becomes one message that says both."""
        if self._porter.dedups:
            return
        over = {one.notice.episode: one for one in self._queue if one.over}
        for episode, end in over.items():
            stale = [
                one
                for one in self._queue
                if one.notice.episode == episode
                and not one.over
                and (one.row.attempts or now - one.since >= _STALE_S)
            ]
            if not stale:
                continue
            if any(one.notice.kind is NoticeKind.TRIGGER for one in stale):
                end.row = replace(end.row, notice=belated(end.notice))
            self._journal.merge([one.row for one in stale], self._clock.wall_s(), into=end.row)
            for one in stale:
                self._queue.remove(one)
