"""The outbox's table: notices on their way, each once per channel, in the file that holds the states too.

Every function writes or reads through a connection of the journal, inside the journal's transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

import msgspec

from alerts.batch import Ending, OutboxRow
from alerts.notice import Notice

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS outbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT, episode TEXT NOT NULL, channel TEXT NOT NULL, kind TEXT NOT NULL,
  seq INTEGER NOT NULL, payload BLOB NOT NULL, created_at REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
  next_at REAL NOT NULL DEFAULT 0, state TEXT NOT NULL DEFAULT 'queued', last_error TEXT NOT NULL DEFAULT '',
  http_status INTEGER, ended_at REAL, UNIQUE (episode, channel, kind, seq));
CREATE INDEX IF NOT EXISTS outbox_queued ON outbox (state, id) WHERE state = 'queued';
CREATE TABLE IF NOT EXISTS refs (
  episode TEXT NOT NULL, channel TEXT NOT NULL, ref TEXT NOT NULL,
  PRIMARY KEY (episode, channel)) WITHOUT ROWID;
"""
_ABANDONED_S: Final = 2 * 86400.0


def enqueue(db: sqlite3.Connection, item: tuple[str, int, Notice], now_s: float) -> OutboxRow | None:
    """Queue a notice for a channel; None when it is there already."""
    channel, seq, notice = item
    cursor = db.execute(
        "INSERT OR IGNORE INTO outbox (episode, channel, kind, seq, payload, created_at) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (notice.episode, channel, notice.kind.value, seq, msgspec.json.encode(notice), now_s),
    )
    if cursor.rowcount != 1 or cursor.lastrowid is None:
        return None
    return OutboxRow(id=cursor.lastrowid, channel=channel, notice=notice, seq=seq, created_at_s=now_s)


def end(db: sqlite3.Connection, ending: Ending, now_s: float) -> tuple[OutboxRow, ...]:
    """Queue the end of an episode for exactly the channels that got, or may have got, its trigger.

    Stand-ins that were called instead are among them. A channel whose one attempt met a final no has heard
    of nothing, so it is not told of the end either.
    """
    rows = db.execute(
        "SELECT channel, state = 'dead' AND attempts <= 1 FROM outbox "
        "WHERE episode = ? AND kind = 'trigger' ORDER BY id",
        (ending.notice.episode,),
    ).fetchall()
    never = {channel for channel, refused in rows if refused}
    names = dict.fromkeys((*ending.channels, *(channel for channel, _ in rows)))
    queued = (
        enqueue(db, (name, 0, ending.local.get(name, ending.notice)), now_s)
        for name in names
        if name not in never and name not in ending.spared
    )
    return tuple(row for row in queued if row is not None)


def rows(db: sqlite3.Connection, where: str, arguments: tuple[str, ...] = ()) -> tuple[OutboxRow, ...]:
    """The rows that a constant `where` clause selects."""
    found = db.execute(
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


def triggers(db: sqlite3.Connection, from_s: float, to_s: float) -> tuple[Notice, ...]:
    """One trigger of each episode that was queued between two times."""
    found = db.execute(
        "SELECT payload, min(id) FROM outbox WHERE kind = 'trigger' AND created_at >= ? AND created_at < ? "
        "GROUP BY episode",
        (from_s, to_s),
    )
    return tuple(msgspec.json.decode(row[0], type=Notice) for row in found)


def sent(db: sqlite3.Connection, row: OutboxRow, at_s: float, *, status: int | None, ref: str | None) -> None:
    """The channel accepted the row; `ref` is what its provider calls the message."""
    db.execute(
        "UPDATE outbox SET state = 'sent', ended_at = ?, http_status = ?, attempts = ? WHERE id = ?",
        (at_s, status, row.attempts + 1, row.id),
    )
    if ref is not None:
        db.execute("INSERT OR REPLACE INTO refs VALUES (?, ?, ?)", (row.notice.episode, row.channel, ref))


def failed(db: sqlite3.Connection, row: OutboxRow, *, dead: bool) -> None:
    """An attempt failed, as `row` now says; `dead` gives up."""
    db.execute(
        "UPDATE outbox SET attempts = ?, next_at = ?, last_error = ?, http_status = ?, state = ?, "
        "ended_at = ? WHERE id = ?",
        (row.attempts, row.next_at_s, row.last_error[:500], row.http_status,
         "dead" if dead else "queued", row.next_at_s if dead else None, row.id),
    )  # fmt: skip


def merge(db: sqlite3.Connection, merged: Iterable[OutboxRow], at_s: float, *, why: str) -> None:
    """These rows will not be sent; `why` is kept for the record."""
    db.executemany(
        "UPDATE outbox SET state = 'merged', ended_at = ?, last_error = ? WHERE id = ? AND state = 'queued'",
        [(at_s, why, row.id) for row in merged],
    )


def reword(db: sqlite3.Connection, row: OutboxRow) -> None:
    """A queued row now says what its notice says."""
    db.execute("UPDATE outbox SET payload = ? WHERE id = ?", (msgspec.json.encode(row.notice), row.id))


def prune(db: sqlite3.Connection, now_s: float, limit_s: float) -> None:
    """Forget what ended before `limit_s`, and give up what waits for a channel that does not come back."""
    db.execute("DELETE FROM outbox WHERE state != 'queued' AND created_at < ?", (limit_s,))
    db.execute(
        "UPDATE outbox SET state = 'dead', last_error = 'nobody took it for two days', ended_at = ? "
        "WHERE state = 'queued' AND created_at < ?",
        (now_s, now_s - _ABANDONED_S),
    )
    db.execute("DELETE FROM refs WHERE episode NOT IN (SELECT episode FROM episodes)")
