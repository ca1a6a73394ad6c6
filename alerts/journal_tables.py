"""The journal's tables: their schema, what a batch writes into them, and what is forgotten with time."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from alerts import outbox
from alerts.batch import Batch, OutboxRow

SCHEMA: Final = (
    """
CREATE TABLE IF NOT EXISTS instances (
  fingerprint TEXT PRIMARY KEY, alertname TEXT NOT NULL, labels BLOB NOT NULL, standing BLOB NOT NULL,
  text TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS episodes (
  episode TEXT PRIMARY KEY, open INTEGER NOT NULL, fired_at REAL NOT NULL, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS silences (
  id TEXT PRIMARY KEY, ends_at REAL NOT NULL, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
  id INTEGER PRIMARY KEY, at REAL NOT NULL, fingerprint TEXT NOT NULL, alertname TEXT NOT NULL,
  what TEXT NOT NULL, text TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_of ON events (fingerprint, at);
CREATE TABLE IF NOT EXISTS log_kinds (
  service TEXT NOT NULL, fingerprint TEXT NOT NULL, last_at REAL NOT NULL,
  PRIMARY KEY (service, fingerprint)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
    + outbox.SCHEMA
)
_LOG_KINDS_KEPT: Final = 20_000
_EVENTS_KEPT: Final = 100_000


def opened(path: Path | None) -> sqlite3.Connection:
    """The file with every table, in memory without a path. Raises sqlite3.Error when it cannot be used."""
    if path is not None:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=2.0)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(SCHEMA)
    except sqlite3.Error:
        db.close()
        raise
    return db


def write(db: sqlite3.Connection, batch: Batch, now_s: float) -> tuple[OutboxRow, ...]:
    """Write a batch within the caller's transaction; its new outbox rows."""
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
    db.executemany("INSERT OR REPLACE INTO log_kinds VALUES (?, ?, ?)", batch.log_kinds)
    db.execute("INSERT OR REPLACE INTO meta VALUES ('alive', ?)", (repr(batch.alive_at_s or now_s),))
    queued = [row for item in batch.outbox if (row := outbox.enqueue(db, item, now_s)) is not None]
    for ending in batch.endings:
        queued.extend(outbox.end(db, ending, now_s))
    return tuple(queued)


def prune(db: sqlite3.Connection, now_s: float, *, kept_s: float) -> None:
    """Forget what is older than `kept_s`, and the oldest beyond what is kept of any age."""
    limit_s = now_s - kept_s
    db.execute("DELETE FROM episodes WHERE open = 0 AND fired_at < ?", (limit_s,))
    outbox.prune(db, now_s, limit_s)
    db.execute("DELETE FROM silences WHERE ends_at < ?", (now_s - 5 * 86400,))
    db.execute("DELETE FROM events WHERE at < ?", (limit_s,))
    db.execute(
        "DELETE FROM log_kinds WHERE last_at < ? OR last_at < (SELECT last_at FROM log_kinds "
        "ORDER BY last_at DESC LIMIT 1 OFFSET ?)",
        (limit_s, _LOG_KINDS_KEPT),
    )
    db.execute("DELETE FROM events WHERE id <= (SELECT max(id) FROM events) - ?", (_EVENTS_KEPT,))
