"""The dead man's ping: somebody else hears that we are alive, and notices when we are not."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Final

from alerts.receiver import DeadMan
from checks.clock import Clock

logger = logging.getLogger(__name__)

_DEADLINE_S: Final = 10.0


class Ping:
    """Fetches the URL while `vouched` says that we can judge and deliver."""

    def __init__(self, dead_man: DeadMan, clock: Clock, vouched: Callable[[], bool]) -> None:
        self._dead_man = dead_man
        self._clock = clock
        self._vouched = vouched
        self.accepted_at_s = 0.0

    async def run(self) -> None:
        """Ping until cancelled; a ping that hangs delays nobody."""
        loop = asyncio.get_running_loop()
        while True:
            if self._vouched():
                threading.Thread(target=self._once, args=(loop,), name="dead man's ping", daemon=True).start()
            await asyncio.sleep(self._dead_man.every)

    def _once(self, loop: asyncio.AbstractEventLoop) -> None:
        from alerts.notifiers import http

        try:
            http.request("GET", self._dead_man.url.reveal(), deadline_s=_DEADLINE_S)
        except Exception as error:
            logger.warning("dead_man.failed", extra={"error": str(error)})
            return
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._taken)

    def _taken(self) -> None:
        self.accepted_at_s = self._clock.wall_s()
