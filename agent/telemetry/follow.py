"""A log file read as it grows, through rotation and truncation, each line taken once and none lost.

The place is remembered only after the lines are safe, so a crash repeats lines at most; equal lines from the
same place in the same file are recognised as that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeVar

import msgspec
from msgspec import Struct

from agent.telemetry.growing_file import Chunk, GrowingFile, Place
from agent.telemetry.json_lines import Line
from checks.clock import Clock

logger = logging.getLogger(__name__)

T = TypeVar("T")

_POLL_S: Final = 0.25
# A writer goes on into the old file until it is told of the rotation.
_LINGER_S: Final = 3.0


class Batch(Struct, frozen=True, kw_only=True):
    """Whole lines of one file and their place, which is the batch's identity."""

    lines: tuple[Line, ...]
    identity: bytes


Take = Callable[[Batch], Awaitable[None]]
# Replaces a small file durably, off the event loop.
Keep = Callable[[Path, bytes], Awaitable[None]]


class InThread(Protocol):
    """A thread that may wait for a disk."""

    async def __call__(self, work: Callable[[], T]) -> T:
        """Do `work` there."""
        ...


class Follower:
    """Follows `path`, which need not exist yet. `take` returns once the lines are safe, or raises OSError."""

    def __init__(  # noqa: PLR0913  # a follower's whole surroundings, all by name
        self,
        path: Path,
        *,
        state: Path,
        clock: Clock,
        take: Take,
        keep: Keep,
        in_thread: InThread,
        service: str = "",
        poll_s: float = _POLL_S,
        linger_s: float = _LINGER_S,
    ) -> None:
        self._path = path
        self._state = state
        self._clock = clock
        self._take = take
        self._keep = keep
        self._in_thread = in_thread
        # Given a name, lines are that service's whatever they say; else theirs, else the file's.
        self._resource = (("service.name", service),) if service else ()
        self._fallback = path.name.partition(".")[0]
        self._poll_s = poll_s
        self._linger_s = linger_s

    async def run(self) -> None:
        """Follow until cancelled."""
        file: GrowingFile | None = None
        place = await self._in_thread(partial(_load, self._state))
        try:
            while True:
                if file is None:
                    file = await self._in_thread(partial(GrowingFile.find, self._path, place))
                    place = None
                if file is None or not await self._follow(file):
                    await asyncio.sleep(self._poll_s)
                    continue
                file.close()
                file = None
        finally:
            if file is not None:
                file.close()

    async def _follow(self, file: GrowingFile) -> bool:
        """Read what is there; whether the file was replaced and nobody writes to it any more."""
        quiet_since_s = self._clock.monotonic_s()
        while True:
            if await self._advance(file, ended=False):
                quiet_since_s = self._clock.monotonic_s()
                continue
            if await self._in_thread(partial(file.is_at, self._path)):
                return False
            if self._clock.monotonic_s() - quiet_since_s >= self._linger_s:
                # A last line without its end is all there will ever be of it.
                while await self._advance(file, ended=True):
                    pass
                return True
            await asyncio.sleep(self._poll_s)

    async def _advance(self, file: GrowingFile, *, ended: bool) -> bool:
        """Take the next whole lines, however long it is until they are safe; whether there were any."""
        told = False
        while True:
            try:
                chunk = await self._in_thread(partial(file.next, ended=ended))
                if chunk is None:
                    return False
                if chunk.texts:
                    await self._take(self._batch(chunk))
                await self._keep(self._state, msgspec.json.encode(chunk.end))
            except OSError as error:
                if not told:
                    logger.warning("follow.not_taken", extra={"path": str(self._path), "error": str(error)})
                told = True
                await asyncio.sleep(self._poll_s)
                continue
            file.place = chunk.end
            return True

    def _batch(self, chunk: Chunk) -> Batch:
        read_ns = int(self._clock.wall_s() * 1e9)
        lines = tuple(
            Line(text=text, read_ns=read_ns, resource=self._resource, fallback=self._fallback)
            for text in chunk.texts
        )
        start = chunk.start
        identity = b"%d.%d.%d." % (start.inode, start.offset, chunk.end.offset)
        return Batch(lines=lines, identity=identity + chunk.texts[0][:64])


def _load(path: Path) -> Place | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Place)
    except (OSError, msgspec.DecodeError):
        return None
