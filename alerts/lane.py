"""One channel's way out: its queue, its own threads, its retries, its breaker and its rate.

What one channel does can neither delay another nor the event loop. Order holds within an episode.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from alerts.batch import OutboxRow
from alerts.channel import Channel
from alerts.digest import digest_of
from alerts.journal import Journal
from alerts.notice import Notice, NoticeKind
from alerts.notifiers.notifier import Delivery, Notifier, NotifyError
from alerts.words import clock as time_of_day
from checks.clock import Clock

logger = logging.getLogger(__name__)

_THREADS: Final = 2
_FAST_RETRY_S: Final = 60.0
_FAST_FOR_S: Final = 900.0
_SLOW_RETRY_S: Final = 300.0
_GIVE_UP_S: Final = 86400.0
_BREAKS_AFTER: Final = 5
_PROBE_EVERY_S: Final = 30.0
_BURST: Final = 10.0
_DIGEST_LIMIT: Final = 200
_IDLE_S: Final = 3600.0
_WARM_AFTER_S: Final = 1.0


class LaneStatus(Struct, frozen=True, kw_only=True):
    """How a channel does. `oldest_s` is the age of its oldest unsent notice, 0 when there is none."""

    channel: str
    kind: str
    queued: int
    oldest_s: float
    sent: int
    failed: int
    dead: int
    breaker_open: bool
    last_sent_at_s: float
    last_duration_s: float
    last_error: str


class Lane:
    """Delivers the rows of one channel. Lives on the event loop; only `Notifier.deliver` runs elsewhere."""

    def __init__(
        self,
        channel: Channel,
        notifier: Notifier,
        journal: Journal,
        clock: Clock,
        *,
        given_up: Callable[[OutboxRow], None],
    ) -> None:
        self.channel = channel
        self._notifier = notifier
        self._journal = journal
        self._clock = clock
        self._given_up = given_up
        self._rows: list[OutboxRow] = []
        self._wake = asyncio.Event()
        self._hurried = False
        self._alive_threads = 0
        self._failures = 0
        self._blocked_until_s = 0.0
        self._tokens = _BURST
        self._refilled_s = clock.monotonic_s()
        self._sent = self._failed = self._dead = 0
        self._last_sent_at_s = self._last_duration_s = 0.0
        self._last_error = ""

    def offer(self, row: OutboxRow) -> None:
        """Queue a row that is already on disk."""
        self._rows.append(row)
        self._wake.set()

    def hurry(self) -> None:
        """Forget how long to wait before the next try."""
        self._hurried = True
        self._wake.set()

    def waiting(self) -> tuple[OutboxRow, ...]:
        """Rows not yet accepted, oldest first."""
        return tuple(self._rows)

    def status(self) -> LaneStatus:
        """Figures for the metrics and the page."""
        oldest_s = min((row.created_at_s for row in self._rows), default=0.0)
        return LaneStatus(
            channel=self.channel.name,
            kind=self.channel.kind,
            queued=len(self._rows),
            oldest_s=max(0.0, self._clock.wall_s() - oldest_s) if self._rows else 0.0,
            sent=self._sent,
            failed=self._failed,
            dead=self._dead,
            breaker_open=self._failures >= _BREAKS_AFTER,
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
            self._spawn(self._warm)

    async def _step(self) -> None:
        now_s = self._clock.wall_s()
        if self._hurried:
            self._hurried, self._blocked_until_s = False, 0.0
            self._rows = [replace(row, next_at_s=0.0) for row in self._rows]
        self._collapse(now_s)
        ready = self._ready(now_s)
        wait_s = self._wait_s(now_s, ready=bool(ready))
        if wait_s > 0:
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
            return
        rows = self._merged(ready)
        await self._deliver(rows)

    def _ready(self, now_s: float) -> list[OutboxRow]:
        """The first row of each episode, if its time has come."""
        first: dict[str, OutboxRow] = {}
        for row in self._rows:
            first.setdefault(row.notice.episode, row)
        return [row for row in first.values() if row.next_at_s <= now_s]

    def _wait_s(self, now_s: float, *, ready: bool) -> float:
        if not self._rows:
            return _IDLE_S
        if self._alive_threads >= _THREADS:
            return _FAST_RETRY_S
        if self._blocked_until_s > now_s:
            return min(self._blocked_until_s - now_s, _FAST_RETRY_S)
        if not ready:
            return min(max(0.01, min(row.next_at_s for row in self._rows) - now_s), _FAST_RETRY_S)
        self._refill()
        return 0.0 if self._tokens >= 1 else (1 - self._tokens) / self._per_s()

    def _refill(self) -> None:
        now = self._clock.monotonic_s()
        self._tokens = min(_BURST, self._tokens + (now - self._refilled_s) * self._per_s())
        self._refilled_s = now

    def _per_s(self) -> float:
        return max(1, self.channel.settings.max_per_minute) / 60

    def _merged(self, ready: list[OutboxRow]) -> list[OutboxRow]:
        """One row, or as many as one digest says when there are more of them than the rate allows."""
        if self._notifier.dedups or len(ready) <= self._tokens:
            return ready[:1]
        same = [row for row in ready if (row.notice.kind is NoticeKind.RESOLVE) == _over(ready[0])]
        return same[:_DIGEST_LIMIT]

    async def _deliver(self, rows: list[OutboxRow]) -> None:
        row = rows[0]
        notice = row.notice if len(rows) == 1 else digest_of([one.notice for one in rows], rows[0].id)
        if row.attempts:
            notice = msgspec.structs.replace(notice, repeated=True)
        self._tokens -= 1
        started = self._clock.monotonic_s()
        try:
            ref = self._journal.ref(notice.episode, row.channel)
            delivery = await self._in_thread(notice, ref)
        except Exception as error:
            self._on_failure(rows, error)
            return
        self._last_duration_s = self._clock.monotonic_s() - started
        self._last_sent_at_s = self._clock.wall_s()
        self._failures = 0
        self._sent += len(rows)
        for one in rows:
            self._rows.remove(one)
            ref = delivery.ref if len(rows) == 1 else None
            self._journal.sent(one, self._last_sent_at_s, status=delivery.status, ref=ref)
        logger.info(
            "notification.sent",
            extra={"channel": row.channel, "episode": notice.episode, "kind": notice.kind.value,
                   "attempt": row.attempts + 1, "duration_s": round(self._last_duration_s, 3)},
        )  # fmt: skip

    async def _in_thread(self, notice: Notice, ref: str | None) -> Delivery:
        deadline_s = float(self.channel.settings.timeout)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Delivery] = loop.create_future()

        def work() -> None:
            try:
                delivery = self._notifier.deliver(notice, deadline_s=deadline_s, ref=ref)
            except Exception as error:  # handed to the loop, which decides
                _tell(loop, future, error)
            else:
                _tell(loop, future, delivery)

        self._spawn(work)
        # A thread that outlives its deadline keeps one of the two places until it ends.
        async with asyncio.timeout(deadline_s + 0.5):
            return await future

    def _spawn(self, work: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._alive_threads += 1

        def run() -> None:
            try:
                work()
            finally:
                _call(loop, self._thread_ended)

        threading.Thread(target=run, name=f"notify {self.channel.name}", daemon=True).start()

    def _thread_ended(self) -> None:
        self._alive_threads -= 1
        self._wake.set()

    def _warm(self) -> None:
        try:
            self._notifier.warm()
        except Exception as error:
            logger.warning(
                "channel.unusable", extra={"channel": self.channel.name, "error": str(error)[:200]}
            )
            self._last_error = str(error)[:200]

    def _on_failure(self, rows: list[OutboxRow], error: Exception) -> None:
        now_s = self._clock.wall_s()
        known = error if isinstance(error, NotifyError) else None
        words = str(error) or f"no answer within {self.channel.settings.timeout}"
        self._last_error = words[:200]
        self._failed += 1
        self._failures += 1
        if self._failures >= _BREAKS_AFTER:
            self._blocked_until_s = now_s + _PROBE_EVERY_S
        for row in rows:
            hopeless = known is not None and not known.retryable
            dead = hopeless or now_s - row.created_at_s >= _GIVE_UP_S
            wait_s = self._backoff_s(row, now_s)
            if known is not None and known.retry_after_s is not None:
                wait_s = max(wait_s, known.retry_after_s)
            later = replace(
                row, attempts=row.attempts + 1, next_at_s=now_s + wait_s, last_error=words,
                http_status=known.status if known is not None else None,
            )  # fmt: skip
            self._journal.failed(
                row, words, next_at_s=now_s if dead else later.next_at_s, status=later.http_status, dead=dead
            )
            index = self._rows.index(row)
            if dead:
                del self._rows[index]
                self._dead += 1
                self._given_up(later)
            else:
                self._rows[index] = later
        level = logging.ERROR if known is not None and not known.retryable else logging.WARNING
        logger.log(
            level,
            "notification.failed",
            extra={"channel": self.channel.name, "episode": rows[0].notice.episode,
                   "attempt": rows[0].attempts + 1, "error": words[:200]},
        )  # fmt: skip

    def _backoff_s(self, row: OutboxRow, now_s: float) -> float:
        """Full jitter over 1, 2, 4 ... 60 s for a quarter of an hour, then every five minutes."""
        if now_s - row.created_at_s >= _FAST_FOR_S:
            return _SLOW_RETRY_S
        limit_s: float = min(_FAST_RETRY_S, 2.0 ** min(row.attempts, 6))
        return max(0.1, secrets.SystemRandom().random() * limit_s)

    def _collapse(self, now_s: float) -> None:
        """A call that never got through and is already over becomes one message that says both."""
        if self._notifier.dedups:
            return
        over = {row.notice.episode: row for row in self._rows if row.notice.kind is NoticeKind.RESOLVE}
        if not over:
            return
        stale = [
            row
            for row in self._rows
            if row.notice.episode in over and row.notice.kind is not NoticeKind.RESOLVE and row.attempts
        ]
        if not stale:
            return
        self._journal.merge(stale, now_s)
        for row in stale:
            self._rows.remove(row)
            if row.notice.kind is NoticeKind.TRIGGER:
                end = over[row.notice.episode]
                self._rows[self._rows.index(end)] = replace(end, notice=_belated(end.notice))


def _belated(notice: Notice) -> Notice:
    late = f"the call at {time_of_day(notice.fired_at_s)} did not get through"
    return msgspec.structs.replace(
        notice, title=f"{notice.title} ({late})"[:160], body=(*notice.body, ("Note", late))
    )


def _over(row: OutboxRow) -> bool:
    return row.notice.kind is NoticeKind.RESOLVE


def _tell(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Delivery], outcome: Delivery | Exception
) -> None:
    def finish() -> None:
        if future.done():
            return
        if isinstance(outcome, Delivery):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)

    _call(loop, finish)


def _call(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        # The loop ended while the thread was still sending; the row is still queued on disk.
        return
