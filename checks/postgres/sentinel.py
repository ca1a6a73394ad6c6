"""The held session as a sentinel: its end is noticed in milliseconds, its silence within a heartbeat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from checks.postgres.session import Session
from checks.units import Duration

_SILENCE_S = 0.5


class PostgresSentinel:
    """Watches the session its check opened; it opens none, so the connection budget holds by construction."""

    def __init__(self, session: Session, *, heartbeat: Duration) -> None:
        self._session = session
        self._heartbeat_s = float(heartbeat)

    async def watch(self, suspect: Callable[[str], None]) -> None:
        def lost() -> None:
            suspect(f"the held session to {self._session.place.shown} ended")

        never = asyncio.Event()
        self._session.on_lost(lost)
        try:
            while True:
                try:
                    async with asyncio.timeout(self._heartbeat_s):
                        await never.wait()
                except TimeoutError:
                    await self._beat(suspect)
        finally:
            self._session.forget(lost)

    async def _beat(self, suspect: Callable[[str], None]) -> None:
        if not self._session.is_open or self._session.is_busy:
            return
        if not await self._session.answers(within_s=_SILENCE_S):
            suspect(f"the held session to {self._session.place.shown} is silent for {Duration(_SILENCE_S)}")
