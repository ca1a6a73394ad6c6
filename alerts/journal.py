"""The judge's memory on disk: alerts, episodes, silences, the outbox and what happened, in one SQLite file.

A state change and the notices it causes are one transaction, synced before anything is sent. A full disk is
met with room kept inside the file; when that is used up or the disk fails, the journal goes on in memory,
says so in `trouble`, and moves back when the disk is well again.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from alerts import journal_tables as tables
from alerts import outbox
from alerts.batch import Batch, Happening, OutboxRow, SavedAlert
from alerts.machine import Standing
from alerts.notice import Notice
from alerts.reserve import keep_room
from alerts.silence import Silence
from alerts.told import Told

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_KEPT_S: Final = 90 * 86400.0
_ROOM_BYTES: Final = 1 << 20


class Journal:
    """The only door to the file. Used from one thread. `path` None keeps everything in memory.

    `fresh`: it remembers no process before this one. `unswept`: what such a process leaves open may still be
    (see `alerts.sweep`). `room_bytes` are kept free inside the file, so that a full disk refuses no
    transaction at once.
    """

    def __init__(
        self, path: Path | None = None, *, room_bytes: int = _ROOM_BYTES, kept_s: float = _KEPT_S
    ) -> None:
        self._path = path
        self.kept_s = kept_s
        self._room_bytes = room_bytes
        self._listeners: list[Callable[[tuple[OutboxRow, ...]], None]] = []
        self.trouble: str | None = None
        self.fresh = self.unswept = False
        try:
            self._db = tables.opened(path)
        except sqlite3.DatabaseError as error:
            self._db = self._fresh_after(error)
        self._begin()
        self._keep_room()

    def _begin(self) -> None:
        """Find out whether there was a process before this one, and whether its traces were swept."""
        known = dict(self._db.execute("SELECT key, value FROM meta").fetchall())
        self.fresh = "alive" not in known
        self.unswept = self.fresh or "unswept" in known
        if self.fresh:
            with suppress(sqlite3.Error):
                self._db.execute("INSERT OR REPLACE INTO meta VALUES ('unswept', '')")

    def swept(self) -> None:
        """What agents without memory may have left open is ended."""
        self.unswept = False
        self._written(lambda: self._db.execute("DELETE FROM meta WHERE key = 'unswept'"))

    def on_outbox(self, listener: Callable[[tuple[OutboxRow, ...]], None]) -> None:
        """Call `listener` with the rows of each later commit, after it is on disk."""
        self._listeners.append(listener)

    def commit(self, batch: Batch, now_s: float) -> tuple[OutboxRow, ...]:
        """Write a batch in one transaction and return its new outbox rows. Never raises for the disk."""
        rows = self._written(lambda: self._write(batch, now_s))
        if rows:
            for listener in self._listeners:
                listener(rows)
        return rows

    def alerts(self) -> tuple[SavedAlert, ...]:
        """Every alert that is not OK, as last written."""
        return tuple(
            SavedAlert(
                fingerprint=row[0],
                alertname=row[1],
                labels=msgspec.json.decode(row[2], type=dict[str, str]),
                standing=msgspec.json.decode(row[3], type=Standing),
                text=row[4],
            )
            for row in self._db.execute(
                "SELECT fingerprint, alertname, labels, standing, text FROM instances"
            )
        )

    def alive_at_s(self) -> float:
        """When the last process wrote that it was alive; 0 when there was none."""
        row = self._db.execute("SELECT value FROM meta WHERE key = 'alive'").fetchone()
        return float(row[0]) if row else 0.0

    def episodes(self, *, limit: int = 1000, only_open: bool = False) -> tuple[Told, ...]:
        """Episodes that were told to somebody, newest first."""
        where = "WHERE open = 1" if only_open else ""
        rows = self._db.execute(f"SELECT data FROM episodes {where} ORDER BY fired_at DESC LIMIT ?", (limit,))  # noqa: S608  # a constant
        return tuple(msgspec.json.decode(row[0], type=Told) for row in rows)

    def episode(self, episode: str) -> Told | None:
        """One episode that was told to somebody."""
        row = self._db.execute("SELECT data FROM episodes WHERE episode = ?", (episode,)).fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=Told)

    def episodes_between(self, from_s: float, to_s: float, *, limit: int) -> tuple[Told, ...]:
        """Episodes that fired between two times, newest first."""
        rows = self._db.execute(
            "SELECT data FROM episodes WHERE fired_at >= ? AND fired_at < ? ORDER BY fired_at DESC LIMIT ?",
            (from_s, to_s, limit),
        )
        return tuple(msgspec.json.decode(row[0], type=Told) for row in rows)

    def silences(self) -> tuple[Silence, ...]:
        """Every silence that is remembered, ended ones included."""
        return tuple(
            msgspec.json.decode(row[0], type=Silence)
            for row in self._db.execute("SELECT data FROM silences ORDER BY ends_at")
        )

    def log_kinds(self) -> tuple[tuple[str, str, float], ...]:
        """(service, fingerprint, last seen) of ERROR log events, those longest unseen first."""
        return tuple(
            self._db.execute(
                "SELECT service, fingerprint, last_at FROM log_kinds ORDER BY last_at"
            ).fetchall()
        )

    def happenings(self, fingerprint: str, *, limit: int = 200) -> tuple[Happening, ...]:
        """What happened to one alert, oldest first."""
        rows = self._db.execute(
            "SELECT at, fingerprint, alertname, what, text FROM events WHERE fingerprint = ? "
            "ORDER BY id DESC LIMIT ?",
            (fingerprint, limit),
        ).fetchall()
        return tuple(
            Happening(at_s=row[0], fingerprint=row[1], alertname=row[2], what=row[3], text=row[4])
            for row in reversed(rows)
        )

    def happened(self, what: str, from_s: float, to_s: float) -> tuple[Happening, ...]:
        """Everything of one sort that happened between two times, to any alert."""
        rows = self._db.execute(
            "SELECT at, fingerprint, alertname, what, text FROM events WHERE what = ? AND at >= ? AND at < ?",
            (what, from_s, to_s),
        )
        return tuple(
            Happening(at_s=row[0], fingerprint=row[1], alertname=row[2], what=row[3], text=row[4])
            for row in rows
        )

    def queued(self) -> tuple[OutboxRow, ...]:
        """Rows not yet accepted by their channel, oldest first."""
        return outbox.rows(self._db, "WHERE state = 'queued' ORDER BY id")

    def outbox_of(self, episode: str) -> tuple[OutboxRow, ...]:
        """Every row of one episode, for its delivery timeline."""
        return outbox.rows(self._db, "WHERE episode = ? ORDER BY id", (episode,))

    def triggers(self, from_s: float, to_s: float) -> tuple[Notice, ...]:
        """The first notices of the episodes begun between two times."""
        return outbox.triggers(self._db, from_s, to_s)

    def ref(self, episode: str, channel: str) -> str | None:
        """What the provider called this episode's message (a Slack timestamp)."""
        row = self._db.execute(
            "SELECT ref FROM refs WHERE episode = ? AND channel = ?", (episode, channel)
        ).fetchone()
        return str(row[0]) if row else None

    def sent(self, row: OutboxRow, at_s: float, *, status: int | None = None, ref: str | None = None) -> None:
        """The channel accepted the row."""
        self._written(lambda: outbox.sent(self._db, row, at_s, status=status, ref=ref))

    def failed(self, row: OutboxRow, *, dead: bool) -> None:
        """An attempt failed, as `row` now says; `dead` gives up."""
        self._written(lambda: outbox.failed(self._db, row, dead=dead))

    def merge(
        self, rows: Iterable[OutboxRow], at_s: float, *, why: str = "", into: OutboxRow | None = None
    ) -> None:
        """These rows will not be sent: `into`, whose words are rewritten, or somebody else says it."""
        merged = tuple(rows)

        def write() -> None:
            outbox.merge(self._db, merged, at_s, why=why)
            if into is not None:
                outbox.reword(self._db, into)

        self._written(write)

    def prune(self, now_s: float) -> None:
        """Forget what is older than `kept_s`; the file stays bounded."""
        self._written(lambda: tables.prune(self._db, now_s, kept_s=self.kept_s))
        self._keep_room()

    def try_disk(self) -> bool:
        """After trouble, move back from memory to the file. True when the file is in use."""
        if self.trouble is None or self._path is None:
            return True
        try:
            disk = tables.opened(self._path)
            self._db.backup(disk)
        except (sqlite3.Error, OSError) as error:
            self.trouble = str(error)
            return False
        self._db.close()
        self._db = disk
        self.trouble = None
        self._keep_room()
        logger.info("journal.recovered")
        return True

    def close(self) -> None:
        """Release the file."""
        self._db.close()

    def _keep_room(self) -> None:
        if self._path is None or self.trouble is not None:
            return
        if not keep_room(self._db, self._path, self._room_bytes):
            logger.warning("journal.no_room", extra={"path": str(self._path), "room_bytes": self._room_bytes})

    def _write(self, batch: Batch, now_s: float) -> tuple[OutboxRow, ...]:
        return tables.write(self._db, batch, now_s)

    def _written(self, write: Callable[[], _T]) -> _T:
        try:
            with self._transaction():
                return write()
        except sqlite3.Error as error:
            if self.trouble is not None:
                raise
            self._flee(error)
        with self._transaction():
            return write()

    def _flee(self, error: sqlite3.Error) -> None:
        """Go on in memory with all that can still be read."""
        self.trouble = str(error)
        logger.error("journal.in_memory", extra={"path": str(self._path), "error": str(error)})
        memory = sqlite3.connect(":memory:", isolation_level=None)
        try:
            self._db.backup(memory)
        except sqlite3.Error:
            memory.executescript(tables.SCHEMA)
        with suppress(sqlite3.Error):
            self._db.close()
        self._db = memory

    def _fresh_after(self, error: sqlite3.DatabaseError) -> sqlite3.Connection:
        """A damaged file is put aside; a place that cannot be written is replaced by memory."""
        logger.error("journal.unusable", extra={"path": str(self._path), "error": str(error)})
        if self._path is not None and self._path.exists() and not isinstance(error, sqlite3.OperationalError):
            self._path.replace(self._path.with_suffix(".damaged"))
            with suppress(sqlite3.Error):
                return tables.opened(self._path)
        self.trouble = str(error)
        return tables.opened(None)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise
