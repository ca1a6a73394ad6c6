"""Takes notices from the journal to their channels, at least once, and says when it cannot.

It never judges and never probes; each channel has its own lane. A page that its channel does not take within
a minute goes to the receiver's `failover`; while nothing can be delivered the dead man's ping stops.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from alerts.batch import Batch, OutboxRow
from alerts.channel import Channel
from alerts.journal import Journal
from alerts.lane import Lane, LaneStatus
from alerts.notice import Notice, NoticeKind
from alerts.notifiers import catalog
from alerts.notifiers.notifier import Notifier
from alerts.receiver import DeadMan
from alerts.rule import Severity
from checks.clock import Clock, SystemClock

logger = logging.getLogger(__name__)

_FAILOVER_AFTER_S: Final = 60.0
_LOOK_EVERY_S: Final = 5.0
_RESEND_S: Final = 30.0
_RESOLVED_KEPT_S: Final = 900.0
_PING_STOPS_AFTER_S: Final = 300.0
_PING_DEADLINE_S: Final = 10.0


class Trial(Struct, frozen=True, kw_only=True):
    """A test message: the channels it was queued for, and the episode its rows are kept under."""

    channels: tuple[str, ...]
    episode: str


def _always() -> bool:
    return True


class Dispatcher:
    """Runs the lanes. Everything but the sending itself happens on the event loop."""

    def __init__(
        self,
        journal: Journal,
        channels: tuple[Channel, ...],
        *,
        env: str,
        clock: Clock | None = None,
        build: Callable[[Channel], Notifier] = catalog.build,
        dead_man: DeadMan | None = None,
        healthy: Callable[[], bool] = _always,
    ) -> None:
        self._journal = journal
        self._channels = channels
        self._env = env
        self._clock = clock or SystemClock()
        self._build = build
        self._dead_man = dead_man
        self._healthy = healthy
        self._lanes: dict[str, Lane] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._failed_over: set[tuple[str, str]] = set()
        self._pinged_at_s = 0.0
        journal.on_outbox(self._enqueued)

    async def run(self) -> None:
        """Deliver until cancelled. What is not delivered then stays in the journal."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._open()
            for row in self._journal.queued():
                # It may have been sent just before the last process ended.
                self._offer(replace(row, notice=msgspec.structs.replace(row.notice, repeated=True)))
            group.create_task(self._watch(), name="notify watch")
            group.create_task(self._resend(), name="notify resend")
            if self._dead_man is not None:
                group.create_task(self._ping(self._dead_man), name="dead man's ping")

    def reload(self, channels: tuple[Channel, ...]) -> None:
        """Take over new channels; rows of one that is gone wait for it to come back, or a day."""
        self._channels = channels
        if self._group is None:
            return
        waiting = [row for lane in self._lanes.values() for row in lane.waiting()]
        for task in self._tasks.values():
            task.cancel()
        self._lanes.clear()
        self._tasks.clear()
        self._open()
        for row in waiting:
            self._offer(row)

    def hurry(self) -> None:
        """Try everything that waits now: the network is back."""
        for lane in self._lanes.values():
            lane.hurry()

    def status(self) -> tuple[LaneStatus, ...]:
        """How each channel does."""
        return tuple(lane.status() for lane in self._lanes.values())

    @property
    def oldest_unsent_s(self) -> float:
        """The age of the oldest notice nobody has taken; 0 when there is none."""
        return max((one.oldest_s for one in self.status()), default=0.0)

    @property
    def pinged_at_s(self) -> float:
        """When the dead man's ping was last accepted; 0 when never."""
        return self._pinged_at_s

    def test(self, receiver: str, author: str) -> Trial:
        """Queue a test message on every channel of a receiver."""
        now_s = self._clock.wall_s()
        names = tuple(one.name for one in self._channels if one.receiver == receiver)
        notice = _test_notice(self._env, author, now_s)
        self._journal.commit(Batch(outbox=[(name, 0, notice) for name in names]), now_s)
        return Trial(channels=names, episode=notice.episode)

    def _open(self) -> None:
        assert self._group is not None
        for channel in self._channels:
            lane = Lane(channel, self._build(channel), self._journal, self._clock, given_up=self._fail_over)
            self._lanes[channel.name] = lane
            self._tasks[channel.name] = self._group.create_task(lane.run(), name=f"notify {channel.name}")

    def _enqueued(self, rows: tuple[OutboxRow, ...]) -> None:
        for row in rows:
            self._offer(row)
            if row.notice.kind is NoticeKind.RESOLVE:
                self._resolve_stand_ins(row)

    def _offer(self, row: OutboxRow) -> None:
        lane = self._lanes.get(row.channel)
        if lane is not None:
            lane.offer(row)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            now_s = self._clock.wall_s()
            for lane in self._lanes.values():
                for row in lane.waiting():
                    if now_s - row.created_at_s >= _FAILOVER_AFTER_S:
                        self._fail_over(row)
            self._journal.try_disk()

    def _fail_over(self, row: OutboxRow) -> None:
        """Hand a page that is stuck to the stand-in, once."""
        channel = next((one for one in self._channels if one.name == row.channel), None)
        urgent = row.notice.kind is NoticeKind.TRIGGER and row.notice.severity is Severity.PAGE
        if channel is None or channel.settings.failover is None or not urgent:
            return
        if (row.notice.episode, row.channel) in self._failed_over:
            return
        self._failed_over.add((row.notice.episode, row.channel))
        notice = msgspec.structs.replace(
            row.notice,
            body=(*row.notice.body, ("Note", f"{channel.receiver} could not be reached, so you are called")),
        )
        names = [one.name for one in self._channels if one.receiver == channel.settings.failover]
        logger.warning("notification.failover", extra={"channel": row.channel, "episode": notice.episode})
        now_s = self._clock.wall_s()
        self._journal.commit(Batch(outbox=[(name, 0, notice) for name in names]), now_s)

    def _resolve_stand_ins(self, row: OutboxRow) -> None:
        """Whoever was called instead is told of the end too."""
        channel = next((one for one in self._channels if one.name == row.channel), None)
        if channel is None or channel.settings.failover is None:
            return
        stand_ins = {one.name for one in self._channels if one.receiver == channel.settings.failover}
        called = {one.channel for one in self._journal.outbox_of(row.notice.episode)
                  if one.notice.kind is NoticeKind.TRIGGER and one.channel in stand_ins}  # fmt: skip
        if called:
            outbox = [(name, 0, row.notice) for name in sorted(called)]
            self._journal.commit(Batch(outbox=outbox), self._clock.wall_s())

    async def _resend(self) -> None:
        """Alertmanager forgets what is not confirmed: say it again, and its end for a while."""
        while True:
            await asyncio.sleep(_RESEND_S)
            pushed = [one for one in self._channels if one.kind == "alertmanager"]
            if not pushed:
                continue
            now_s = self._clock.wall_s()
            for told in self._journal.episodes():
                over_s = told.resolved_at_s
                if over_s is not None and now_s - over_s > _RESOLVED_KEPT_S:
                    continue
                kind = NoticeKind.TRIGGER if over_s is None else NoticeKind.RESOLVE
                rows = [one for one in self._journal.outbox_of(told.episode) if one.notice.kind is kind]
                for channel in pushed:
                    again = next((one for one in rows if one.channel == channel.name), None)
                    if again is not None and again.state == "sent":
                        self._in_background(channel, again.notice)

    def _in_background(self, channel: Channel, notice: Notice) -> None:
        notifier = self._build(channel)

        def work() -> None:
            try:
                notifier.deliver(notice, deadline_s=_PING_DEADLINE_S)
            except Exception as error:
                logger.warning(
                    "notification.resend_failed", extra={"channel": channel.name, "error": str(error)}
                )

        threading.Thread(target=work, name=f"resend {channel.name}", daemon=True).start()

    async def _ping(self, dead_man: DeadMan) -> None:
        """Tell somebody else that we are alive, only while we can judge and deliver."""
        loop = asyncio.get_running_loop()
        while True:
            if self._healthy() and self.oldest_unsent_s < _PING_STOPS_AFTER_S:
                threading.Thread(
                    target=self._ping_once, args=(dead_man, loop), name="dead man's ping", daemon=True
                ).start()
            await asyncio.sleep(dead_man.every)

    def _ping_once(self, dead_man: DeadMan, loop: asyncio.AbstractEventLoop) -> None:
        from alerts.notifiers import http

        try:
            http.request("GET", dead_man.url.reveal(), deadline_s=_PING_DEADLINE_S)
        except Exception as error:
            logger.warning("dead_man.failed", extra={"error": str(error)})
            return
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._pinged)

    def _pinged(self) -> None:
        self._pinged_at_s = self._clock.wall_s()


def _test_notice(env: str, author: str, now_s: float) -> Notice:
    title = f"{env.upper()} · test message from Gaia, asked for by {author}"
    return Notice(
        kind=NoticeKind.TEST,
        episode=f"test:{round(now_s * 1000)}",
        env=env,
        alertname="test",
        component="",
        severity=Severity.CHAT,
        title=title[:160],
        sms=title.replace("·", "-").encode("ascii", "replace").decode()[:160],
        body=(("", "If you read this, calls reach you this way. Nothing is wrong."),),
        labels={"alertname": "test", "env": env, "severity": "chat"},
        at_s=now_s,
        fired_at_s=now_s,
    )
