"""Says again to every Alertmanager what is on, and for a while what is over, so that it never has to guess.

Alertmanager forgets what is not confirmed, and its peers do not tell each other reliably: each is told every
half minute, with a Watchdog that fires always, whose absence there says that we are gone.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Final

import msgspec

from alerts.channel import Channel
from alerts.journal import Journal
from alerts.notice import Notice, NoticeKind
from alerts.notifiers.notifier import NotifyError
from alerts.receiver import Alertmanager
from checks.clock import Clock

logger = logging.getLogger(__name__)

EVERY_S: Final = 30.0
_RESOLVED_KEPT_S: Final = 900.0
_DEADLINE_S: Final = 10.0
_MOST: Final = 2000


class Pusher:
    """One environment's Alertmanagers. Lives on the event loop; each peer is told from its own thread."""

    def __init__(self, journal: Journal, channels: Callable[[], tuple[Channel, ...]], clock: Clock) -> None:
        self._journal = journal
        self._channels = channels
        self._clock = clock
        self._accepted: float | None = None
        self._began = clock.monotonic_s()
        self._busy: set[str] = set()

    def accepted(self) -> None:
        """An Alertmanager took something."""
        self._accepted = self._clock.monotonic_s()

    @property
    def quiet_s(self) -> float:
        """How long no Alertmanager has accepted anything."""
        last = self._began if self._accepted is None else self._accepted
        return self._clock.monotonic_s() - last

    async def run(self) -> None:
        """Push until cancelled."""
        while True:
            self.push()
            await asyncio.sleep(EVERY_S)

    def push(self) -> None:
        """Tell every peer of every channel, unless it still hangs in the last push."""
        for channel in self._channels():
            if isinstance(channel.options, Alertmanager):
                notices = self.notices(channel.name)
                for url in channel.options.urls:
                    self._tell(url.reveal(), notices, channel)

    def notices(self, channel: str) -> tuple[Notice, ...]:
        """What this channel has taken of every episode that is open or ended lately."""
        now_s = self._clock.wall_s()
        recent = self._journal.episodes(limit=_MOST, only_open=True) + tuple(
            told
            for told in self._journal.episodes(limit=_MOST)
            if told.resolved_at_s is not None and abs(now_s - told.resolved_at_s) <= _RESOLVED_KEPT_S
        )
        found = []
        for told in recent:
            mine = [one for one in self._journal.outbox_of(told.episode) if one.channel == channel]
            wanted = NoticeKind.TRIGGER if told.resolved_at_s is None else NoticeKind.RESOLVE
            if any(one.state == "sent" and one.notice.kind is wanted for one in mine):
                # The latest words about it; reminders are for people.
                said = [one.notice for one in mine if one.notice.kind is not NoticeKind.REMINDER]
                found.append(said[-1])
        return tuple(found)

    def _tell(self, url: str, notices: tuple[Notice, ...], channel: Channel) -> None:
        if url in self._busy:
            return
        self._busy.add(url)
        loop = asyncio.get_running_loop()

        def work() -> None:
            from alerts.notifiers.alertmanager import post, posted, watchdog

            taken = False
            try:
                now_s = time.time()
                alerts = [posted(marked(one, channel), now_s) for one in notices]
                post(url, [watchdog(channel.env, now_s), *alerts], deadline_s=_DEADLINE_S)
                taken = True
            except (NotifyError, OSError) as error:
                logger.warning(
                    "alertmanager.push_failed", extra={"channel": channel.name, "error": str(error)}
                )
            finally:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(self._told, url, taken)

        threading.Thread(target=work, name=f"push {channel.name}", daemon=True).start()

    def _told(self, url: str, taken: bool) -> None:  # noqa: FBT001  # call_soon passes positions
        self._busy.discard(url)
        if taken:
            self.accepted()


def marked(notice: Notice, channel: Channel) -> Notice:
    """What Alertmanager is told, labelled `notified_by="agent"` when we call: its route can drop it."""
    if not channel.calls_itself:
        return notice
    return msgspec.structs.replace(notice, labels=notice.labels | {"notified_by": "agent"})
