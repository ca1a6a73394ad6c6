"""A file that somebody else writes lines to, seen from one place in it; blocking, for a thread of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from zlib import crc32

import msgspec
from msgspec import Struct

_READ_BYTES: Final = 64 * 1024
MAX_LINE_BYTES: Final = 256 * 1024
_HEAD_BYTES: Final = 256


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A byte in one file, which is known by its inode and its first bytes: names and inodes are used again.

    `skipping` says that the place is inside a line whose beginning was taken and whose rest is not wanted.
    """

    inode: int
    offset: int
    skipping: bool = False
    head_bytes: int = 0
    head_crc: int = 0


class Chunk(Struct, frozen=True, kw_only=True):
    """Whole lines, without their ends; `start` and `end` are before the first and after the last."""

    texts: tuple[bytes, ...]
    start: Place
    end: Place


class GrowingFile:
    """One open file. Close it at the end; what it raises is OSError."""

    def __init__(self, descriptor: int, place: Place) -> None:
        self._descriptor = descriptor
        self.place = place

    @classmethod
    def find(cls, path: Path, place: Place | None) -> GrowingFile | None:
        """The file that `place` is in, even if it was renamed meanwhile; else `path` from its beginning."""
        if place is not None:
            for candidate in (path, *_renamed(path, place.inode)):
                found = cls._open(candidate)
                if found is not None and found.holds(place):
                    found.place = place
                    return found
                if found is not None:
                    found.close()
        return cls._open(path)

    @classmethod
    def _open(cls, path: Path) -> GrowingFile | None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        return cls(descriptor, Place(inode=os.fstat(descriptor).st_ino, offset=0))

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._descriptor)

    def is_at(self, path: Path) -> bool:
        """Whether `path` is still this file; true while there is nothing at `path` either."""
        try:
            return path.stat().st_ino == self.place.inode
        except OSError:
            return True

    def next(self, *, ended: bool = False) -> Chunk | None:
        """The next whole lines, None when there are none; `ended` takes a last line without its end.

        A file that was emptied, or emptied and written anew, is read from its beginning. Of a line beyond
        256 KiB the beginning is taken, the rest skipped.
        """
        size = os.fstat(self._descriptor).st_size
        if size == self.place.offset:
            return None
        if not self.holds(self.place):
            self.place = Place(inode=self.place.inode, offset=0)
        start = self.place
        content = os.pread(self._descriptor, _READ_BYTES, start.offset)
        if b"\n" not in content and len(content) == _READ_BYTES:
            content = os.pread(self._descriptor, MAX_LINE_BYTES, start.offset)
        end = content.rfind(b"\n") + 1
        if not end:
            if not content or (len(content) < MAX_LINE_BYTES and not ended):
                return None
            end = len(content)
        whole = content[:end]
        texts = whole.split(b"\n")[1 if start.skipping else 0 :]
        skipping = not whole.endswith(b"\n") and not ended
        after = self._place(start.offset + end, skipping=skipping)
        return Chunk(texts=tuple(text for text in texts if text.strip()), start=start, end=after)

    def _place(self, offset: int, *, skipping: bool) -> Place:
        head = os.pread(self._descriptor, min(offset, _HEAD_BYTES), 0)
        return Place(
            inode=self.place.inode,
            offset=offset,
            skipping=skipping,
            head_bytes=len(head),
            head_crc=crc32(head),
        )

    def holds(self, place: Place) -> bool:
        """Whether what was read up to `place` is still what is there."""
        found = os.fstat(self._descriptor)
        if found.st_ino != place.inode or found.st_size < place.offset:
            return False
        return crc32(os.pread(self._descriptor, place.head_bytes, 0)) == place.head_crc


def _renamed(path: Path, inode: int) -> list[Path]:
    """Where rotation may have put the file: beside its old place, under a longer name."""
    try:
        with os.scandir(path.parent) as entries:
            return [
                path.parent / entry.name
                for entry in entries
                if entry.name.startswith(path.stem) and entry.inode() == inode
            ]
    except OSError:
        return []
