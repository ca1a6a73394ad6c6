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

from alerts.batch import Batch, Happening, OutboxRow, SavedAlert
from alerts.machine import Standing
from alerts.notice import Notice
from alerts.reserve import keep_room
from alerts.silence import Silence
from alerts.told import Told

logger = logging.getLogger(__name__)

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS instances (
  fingerprint TEXT PRIMARY KEY, alertname TEXT NOT NULL, labels BLOB NOT NULL, standing BLOB NOT NULL,
  text TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS episodes (
  episode TEXT PRIMARY KEY, open INTEGER NOT NULL, fired_at REAL NOT NULL, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT, episode TEXT NOT NULL, channel TEXT NOT NULL, kind TEXT NOT NULL,
  seq INTEGER NOT NULL, payload BLOB NOT NULL, created_at REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
  next_at REAL NOT NULL DEFAULT 0, state TEXT NOT NULL DEFAULT 'queued', last_error TEXT NOT NULL DEFAULT '',
  http_status INTEGER, ended_at REAL, UNIQUE (episode, channel, kind, seq));
CREATE INDEX IF NOT EXISTS outbox_queued ON outbox (state, id) WHERE state = 'queued';
CREATE TABLE IF NOT EXISTS refs (
  episode TEXT NOT NULL, channel TEXT NOT NULL, ref TEXT NOT NULL,
  PRIMARY KEY (episode, channel)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS silences (
  id TEXT PRIMARY KEY, ends_at REAL NOT NULL, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
  id INTEGER PRIMARY KEY, at REAL NOT NULL, fingerprint TEXT NOT NULL, alertname TEXT NOT NULL,
  what TEXT NOT NULL, text TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_of ON events (fingerprint, at);
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_T = TypeVar("_T")
_KEEP_S: Final = 30 * 86400.0
_EVENTS_KEPT: Final = 100_000
_ROOM_BYTES: Final = 1 << 20


class Journal:
    """The only door to the file. Used from one thread. `path` None keeps everything in memory.

    `room_bytes` are kept free inside the file, so that a full disk refuses no transaction at once.
    """

    def __init__(self, path: Path | None = None, *, room_bytes: int = _ROOM_BYTES) -> None:
        self._path = path
        self._room_bytes = room_bytes
        self._listeners: list[Callable[[tuple[OutboxRow, ...]], None]] = []
        self.trouble: str | None = None
        try:
            self._db = _opened(path)
        except sqlite3.DatabaseError as error:
            self._db = self._fresh_after(error)
        self._keep_room()

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

    def silences(self) -> tuple[Silence, ...]:
        """Every silence that is remembered, ended ones included."""
        return tuple(
            msgspec.json.decode(row[0], type=Silence)
            for row in self._db.execute("SELECT data FROM silences ORDER BY ends_at")
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

    def queued(self) -> tuple[OutboxRow, ...]:
        """Rows not yet accepted by their channel, oldest first."""
        return self._rows("WHERE state = 'queued' ORDER BY id", ())

    def outbox_of(self, episode: str) -> tuple[OutboxRow, ...]:
        """Every row of one episode, for its delivery timeline."""
        return self._rows("WHERE episode = ? ORDER BY id", (episode,))

    def ref(self, episode: str, channel: str) -> str | None:
        """What the provider called this episode's message (a Slack timestamp)."""
        row = self._db.execute(
            "SELECT ref FROM refs WHERE episode = ? AND channel = ?", (episode, channel)
        ).fetchone()
        return str(row[0]) if row else None

    def sent(self, row: OutboxRow, at_s: float, *, status: int | None = None, ref: str | None = None) -> None:
        """The channel accepted the row."""

        def write() -> None:
            self._db.execute(
                "UPDATE outbox SET state = 'sent', ended_at = ?, http_status = ?, attempts = ? WHERE id = ?",
                (at_s, status, row.attempts + 1, row.id),
            )
            if ref is not None:
                self._db.execute(
                    "INSERT OR REPLACE INTO refs VALUES (?, ?, ?)", (row.notice.episode, row.channel, ref)
                )

        self._written(write)

    def failed(self, row: OutboxRow, error: str, *, next_at_s: float, status: int | None, dead: bool) -> None:
        """An attempt failed; `dead` gives up."""
        self._written(
            lambda: self._db.execute(
                "UPDATE outbox SET attempts = ?, next_at = ?, last_error = ?, http_status = ?, state = ?, "
                "ended_at = ? WHERE id = ?",
                (row.attempts + 1, next_at_s, error[:500], status, "dead" if dead else "queued",
                 next_at_s if dead else None, row.id),
            )
        )  # fmt: skip

    def merge(self, rows: Iterable[OutboxRow], at_s: float) -> None:
        """These rows will not be sent: another one says what they said."""
        ids = [(at_s, row.id) for row in rows]
        self._written(
            lambda: self._db.executemany(
                "UPDATE outbox SET state = 'merged', ended_at = ? WHERE id = ? AND state = 'queued'", ids
            )
        )

    def prune(self, now_s: float) -> None:
        """Forget what is older than a month; the file stays bounded."""
        limit_s = now_s - _KEEP_S

        def write() -> None:
            self._db.execute("DELETE FROM outbox WHERE state != 'queued' AND created_at < ?", (limit_s,))
            self._db.execute("DELETE FROM episodes WHERE open = 0 AND fired_at < ?", (limit_s,))
            self._db.execute("DELETE FROM refs WHERE episode NOT IN (SELECT episode FROM episodes)")
            self._db.execute("DELETE FROM silences WHERE ends_at < ?", (now_s - 5 * 86400,))
            self._db.execute("DELETE FROM events WHERE at < ?", (limit_s,))
            self._db.execute(
                "DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?", (_EVENTS_KEPT,)
            )

        self._written(write)
        self._keep_room()

    def try_disk(self) -> bool:
        """After trouble, move back from memory to the file. True when the file is in use."""
        if self.trouble is None or self._path is None:
            return True
        try:
            disk = _opened(self._path)
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

    def _rows(self, where: str, arguments: tuple[str, ...]) -> tuple[OutboxRow, ...]:
        found = self._db.execute(
            "SELECT id, channel, payload, seq, created_at, attempts, next_at, state, last_error, "  # noqa: S608  # constants
            f"http_status, ended_at FROM outbox {where}",
            arguments,
        )
        return tuple(
            OutboxRow(
                id=row[0], channel=row[1], notice=msgspec.json.decode(row[2], type=Notice), seq=row[3],
                created_at_s=row[4], attempts=row[5], next_at_s=row[6], state=row[7], last_error=row[8],
                http_status=row[9], ended_at_s=row[10],
            )
            for row in found
        )  # fmt: skip

    def _write(self, batch: Batch, now_s: float) -> tuple[OutboxRow, ...]:
        db = self._db
        encode = msgspec.json.encode
        db.executemany(
            "INSERT OR REPLACE INTO instances VALUES (?, ?, ?, ?, ?)",
            [(one.fingerprint, one.alertname, encode(one.labels), encode(one.standing), one.text)
             for one in batch.alerts],
        )  # fmt: skip
        db.executemany("DELETE FROM instances WHERE fingerprint = ?", [(one,) for one in batch.gone])
        db.executemany(
            "INSERT OR REPLACE INTO episodes VALUES (?, ?, ?, ?)",
            [
                (told.episode, told.resolved_at_s is None, told.fired_at_s, encode(told))
                for told in batch.episodes
            ],
        )
        db.executemany(
            "INSERT OR REPLACE INTO silences VALUES (?, ?, ?)",
            [(one.id, one.ends_at_s, encode(one)) for one in batch.silences],
        )
        db.executemany(
            "INSERT INTO events (at, fingerprint, alertname, what, text) VALUES (?, ?, ?, ?, ?)",
            [(one.at_s, one.fingerprint, one.alertname, one.what, one.text) for one in batch.happenings],
        )
        db.executemany("UPDATE outbox SET state = 'merged' WHERE id = ?", [(one,) for one in batch.merged])
        db.execute("INSERT OR REPLACE INTO meta VALUES ('alive', ?)", (repr(batch.alive_at_s or now_s),))
        return tuple(row for item in batch.outbox if (row := self._enqueue(item, now_s)) is not None)

    def _enqueue(self, item: tuple[str, int, Notice], now_s: float) -> OutboxRow | None:
        channel, seq, notice = item
        cursor = self._db.execute(
            "INSERT OR IGNORE INTO outbox (episode, channel, kind, seq, payload, created_at) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (notice.episode, channel, notice.kind.value, seq, msgspec.json.encode(notice), now_s),
        )
        if cursor.rowcount != 1 or cursor.lastrowid is None:
            return None
        return OutboxRow(id=cursor.lastrowid, channel=channel, notice=notice, seq=seq, created_at_s=now_s)

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
            memory.executescript(_SCHEMA)
        with suppress(sqlite3.Error):
            self._db.close()
        self._db = memory

    def _fresh_after(self, error: sqlite3.DatabaseError) -> sqlite3.Connection:
        """A damaged file is put aside; a place that cannot be written is replaced by memory."""
        logger.error("journal.unusable", extra={"path": str(self._path), "error": str(error)})
        if self._path is not None and self._path.exists() and not isinstance(error, sqlite3.OperationalError):
            self._path.replace(self._path.with_suffix(".damaged"))
            with suppress(sqlite3.Error):
                return _opened(self._path)
        self.trouble = str(error)
        return _opened(None)

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


def _opened(path: Path | None) -> sqlite3.Connection:
    if path is not None:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=2.0)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(_SCHEMA)
    except sqlite3.Error:
        db.close()
        raise
    return db
