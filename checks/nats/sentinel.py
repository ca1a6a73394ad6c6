"""One held connection per NATS server: its end is noticed in milliseconds, its silence within a heartbeat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Struct, field

from checks.catalog import ProbeKit
from checks.nats.faults import LINK_FAILURES
from checks.nats.link import Link, Reply
from checks.nats.place import Place
from checks.nats.visit import Entry, visit
from checks.units import Duration

SILENCE_S = 0.5
_BACKOFF_S = (0.25, 0.5, 1.0, 2.0, 5.0)


# Never `$JS.EVENT.ADVISORY.>`: our own API calls would come back as advisories.
_MAX_DELIVERIES: Final = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>"
_MOST_CONSUMERS: Final = 100


class _Advisory(msgspec.Struct, frozen=True, kw_only=True):
    stream: str = ""
    consumer: str = ""
    stream_seq: int = 0


class Poison(Struct, frozen=True, kw_only=True):
    """Messages a consumer was given as often as allowed; the last one's sequence and when (monotonic)."""

    stream: str
    consumer: str
    sequence: int
    count: int
    at_s: float


class Doubts(Struct, weakref=True):
    """What the sentinel knows and the next look should: who went silent or says goodbye, what nobody acks."""

    silent: set[Place] = field(default_factory=set)
    leaving: set[Place] = field(default_factory=set)
    poison: dict[tuple[str, str], Poison] = field(default_factory=dict)


class NatsSentinel:
    """Holds a link to each server. Says nothing about a server it never reached: the checks do."""

    def __init__(  # four are the room's usual ones
        self,
        places: tuple[Place, ...],
        entry: Entry,
        kit: ProbeKit,
        *,
        heartbeat: Duration,
        doubts: Doubts,
        listens: bool,
    ) -> None:
        """`listens`: also to JetStream's advisories."""
        self._places = places
        self._listens = listens
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
            if failures:
                # Its recovery need not wait for the next slot either.
                suspect(f"{place.shown} lets clients in again")
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

        def poisoned(reply: Reply) -> None:
            self._poisoned(reply, suspect)

        link.on_lost, link.on_lame_duck = lost, leaving
        if not link.is_open:
            # It ended in the moment between its log-in and here, when nobody listened.
            lost()
        if self._listens and place == self._places[0]:
            link.subscribe(_MAX_DELIVERIES, poisoned)
        while link.is_open:
            try:
                async with asyncio.timeout(self._heartbeat_s):
                    await ended.wait()
            except TimeoutError:
                if not await self._answers(link):
                    self._doubts.silent.add(place)
                    suspect(f"the held connection to {place.shown} is silent for {Duration(SILENCE_S)}")
                    return

    def _poisoned(self, reply: Reply, suspect: Callable[[str], None]) -> None:
        try:
            told = msgspec.json.decode(reply.data, type=_Advisory)
        except msgspec.MsgspecError:
            return
        key = (told.stream, told.consumer)
        known = self._doubts.poison.pop(key, None)
        self._doubts.poison[key] = Poison(
            stream=told.stream,
            consumer=told.consumer,
            sequence=told.stream_seq,
            count=1 + (known.count if known else 0),
            at_s=self._kit.clock.monotonic_s(),
        )
        if len(self._doubts.poison) > _MOST_CONSUMERS:
            del self._doubts.poison[next(iter(self._doubts.poison))]
        if known is None:
            suspect(f"a message of stream {told.stream} was never acknowledged by {told.consumer}")

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
