"""One held connection per NATS server: its end is noticed in milliseconds, its silence within a heartbeat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from checks.catalog import ProbeKit
from checks.nats.faults import LINK_FAILURES
from checks.nats.link import Link
from checks.nats.place import Place
from checks.nats.visit import Entry, visit
from checks.units import Duration

SILENCE_S = 0.5
_BACKOFF_S = (0.25, 0.5, 1.0, 2.0, 5.0)


@dataclass(slots=True, weakref_slot=True)
class Doubts:
    """What the sentinel knows and the next look should: which servers went silent or say goodbye."""

    silent: set[Place] = field(default_factory=set)
    leaving: set[Place] = field(default_factory=set)


class NatsSentinel:
    """Holds a link to each server. Says nothing about a server it never reached: the checks do."""

    def __init__(
        self, places: tuple[Place, ...], entry: Entry, kit: ProbeKit, *, heartbeat: Duration, doubts: Doubts
    ) -> None:
        self._places = places
        self._entry = entry
        self._kit = kit
        self._heartbeat_s = float(heartbeat)
        self._doubts = doubts

    async def watch(self, suspect: Callable[[str], None]) -> None:
        async with asyncio.TaskGroup() as group:
            for place in self._places:
                group.create_task(self._hold(place, suspect))

    async def _hold(self, place: Place, suspect: Callable[[str], None]) -> None:
        failures = 0
        while True:
            visited = await visit(place, self._entry, self._kit, answer_within_s=self._heartbeat_s)
            if visited.link is None:
                await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
                failures += 1
                continue
            failures = 0
            self._doubts.silent.discard(place)
            self._doubts.leaving.discard(place)
            try:
                await self._beat(place, visited.link, suspect)
            finally:
                visited.link.close()

    async def _beat(self, place: Place, link: Link, suspect: Callable[[str], None]) -> None:
        """Returns when the link has ended or gone silent."""
        ended = asyncio.Event()

        def lost() -> None:
            suspect(f"the held connection to {place.shown} ended")
            ended.set()

        def leaving() -> None:
            self._doubts.leaving.add(place)
            suspect(f"{place.shown} announced its shutdown (lame duck)")

        link.on_lost, link.on_lame_duck = lost, leaving
        while link.is_open:
            try:
                async with asyncio.timeout(self._heartbeat_s):
                    await ended.wait()
            except TimeoutError:
                if not await self._answers(link):
                    self._doubts.silent.add(place)
                    suspect(f"the held connection to {place.shown} is silent for {Duration(SILENCE_S)}")
                    return

    async def _answers(self, link: Link) -> bool:
        try:
            async with asyncio.timeout(SILENCE_S):
                await link.ping()
        except TimeoutError:
            return False
        except (OSError, *LINK_FAILURES):
            # The end of the link is told by `on_lost`, whatever its cause.
            return True
        return True
