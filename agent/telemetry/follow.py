"""A log file read as it grows, through rotation and truncation, each line taken once and none lost.

The place is remembered only after the lines are safe, so a crash repeats lines at most; equal lines from the
same place in the same file are recognised as that.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from agent.telemetry.json_lines import Line
from checks.clock import Clock

logger = logging.getLogger(__name__)

_READ_BYTES: Final = 256 * 1024
_MAX_LINE_BYTES: Final = 256 * 1024
_POLL_S: Final = 0.25


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A byte in one file: the file is known by its inode, for its name may go to another."""

    inode: int
    offset: int


class Batch(Struct, frozen=True, kw_only=True):
    """Whole lines of one file and their place, which is the batch's identity."""

    lines: tuple[Line, ...]
    identity: bytes


Take = Callable[[Batch], Awaitable[None]]
# Replaces a small file durably, off the event loop.
Keep = Callable[[Path, bytes], Awaitable[None]]


class Follower:
    """Follows `path`, which need not exist yet. `take` returns once the lines are safe, or raises OSError."""

    def __init__(  # all by name
        self,
        path: Path,
        *,
        state: Path,
        clock: Clock,
        take: Take,
        keep: Keep,
        resource: tuple[tuple[str, str], ...] = (),
        poll_s: float = _POLL_S,
    ) -> None:
        self._path = path
        self._state = state
        self._clock = clock
        self._take = take
        self._keep = keep
        self._resource = resource
        self._poll_s = poll_s
        self._descriptor = -1
        self._inode = 0
        self._offset = 0
        self._skipping = False

    async def run(self) -> None:
        """Follow until cancelled."""
        place = _load(self._state)
        try:
            while True:
                if self._descriptor < 0 and not self._open(place):
                    await asyncio.sleep(self._poll_s)
                    continue
                place = None
                if await self._read():
                    continue
                if self._replaced():
                    # Everything of the old file was read: now the new one, from its beginning.
                    self._close()
                    continue
                await asyncio.sleep(self._poll_s)
        finally:
            self._close()

    def _open(self, place: Place | None) -> bool:
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        found = os.fstat(self._descriptor)
        self._inode = found.st_ino
        known = place is not None and place.inode == found.st_ino and place.offset <= found.st_size
        self._offset = place.offset if place is not None and known else 0
        return True

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    async def _read(self) -> bool:
        """Take the next whole lines; whether there were any."""
        size = os.fstat(self._descriptor).st_size
        if size < self._offset:
            logger.info("follow.truncated", extra={"path": str(self._path)})
            self._offset, self._skipping = 0, False
        content = os.pread(self._descriptor, _READ_BYTES, self._offset)
        end = content.rfind(b"\n") + 1
        if not end:
            if len(content) < _MAX_LINE_BYTES:
                return False
            # A line longer than any log's: its beginning is taken, the rest skipped.
            end = len(content)
        whole = content[:end]
        texts = whole.split(b"\n")
        if self._skipping:
            texts = texts[1:]
        self._skipping = not whole.endswith(b"\n")
        read_ns = int(self._clock.wall_s() * 1e9)
        lines = tuple(
            Line(text=text, read_ns=read_ns, resource=self._resource) for text in texts if text.strip()
        )
        if lines:
            identity = b"%d.%d.%d" % (self._inode, self._offset, len(whole))
            try:
                await self._take(Batch(lines=lines, identity=identity + whole[:64]))
            except OSError as error:
                logger.warning("follow.not_taken", extra={"path": str(self._path), "error": str(error)})
                return False
        self._offset += end
        await self._keep(self._state, msgspec.json.encode(Place(inode=self._inode, offset=self._offset)))
        return True

    def _replaced(self) -> bool:
        try:
            return self._path.stat().st_ino != self._inode
        except OSError:
            return False


def _load(path: Path) -> Place | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Place)
    except (OSError, msgspec.DecodeError):
        return None
