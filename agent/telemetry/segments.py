"""The files of one lane: append-only segments named by their first sequence number."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec import Struct

from agent.telemetry import record
from agent.telemetry.record import Head, Placed

SEGMENT_BYTES: Final = 8 * 1024 * 1024
_SUFFIX: Final = ".seg"


class Segment(Struct, kw_only=True):
    """One file and what is in it: sums only, because a full log holds half a million records."""

    path: Path
    first_seq: int
    last_seq: int = -1
    disk_bytes: int = 0
    items: int = 0
    payload_bytes: int = 0

    def note(self, placed: Placed) -> None:
        """A record that is in the file."""
        self.last_seq = placed.head.seq
        self.items += placed.head.items
        self.payload_bytes += placed.head.payload_bytes
        self.disk_bytes = placed.offset + placed.head.disk_bytes


class LaneFiles:
    """A lane's segments, oldest first. Writing belongs to one thread; the index to the event loop."""

    def __init__(self, directory: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._open: tuple[Path, int, int] | None = None
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def scan(self, note: Callable[[Head], None]) -> tuple[list[Segment], int]:
        """Every segment found and the damaged bytes among them; `note` is told each head. Empty files go."""
        segments, damaged = [], 0
        for path in sorted(self._directory.glob(f"*{_SUFFIX}")):
            segment = Segment(path=path, first_seq=int(path.stem))
            for found in record.heads(path):
                if isinstance(found, int):
                    damaged += found
                else:
                    segment.note(found)
                    note(found.head)
            if segment.last_seq < 0:
                path.unlink()
                continue
            segment.disk_bytes = path.stat().st_size
            segments.append(segment)
        return segments, damaged

    def write(self, batch: list[tuple[Head, bytes]]) -> list[tuple[Path, Placed]]:
        """Append and fdatasync. Raises OSError, and then none of the batch is in the log."""
        placed: list[tuple[Path, Placed]] = []
        parts: list[bytes] = []
        path, descriptor, size = self._current(batch[0][0].seq)
        at = size
        for head, content in batch:
            header = record.encode(head, content)
            written = record.decode(header)
            assert written is not None
            placed.append((path, Placed(written, at)))
            parts += (header, content)
            at += len(header) + len(content)
        try:
            _write_all(descriptor, parts)
            os.fdatasync(descriptor)
        except OSError:
            # After a failed sync the page cache may claim what the disk does not have: this file is done.
            self._abandon(descriptor, size)
            raise
        self._open = (path, descriptor, at)
        if at >= self._segment_bytes:
            self.close()
        return placed

    def close(self) -> None:
        """End the open segment; the next write begins a new one."""
        if self._open is not None:
            os.close(self._open[1])
            self._open = None

    def is_open(self, path: Path) -> bool:
        """Whether `path` is still being written to."""
        return self._open is not None and self._open[0] == path

    def _current(self, first_seq: int) -> tuple[Path, int, int]:
        if self._open is None:
            path = self._directory / f"{first_seq:020d}{_SUFFIX}"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            # The name must survive a power cut as surely as what is written under it.
            sync_directory(self._directory)
            self._open = (path, descriptor, os.fstat(descriptor).st_size)
        return self._open

    def _abandon(self, descriptor: int, size: int) -> None:
        try:
            os.ftruncate(descriptor, size)
        except OSError:
            pass  # What stays was never acknowledged: at worst the client's retry makes it a duplicate.
        finally:
            self.close()


def items_between(path: Path, end: int, seq: int) -> int:
    """Items of a segment's records above `seq` that begin before offset `end`; 0 when the file is gone."""
    try:
        return sum(
            found.head.items
            for found in record.heads(path, end=end)
            if not isinstance(found, int) and found.head.seq > seq
        )
    except FileNotFoundError:
        return 0


def received_after(path: Path, seq: int, *, start: int, end: int) -> int:
    """When a segment's first record above `seq` was received, in ns; 0 when there is none."""
    try:
        for found in record.heads(path, start=start, end=end):
            if not isinstance(found, int) and found.head.seq > seq:
                return found.head.received_ns
    except FileNotFoundError:
        pass
    return 0


def sync_directory(directory: Path) -> None:
    """Make renames and creations in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, content: bytes) -> None:
    """Replace a small file so that after a crash either the old or the new content is there, whole."""
    temporary = path.with_suffix(path.suffix + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _write_all(descriptor, [content])
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)
    sync_directory(path.parent)


def _write_all(descriptor: int, parts: list[bytes]) -> None:
    # IOV_MAX is 1024 on Linux; joining small parts costs less than more calls.
    content = memoryview(b"".join(parts))
    while content:
        content = content[os.write(descriptor, content) :]
