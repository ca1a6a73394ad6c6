"""What was acknowledged is on disk: an append-only log with group commit, bounded, never refusing to start.

One thread owns the files. Appends that arrive while it syncs are committed together by the next sync, so the
cost of a sync is shared by as many requests as are waiting. Records keep the client's bytes as they came.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from agent.telemetry import record
from agent.telemetry.record import Head, Placed
from agent.telemetry.segments import SEGMENT_BYTES, LaneFiles, Segment, items_between, received_after
from agent.telemetry.signals import Lane

logger = logging.getLogger(__name__)

T = TypeVar("T")

_REMEMBERED: Final = 8192
_MAX_PLACES: Final = 256


class LogLimits(Struct, frozen=True, kw_only=True):
    """Disk the log may use: at most `disk_bytes`, and `free_bytes` are left to everybody else."""

    disk_bytes: int = 1 << 30
    free_bytes: int = 256 << 20
    segment_bytes: int = SEGMENT_BYTES


class _Append(Struct):
    head: Head
    content: bytes
    done: asyncio.Future[Head]
    apply: Callable[[Head], None]


class DurableLog:
    """The lanes of one directory. All methods belong to one event loop; `open` first, `close` last."""

    def __init__(self, directory: Path, limits: LogLimits | None = None) -> None:
        self._directory = directory
        self._limits = limits or LogLimits()
        self._files = {
            lane: LaneFiles(directory / lane.name.lower(), segment_bytes=self._limits.segment_bytes)
            for lane in Lane
        }
        self._segments: dict[Lane, list[Segment]] = {lane: [] for lane in Lane}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="telemetry-log")
        self._waiting: list[_Append] = []
        self._committing: asyncio.Task[None] | None = None
        self._next_seq = 1
        self._remembered: OrderedDict[bytes, asyncio.Future[Head] | None] = OrderedDict()
        self._ready = asyncio.Event()
        self._places: dict[tuple[Lane, int], tuple[Path, int]] = {}
        self.damaged_bytes = 0
        self.failures = 0
        self._news: asyncio.Future[None] | None = None
        # Called before a segment is given up, with the segment; the ledger lives there.
        self.on_evict: Callable[[Lane, Segment], None] = lambda _lane, _segment: None

    async def open(self, *, after_seq: int = 0) -> None:
        """Find what is there; new records are numbered above `after_seq` and above all of it.

        Damaged records are skipped and counted, never a reason not to start.
        """
        self._next_seq = after_seq + 1
        loop = asyncio.get_running_loop()
        digests: list[tuple[int, bytes]] = []
        for lane in Lane:
            recent: deque[tuple[int, bytes]] = deque(maxlen=_REMEMBERED)
            segments, damaged = await loop.run_in_executor(
                self._thread,
                self._files[lane].scan,
                lambda head, to=recent: to.append((head.seq, head.digest)),
            )
            self._segments[lane] = segments
            self.damaged_bytes += damaged
            digests += recent
            if segments:
                self._next_seq = max(self._next_seq, segments[-1].last_seq + 1)
        for _, digest in sorted(digests)[-_REMEMBERED:]:
            self._remembered[digest] = None
        if self.damaged_bytes:
            logger.warning("telemetry.log_damaged", extra={"bytes": self.damaged_bytes})
        self._ready.set()

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do file work on the log's own thread, in turn with its writes."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def append(self, head: Head, content: bytes, *, apply: Callable[[Head], None]) -> Head | None:
        """Return once the record is on disk; None when it is the retry of one that already is.

        `apply` runs on the loop in order of sequence, once the record is durable and before this returns; it
        runs even if the caller was cancelled meanwhile. Raises OSError when it could not be written.
        """
        if not self._ready.is_set():
            await self._ready.wait()
        if head.digest in self._remembered:
            earlier = self._remembered[head.digest]
            if earlier is not None:
                await asyncio.shield(earlier)
            return None
        done: asyncio.Future[Head] = asyncio.get_running_loop().create_future()
        self._remembered[head.digest] = done
        if len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)
        head = replace(head, seq=self._next_seq)
        self._next_seq += 1
        self._waiting.append(_Append(head, content, done, apply))
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit())
        return await asyncio.shield(done)

    async def _commit(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                self._make_room(sum(len(each.content) + record.HEADER_BYTES for each in batch))
                outcome = await loop.run_in_executor(self._thread, self._write, batch)
                for each in batch:
                    self._finish(each, outcome[each.head.lane])
                if self._news is not None:
                    self._news.set_result(None)
                    self._news = None
        finally:
            self._committing = None

    def _write(self, batch: list[_Append]) -> dict[Lane, OSError | list[tuple[Path, Placed]]]:
        outcome: dict[Lane, OSError | list[tuple[Path, Placed]]] = {}
        for lane in {each.head.lane for each in batch}:
            try:
                mine = [(each.head, each.content) for each in batch if each.head.lane is lane]
                placed = self._files[lane].write(mine)
                placed.reverse()
                outcome[lane] = placed
            except OSError as error:
                outcome[lane] = error
        return outcome

    def _finish(self, each: _Append, outcome: OSError | list[tuple[Path, Placed]]) -> None:
        if isinstance(outcome, OSError):
            self.failures += 1
            self._remembered.pop(each.head.digest, None)
            if not each.done.done():
                each.done.set_exception(outcome)
                each.done.exception()  # Read here: a client that went away leaves nobody to.
            return
        path, placed = outcome.pop()
        segments = self._segments[each.head.lane]
        if not segments or segments[-1].path != path:
            segments.append(Segment(path=path, first_seq=placed.head.seq))
        segments[-1].note(placed)
        if each.head.digest in self._remembered:
            self._remembered[each.head.digest] = None
        each.apply(placed.head)
        if not each.done.done():
            each.done.set_result(placed.head)

    def _make_room(self, incoming: int) -> None:
        """Give up the oldest whole segments: traces, then metrics, then logs, those with errors last."""
        while self.disk_bytes + incoming > self._limits.disk_bytes or self._free() < self._limits.free_bytes:
            lane = next((lane for lane in Lane if self._segments[lane]), None)
            if lane is None:
                return
            segment = self._segments[lane][0]
            self.on_evict(lane, segment)
            self._remove(lane, segment)

    def _free(self) -> int:
        try:
            found = os.statvfs(self._directory)
        except OSError:
            return self._limits.free_bytes
        return found.f_bavail * found.f_frsize

    def _remove(self, lane: Lane, segment: Segment) -> None:
        self._segments[lane].remove(segment)
        self._thread.submit(self._unlink, lane, segment.path)

    def _unlink(self, lane: Lane, path: Path) -> None:
        if self._files[lane].is_open(path):
            self._files[lane].close()
        path.unlink(missing_ok=True)

    def release(self, lane: Lane, up_to_seq: int) -> None:
        """Nobody needs records up to `up_to_seq` any more: whole segments below give their space back."""
        for segment in list(self._segments[lane]):
            if segment.last_seq > up_to_seq:
                break
            self._remove(lane, segment)

    def segments_after(self, lane: Lane, seq: int) -> tuple[Segment, ...]:
        """The segments that hold records above `seq`, oldest first."""
        return tuple(segment for segment in self._segments[lane] if segment.last_seq > seq)

    async def news(self) -> None:
        """Wait until something more is on disk."""
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._news)

    def counter_after(self, lane: Lane, seq: int) -> Callable[[], int]:
        """A count, for the log's thread, of the items now on disk above `seq`, from the files themselves."""
        whole = 0
        parts: list[tuple[Path, int]] = []
        for segment in self.segments_after(lane, seq):
            if segment.first_seq > seq:
                whole += segment.items
            else:
                parts.append((segment.path, segment.disk_bytes))
        return lambda: whole + sum(items_between(path, end, seq) for path, end in parts)

    def oldest_after(self, lane: Lane, seq: int) -> Callable[[], int]:
        """A look, for the log's thread, at when the first record above `seq` was received; 0 without one."""
        found = next(iter(self.segments_after(lane, seq)), None)
        if found is None:
            return lambda: 0
        place = self._places.get((lane, seq))
        start = place[1] if place is not None and place[0] == found.path else 0
        path, end = found.path, found.disk_bytes
        return lambda: received_after(path, seq, start=start, end=end)

    async def read(self, lane: Lane, after_seq: int, *, max_bytes: int) -> list[tuple[Head, bytes | None]]:
        """The next records above `after_seq`, at least one if there is any, up to about `max_bytes`.

        A payload is None when it is damaged.
        """
        for segment in self.segments_after(lane, after_seq):
            loop = asyncio.get_running_loop()
            end = segment.disk_bytes
            found = await loop.run_in_executor(
                self._thread, self._read, lane, segment.path, end, after_seq, max_bytes
            )
            if found:
                return found
        return []

    def _read(
        self, lane: Lane, path: Path, end: int, after_seq: int, max_bytes: int
    ) -> list[tuple[Head, bytes | None]]:
        found: list[tuple[Head, bytes | None]] = []
        size = 0
        # Readers go forward: each begins where one that read up to the same record left off.
        place = self._places.get((lane, after_seq))
        start = place[1] if place is not None and place[0] == path else 0
        try:
            for placed in record.heads(path, start=start, end=end):
                if isinstance(placed, int) or placed.head.seq <= after_seq:
                    continue
                found.append((placed.head, record.payload(path, placed)))
                size += placed.head.payload_bytes
                start = placed.offset + placed.head.disk_bytes
                if size >= max_bytes:
                    break
        except FileNotFoundError:
            return []
        if found:
            if len(self._places) > _MAX_PLACES:
                self._places.clear()
            self._places[lane, found[-1][0].seq] = (path, start)
        return found

    @property
    def disk_bytes(self) -> int:
        """What the segments occupy."""
        return sum(segment.disk_bytes for segments in self._segments.values() for segment in segments)

    @property
    def last_seq(self) -> int:
        """The newest sequence number given out."""
        return self._next_seq - 1

    async def settle(self) -> None:
        """Wait until everything appended so far is on disk."""
        while self._committing is not None:
            await asyncio.shield(self._committing)

    async def close(self) -> None:
        """Finish what was begun and close the files."""
        await self.settle()
        await self.in_thread(self._close_files)
        self._thread.shutdown()

    def _close_files(self) -> None:
        for files in self._files.values():
            files.close()
