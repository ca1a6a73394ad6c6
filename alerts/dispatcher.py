"""Takes notices from the journal to their channels, at least once, and says when it cannot.

It never judges and never probes; each channel has its own lane. A page that its channel does not take within
a minute goes to the receiver's `failover`; while nothing can be delivered the dead man's ping stops.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from alerts.batch import Batch, OutboxRow
from alerts.channel import Channel
from alerts.dead_man import Ping
from alerts.digest import belated
from alerts.journal import Journal
from alerts.lane import Hooks, Lane
from alerts.notice import Notice, NoticeKind
from alerts.notifiers import catalog
from alerts.notifiers.notifier import Notifier
from alerts.owner import Fate, fate
from alerts.pusher import Pusher, marked
from alerts.receiver import DeadMan, Owner
from alerts.rule import Severity
from alerts.troubles import Trouble
from alerts.waiting import LaneStatus
from alerts.words import gsm
from checks.clock import Clock, SystemClock

logger = logging.getLogger(__name__)

_FAILOVER_AFTER_S: Final = 60.0
_LOOK_EVERY_S: Final = 5.0
_PING_STOPS_AFTER_S: Final = 300.0
_PREPARE_EVERY_S: Final = 30.0


class Trial(Struct, frozen=True, kw_only=True):
    """A test message: the channels it was queued for, and the episode its rows are kept under."""

    channels: tuple[str, ...]
    episode: str


def _always() -> bool:
    return True


def _unsigned(notice: Notice) -> Notice:
    return notice


class Dispatcher:
    """Runs the lanes. Everything but the sending itself happens on the event loop."""

    def __init__(
        self,
        journal: Journal,
        channels: tuple[Channel, ...],
        *,
        clock: Clock | None = None,
        build: Callable[[Channel], Notifier] = catalog.build,
        dead_man: DeadMan | None = None,
        healthy: Callable[[], bool] = _always,
        signed: Callable[[Notice], Notice] = _unsigned,
    ) -> None:
        self._journal = journal
        self._channels = channels
        self._clock = clock or SystemClock()
        self._build = build
        self._healthy = healthy
        self._signed = signed
        self._ping = Ping(dead_man, self._clock, self._vouched) if dead_man is not None else None
        self._pusher = Pusher(journal, lambda: self._channels, self._clock)
        self._lanes: dict[str, Lane] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._failed_over: set[tuple[str, str]] = set()
        self._prepared: float | None = None
        journal.on_outbox(self._enqueued)

    async def run(self) -> None:
        """Deliver until cancelled. What is not delivered then stays in the journal."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._open()
            for row in self._journal.queued():
                # It may have been sent just before the last process ended.
                self._offer(_maybe_sent(row))
            self._fail_over_again()
            group.create_task(self._watch(), name="notify watch")
            group.create_task(self._pusher.run(), name="notify push")
            if self._ping is not None:
                group.create_task(self._ping.run(), name="dead man's ping")

    def reload(self, channels: tuple[Channel, ...]) -> None:
        """Take over new channels. Those that stay keep their lanes, their breakers and what they carry.

        Rows of a channel that is gone wait two days for it to come back.
        """
        self._channels = channels
        if self._group is None:
            return
        same = {one.name for one in channels if (lane := self._lanes.get(one.name)) and lane.channel == one}
        closed = {name: lane for name, lane in self._lanes.items() if name not in same}
        for name in closed:
            self._tasks.pop(name).cancel()
            del self._lanes[name]
        self._open()
        for row in self._journal.queued():
            if row.channel in self._lanes and row.channel not in same:
                old = closed.get(row.channel)
                self._offer(_maybe_sent(row) if old is not None and old.sending(row) else row)

    def hurry(self) -> None:
        """Try everything that waits now: the network is back."""
        for lane in self._lanes.values():
            lane.hurry()

    def prepare(self) -> None:
        """Something may have failed: what a page needs is got ready while the doubt is looked into."""
        now = self._clock.monotonic_s()
        if self._prepared is None or now - self._prepared >= _PREPARE_EVERY_S:
            self._prepared = now
            for lane in self._lanes.values():
                lane.prepare()

    def status(self) -> tuple[LaneStatus, ...]:
        """How each channel does."""
        return tuple(lane.status() for lane in self._lanes.values())

    def troubles(self) -> tuple[Trouble, ...]:
        """What channels do not take, where there is another one to say so."""
        if len(self._lanes) < 2:
            return ()
        return tuple(found for lane in self._lanes.values() if (found := lane.trouble()) is not None)

    @property
    def oldest_unsent_s(self) -> float:
        """The age of the oldest notice nobody has taken; 0 when there is none."""
        return max((one.oldest_s for one in self.status()), default=0.0)

    @property
    def pinged_at_s(self) -> float:
        """When the dead man's ping was last accepted; 0 when never."""
        return self._ping.accepted_at_s if self._ping is not None else 0.0

    def test(self, receiver: str, author: str) -> Trial:
        """Queue a test message on every channel of a receiver."""
        now_s = self._clock.wall_s()
        tried = [one for one in self._channels if one.receiver == receiver]
        names = tuple(one.name for one in tried)
        notice = test_notice(tried[0].env if tried else "", author, now_s)
        self._journal.commit(Batch(outbox=[(name, 0, notice) for name in names]), now_s)
        return Trial(channels=names, episode=notice.episode)

    def _vouched(self) -> bool:
        return self._healthy() and self.oldest_unsent_s < _PING_STOPS_AFTER_S

    def _open(self) -> None:
        assert self._group is not None
        for channel in self._channels:
            if channel.name in self._lanes:
                continue
            pushes = channel.kind == "alertmanager"
            left = channel.settings.owner is Owner.ALERTMANAGER and not pushes
            hooks = Hooks(
                fate=self._fate if left else _ours,
                dressed=partial(marked, channel=channel) if pushes else self._signed,
                taken=self._pusher.accepted if pushes else _nothing,
                given_up=self._fail_over,
            )
            lane = Lane(channel, self._build(channel), self._journal, self._clock, hooks)
            self._lanes[channel.name] = lane
            self._tasks[channel.name] = self._group.create_task(lane.run(), name=f"notify {channel.name}")

    def _fate(self, row: OutboxRow) -> Fate:
        pushed = frozenset(one.name for one in self._channels if one.kind == "alertmanager")
        waited_s = self._clock.wall_s() - row.created_at_s
        rows = self._journal.outbox_of(row.notice.episode)
        return fate(row, rows, pushed, alone_s=max(self._pusher.quiet_s, waited_s))

    def _enqueued(self, rows: tuple[OutboxRow, ...]) -> None:
        for row in rows:
            self._offer(row)

    def _offer(self, row: OutboxRow) -> None:
        lane = self._lanes.get(row.channel)
        if lane is not None:
            lane.offer(row)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            overdue = [row for lane in self._lanes.values() for row in lane.overdue(_FAILOVER_AFTER_S)]
            self._failed_over &= {(row.notice.episode, row.channel) for row in overdue}
            for row in overdue:
                self._fail_over(row)
            self._journal.try_disk()

    def _instead(self, notice: Notice, channel: Channel) -> Notice:
        """What the stand-in is told: the call, or that it is over already and nobody heard of it."""
        told = self._journal.episode(notice.episode)
        if told is not None and told.resolved_at_s is not None:
            rows = self._journal.outbox_of(notice.episode)
            end = next((one.notice for one in rows if one.notice.kind is NoticeKind.RESOLVE), None)
            if end is not None:
                return belated(end)
        said = f"{channel.receiver} could not be reached, so you are called"
        return msgspec.structs.replace(notice, body=(*notice.body, ("Note", said)))

    def _fail_over_again(self) -> None:
        """The last process may have ended between a final no and the call to the stand-in."""
        for told in self._journal.episodes(only_open=True):
            for row in self._journal.outbox_of(told.episode):
                if row.state == "dead":
                    self._fail_over(row)

    def _fail_over(self, row: OutboxRow) -> None:
        """Hand a page that is stuck to the stand-in, once; the journal tells it of the end too."""
        channel = next((one for one in self._channels if one.name == row.channel), None)
        urgent = row.notice.kind is NoticeKind.TRIGGER and row.notice.severity is Severity.PAGE
        if channel is None or channel.settings.failover is None or not urgent:
            return
        if (row.notice.episode, row.channel) in self._failed_over:
            return
        self._failed_over.add((row.notice.episode, row.channel))
        notice = self._instead(row.notice, channel)
        names = [one.name for one in self._channels if one.receiver == channel.settings.failover]
        logger.warning("notification.failover", extra={"channel": row.channel, "episode": notice.episode})
        now_s = self._clock.wall_s()
        self._journal.commit(Batch(outbox=[(name, 0, notice) for name in names]), now_s)


def _ours(_: OutboxRow) -> Fate:
    return Fate.OURS


def _nothing() -> None:
    pass


def _maybe_sent(row: OutboxRow) -> OutboxRow:
    return replace(row, notice=msgspec.structs.replace(row.notice, repeated=True))


def test_notice(env: str, author: str, now_s: float) -> Notice:
    """A message that asks only whether it arrives."""
    title = f"{env.upper()} · test message from Gaia, asked for by {author}"
    return Notice(
        kind=NoticeKind.TEST,
        episode=f"test:{round(now_s * 1000)}",
        env=env,
        alertname="test",
        component="",
        severity=Severity.CHAT,
        title=title[:160],
        sms=gsm(title, limit=160),
        body=(("", "If you read this, calls reach you this way. Nothing is wrong."),),
        labels={"alertname": "test", "env": env, "severity": "chat"},
        at_s=now_s,
        fired_at_s=now_s,
    )
