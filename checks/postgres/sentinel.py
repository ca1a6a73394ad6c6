"""The held session as a sentinel: its end is noticed in milliseconds, its silence within a heartbeat.

A held session answers while its postmaster hangs and nobody else gets in, so every second beat knocks too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from checks.postgres import faults
from checks.postgres.server import Server
from checks.units import Duration

_SILENCE_S: Final = 0.5
# A busy machine may take longer to fork than to answer; the look that follows waits half a second more.
_NO_ENTRY_S: Final = 0.75
_KNOCK_EVERY: Final = 2


class PostgresSentinel:
    """Watches the session its check opened; it opens none, so the connection budget holds by construction."""

    def __init__(self, server: Server, *, heartbeat: Duration, holds: bool) -> None:
        """`holds`: False where the server may sleep; then nothing is ever asked of it here."""
        # Held here too: the two are found by each other for as long as one of them lives.
        self._server = server
        self._session = server.session
        self._knocker = server.knocker
        self._heartbeat_s = float(heartbeat)
        self._holds = holds

    async def watch(self, suspect: Callable[[str], None]) -> None:
        def lost() -> None:
            suspect(f"the held session to {self._session.place.shown} ended")

        never = asyncio.Event()
        beats = 0
        self._session.on_lost(lost)
        try:
            while True:
                try:
                    async with asyncio.timeout(self._heartbeat_s):
                        await never.wait()
                except TimeoutError:
                    beats += 1
                    await self._beat(suspect, knocks=beats % _KNOCK_EVERY == 0)
        finally:
            self._session.forget(lost)

    async def _beat(self, suspect: Callable[[str], None], *, knocks: bool) -> None:
        if self._session.is_busy:
            return
        if not self._session.is_open:
            if knocks and self._holds:
                await self._await_return(suspect)
            return
        self._session.away = False
        if not await self._session.answers(within_s=_SILENCE_S):
            suspect(f"the held session to {self._session.place.shown} is silent for {Duration(_SILENCE_S)}")
        elif knocks and not await self._knocker.is_accepting(answer_within_s=_NO_ENTRY_S):
            self._session.stalled = True
            suspect(f"{self._session.place.shown} lets nobody new in within {Duration(_NO_ENTRY_S)}")

    async def _await_return(self, suspect: Callable[[str], None]) -> None:
        """Say when a server that let nobody in does again, so that its recovery waits for no slot."""
        knock = await self._knocker.knock(answer_within_s=_NO_ENTRY_S)
        away = faults.from_knock(knock, self._session.place, answer_within_s=_NO_ENTRY_S) is not None
        if self._session.away and not away:
            suspect(f"{self._session.place.shown} lets sessions in again")
        self._session.away = away
