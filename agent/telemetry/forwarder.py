"""One destination: everything in the log reaches it once at least, in order, or is put aside with a reason.

Retryable answers (429, 502, 503, 504, none at all) are retried for ever; 400 and 413 are split until the one
culprit is found; where nobody is there or we may not (401, 403, 404, 405) sending pauses and says so; any
other answer must not be retried (opentelemetry-proto, "Failures") and puts the batch aside.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from heapq import merge
from pathlib import Path
from typing import Final

from msgspec import Struct

from agent.telemetry import answers, cursor, split
from agent.telemetry.backend import MAX_PLAIN, Backend
from agent.telemetry.cursor import Cursor
from agent.telemetry.dead_letters import DeadLetters, Label
from agent.telemetry.durable_log import DurableLog
from agent.telemetry.inflate import inflate
from agent.telemetry.ledger import Account
from agent.telemetry.options import DestinationOptions
from agent.telemetry.pace import SPLITTING
from agent.telemetry.post import Post, Reply
from agent.telemetry.record import Head
from agent.telemetry.segments import Segment, items_between, write_whole
from agent.telemetry.signals import Lane, Signal
from checks.clock import Clock

logger = logging.getLogger(__name__)

_Found = tuple[Head, bytes | None]

_LINGER_S: Final = 0.2
_RETRY_LETTERS_S: Final = 5.0
# A backend that refuses everything must not be asked about every single item of a large batch.
_MAX_SPLITS: Final = 64


class _Search(Struct):
    """The hunt for a culprit: how many more requests it may cost."""

    left: int = _MAX_SPLITS


class Forwarder:
    """Sends the log's records to one destination until cancelled; one task per signal keeps the order."""

    def __init__(  # noqa: PLR0913  # a destination's whole surroundings, all by name
        self,
        name: str,
        options: DestinationOptions,
        *,
        log: DurableLog,
        directory: Path,
        clock: Clock,
        post: Post,
        received: Callable[[Signal], int],
        first_s: float = 1.0,
        cap_s: float = 60.0,
    ) -> None:
        self.name = name
        self.options = options
        self._log = log
        self._path = directory / f"{name}.cursor"
        self._clock = clock
        self.backend = Backend(name, options, post, first_s=first_s, cap_s=cap_s)
        self._received = received
        self._letters = DeadLetters(directory / "dead")
        saved = cursor.load(self._path)
        self._cursor = saved or Cursor(base={signal.value: self._base(signal) for signal in options.signals})
        self._saved = {lane: self._cursor.lane(lane).seq for lane in Lane} if saved is not None else {}
        # Whether gzip members may be joined; a backend whose reader stops after the first one cannot.
        self._joins = True
        self.replayed = 0

    def _base(self, signal: Signal) -> int:
        waiting = sum(self._log.counter_after(lane, 0)() for lane in Lane if lane.signal is signal)
        return self._received(signal) - waiting

    async def run(self) -> None:
        """Send until cancelled; then remember the place."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for signal in self.options.signals:
                    tasks.create_task(self._send_all(signal))
                tasks.create_task(self._retry_letters())
        finally:
            await self._save()

    def seq(self, lane: Lane) -> int | None:
        """The last record this destination no longer needs, on disk; None when it takes nothing of the lane.

        What is not on disk yet would be sent again after a crash, and must still be there for the ledger.
        """
        return self._saved.get(lane, 0) if lane.signal in self.options.signals else None

    def evict(self, lane: Lane, segment: Segment) -> None:
        """A segment is given up for lack of room: what was not sent yet never will be."""
        at = self._cursor.lane(lane)
        if lane.signal not in self.options.signals or at.seq >= segment.last_seq:
            return
        lost = items_between(segment.path, segment.disk_bytes, at.seq)
        at.evicted += lost
        at.seq = segment.last_seq
        logger.error("telemetry.evicted", extra={"destination": self.name, "lane": lane.name, "items": lost})

    async def account(self, signal: Signal) -> Account:
        """The ledger of one signal at one moment; `queued` is counted from the files."""
        delivered, dead, evicted = self._cursor.sums(signal)
        received = self._received(signal) - self._cursor.base.get(signal.value, 0)
        lanes = [lane for lane in Lane if lane.signal is signal]
        # All taken before the first await, so that it is one moment.
        counts = [self._log.counter_after(lane, self._cursor.lane(lane).seq) for lane in lanes]
        queued = sum([await self._log.in_thread(count) for count in counts])
        return Account(received=received, delivered=delivered, queued=queued, dead=dead, evicted=evicted)

    async def oldest_unsent_s(self, signal: Signal, now_s: float) -> float:
        """How long the oldest record of a signal has been waiting; 0 when none does."""
        lanes = [lane for lane in Lane if lane.signal is signal]
        looks = [self._log.oldest_after(lane, self._cursor.lane(lane).seq) for lane in lanes]
        found = [await self._log.in_thread(look) for look in looks]
        oldest_ns = min((at_ns for at_ns in found if at_ns), default=0)
        return max(0.0, now_s - oldest_ns / 1e9) if oldest_ns else 0.0

    async def _send_all(self, signal: Signal) -> None:
        lanes = [lane for lane in Lane if lane.signal is signal]
        while True:
            found = await self._next(lanes, self.backend.batch_bytes(signal))
            if not found:
                await self._log.news()
                await asyncio.sleep(_LINGER_S)
                continue
            while found:
                batch, found = self._batch(found, self.backend.batch_bytes(signal))
                await self._deliver(signal, batch)
                await self._save()

    async def _next(self, lanes: list[Lane], size: int) -> list[_Found]:
        """The next records of a signal by age, whatever lane they wait in."""
        read = [await self._log.read(lane, self._cursor.lane(lane).seq, max_bytes=size) for lane in lanes]
        # Beyond the shortest read there may be older records of that lane still unread.
        full = [found[-1][0].seq for found in read if found]
        merged = merge(*read, key=lambda each: each[0].seq)
        return [each for each in merged if each[0].seq <= min(full)] if full else []

    def _batch(self, found: list[_Found], size: int) -> tuple[list[_Found], list[_Found]]:
        """Leading records that go as one request: of one encoding, up to `size`; unsendable ones alone."""
        total = count = 0
        for head, content in found:
            total += len(content or b"")
            joined = self._joins and head.gzip == found[0][0].gzip and total <= size
            if count and (not joined or not self._sendable(head, content)):
                break
            count += 1
            if not self._sendable(head, content):
                break
        return found[:count], found[count:]

    async def _deliver(self, signal: Signal, batch: list[_Found]) -> None:
        """See one batch through to its end, however long the backend is away."""
        sendable = [(head, content) for head, content in batch if content is not None]
        if not self._sendable(*batch[0]):
            head, content = batch[0]
            if content is not None:
                await self._bury(signal, _plain(head, content), head.items, "too_old", Reply(status=0))
            self._passed(head, dead=head.items)
            return
        if len(sendable) > 1:
            body = b"".join(content for _, content in sendable)
            reply = await self.backend.until_answered(signal, body, gzipped=sendable[0][0].gzip)
            if reply.status not in SPLITTING:
                await self._settle(signal, sendable, reply)
                return
        refused = 0
        for head, content in sendable:
            reply = await self.backend.until_answered(signal, content, gzipped=head.gzip)
            if reply.status in SPLITTING:
                refused += 1
                search = _Search()
                dead = await self._isolate(signal, _plain(head, content), head.items, reply, search)
                self._passed(head, dead=min(dead, head.items))
            else:
                await self._settle(signal, [(head, content)], reply)
        if len(sendable) > 1 and not refused and sendable[0][0].gzip:
            # Each alone was taken: it was the joining that this backend cannot read.
            self._joins = False
            logger.warning("telemetry.joining_off", extra={"destination": self.name})

    async def _settle(self, signal: Signal, sent: list[tuple[Head, bytes]], reply: Reply) -> None:
        if 200 <= reply.status < 300:
            rejected = answers.rejected_items(reply.body) if self.options.kind == "otlp" else 0
            if rejected:
                logger.warning(
                    "telemetry.rejected_by_backend", extra={"destination": self.name, "items": rejected}
                )
            for head, _ in sent:
                dead = min(rejected, head.items)
                rejected -= dead
                self._passed(head, dead=dead)
            return
        for head, content in sent:
            await self._bury(signal, _plain(head, content), head.items, "rejected_by_backend", reply)
            self._passed(head, dead=head.items)

    async def _isolate(self, signal: Signal, body: bytes, items: int, reply: Reply, search: _Search) -> int:
        """Halve a refused request until the culprits stand alone; how many items were put aside."""
        try:
            parts = split.halves(body) if search.left > 0 else None
        except split.SplitError:
            parts = None
        if parts is None:
            reason = "too_large" if reply.status == 413 else "rejected_by_backend"
            await self._bury(signal, body, items, reason, reply)
            return items
        dead = 0
        counts = split.shares(parts, items)
        for part, count in zip(parts, counts, strict=True):
            search.left -= 1
            answer = await self.backend.until_answered(signal, part, gzipped=False)
            if answer.status in SPLITTING:
                dead += await self._isolate(signal, part, count, answer, search)
            elif not 200 <= answer.status < 300:
                await self._bury(signal, part, count, "rejected_by_backend", answer)
                dead += count
        return dead

    def _sendable(self, head: Head, content: bytes | None) -> bool:
        """Whether the record is intact and not older than the backend takes."""
        limit = self.options.max_age
        oldest_s = head.oldest_ns / 1e9
        return content is not None and not (limit and oldest_s and oldest_s < self._clock.wall_s() - limit)

    def _passed(self, head: Head, *, dead: int) -> None:
        """This record is done with. One that was evicted meanwhile is already accounted for."""
        at = self._cursor.lane(head.lane)
        if head.seq > at.seq:
            at.seq = head.seq
            at.dead += dead
            at.delivered += head.items - dead

    async def _bury(self, signal: Signal, body: bytes, items: int, reason: str, reply: Reply) -> None:
        label = Label(
            destination=self.name,
            signal=signal,
            reason=reason,
            items=items,
            at_s=self._clock.wall_s(),
            status=reply.status,
            answer=reply.body[:200].decode("utf-8", "replace"),
        )
        logger.warning(
            "telemetry.dead_letter",
            extra={"destination": self.name, "signal": signal.value, "reason": reason, "items": items},
        )
        try:
            await self._log.in_thread(partial(self._letters.add, label, body))
        except OSError as error:
            logger.error("telemetry.dead_letter_lost", extra={"error": str(error)})  # noqa: TRY400  # says all

    async def _retry_letters(self) -> None:
        """Send again what a person marked with `gaia dlq replay`."""
        while True:
            await asyncio.sleep(_RETRY_LETTERS_S)
            if not await self._log.in_thread(self._letters.any_waiting):
                continue
            for letter in await self._log.in_thread(lambda: tuple(self._letters.letters())):
                if not letter.waiting or letter.label.destination != self.name:
                    continue
                with suppress(KeyError, ValueError, OSError):
                    body = await self._log.in_thread(partial(self._letters.body, letter.id))
                    reply = await self.backend.until_answered(letter.label.signal, body, gzipped=False)
                    if 200 <= reply.status < 300:
                        self.replayed += letter.label.items
                        self._letters.drop(letter.id)
                    else:
                        self._letters.keep(letter.id)

    async def _save(self) -> None:
        seqs = {lane: self._cursor.lane(lane).seq for lane in Lane}
        try:
            await self._log.in_thread(partial(write_whole, self._path, cursor.encode(self._cursor)))
        except OSError as error:
            logger.warning("telemetry.cursor_failed", extra={"error": str(error)})
            return
        self._saved = seqs


def _plain(head: Head, content: bytes) -> bytes:
    return inflate(content, max_bytes=MAX_PLAIN) if head.gzip else content
