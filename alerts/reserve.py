"""Room for bad times inside a SQLite file: on a full disk, commits overwrite blocks the file already has."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

_PAGES_PER_CHECKPOINT: Final = 128


def keep_room(db: sqlite3.Connection, path: Path, room_bytes: int) -> bool:
    """Own `room_bytes` of free pages in the file and as much again in its write-ahead log.

    Commits then need no new block until the room is used up, and nobody else on the disk can take it. The
    log is checkpointed long before it outgrows its room. False when the disk has none to give; the database
    works on either way. SQLite reuses free pages first and never shrinks a log that it restarts
    (sqlite.org/wal.html, "Avoiding Excessively Large WAL Files").
    """
    try:
        db.execute(f"PRAGMA wal_autocheckpoint = {_PAGES_PER_CHECKPOINT}")
        if _room_bytes(db, path) >= room_bytes:
            return True
        db.execute("BEGIN IMMEDIATE")
        db.execute("CREATE TABLE room (bytes BLOB)")
        db.execute("INSERT INTO room VALUES (zeroblob(?))", (room_bytes + room_bytes // 16,))
        db.execute("COMMIT")
        db.execute("DROP TABLE room")
        db.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
    except sqlite3.Error:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        return False
    return True


def _room_bytes(db: sqlite3.Connection, path: Path) -> int:
    free: int = db.execute("PRAGMA freelist_count").fetchone()[0]
    page_bytes: int = db.execute("PRAGMA page_size").fetchone()[0]
    log = path.with_name(path.name + "-wal")
    return min(free * page_bytes, log.stat().st_size if log.exists() else 0)
