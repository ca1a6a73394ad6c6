"""Room kept on the disk for the small files that give room back: a full disk must not keep itself full.

Segments are only released once a checkpoint and the cursors say that nobody needs them, and those must be
written first.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

_BYTES: Final = 1024 * 1024


class Reserve:
    """One file of real blocks. Blocking: for the log's thread."""

    def __init__(self, directory: Path, *, size: int = _BYTES) -> None:
        self._path = directory / "reserve"
        self._size = size

    def hold(self) -> None:
        """Take the room, if there is any; where the disk is full now, a later call may."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            if os.fstat(descriptor).st_blocks * 512 < self._size:
                os.posix_fallocate(descriptor, 0, self._size)
        except OSError:
            # Half a reserve is one as well; what was allocated stays.
            return
        finally:
            os.close(descriptor)

    def give(self) -> None:
        """Let go of the room."""
        self._path.unlink(missing_ok=True)


def is_full(error: OSError) -> bool:
    """Whether `error` says that there is no room, on the disk or within a quota."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}
