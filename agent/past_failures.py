"""Failures kept with their evidence: those that follow each other alike are one row, however many looks."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Struct

from checks.finding import Finding, State
from checks.observation import Observation

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS failure_runs (
  id INTEGER PRIMARY KEY, target INTEGER, first_ms INTEGER, last_ms INTEGER, looks INTEGER, detail TEXT);
CREATE INDEX IF NOT EXISTS failure_runs_by_target ON failure_runs (target, last_ms);
DROP TABLE IF EXISTS failures;
"""
# Unknown is no failure of the target, but somebody who asks why wants to see it as well.
_FAILED: Final = frozenset({State.DOWN, State.DEGRADED, State.UNKNOWN})
_KEPT_PER_TARGET: Final = 200


class PastFailure(Struct, frozen=True, kw_only=True):
    """Looks in a row with one state and reason; `detail` is the newest one's finding as JSON text."""

    first_s: float
    at_s: float
    looks: int
    detail: str


class _Run(Struct, kw_only=True):
    row: int
    what: tuple[State, str]
    last_ms: int
    looks: int
    finding: Finding


class FailureRuns:
    """Writes and reads them. Used by one thread; the caller owns the transaction."""

    def __init__(self) -> None:
        self._open: dict[int, _Run] = {}

    def write(self, database: sqlite3.Connection, looks: Iterable[tuple[int, Observation]]) -> None:
        """Take in looks with the number of their target, in order of time. Raises sqlite3.Error."""
        changed: dict[int, _Run] = {}
        for target, look in looks:
            finding, at_ms = look.finding, int(look.at_s * 1000)
            if finding.state not in _FAILED:
                self._open.pop(target, None)
                continue
            run = self._open.get(target)
            what = (finding.state, finding.reason.value)
            if run is None or run.what != what:
                row = database.execute(
                    "INSERT INTO failure_runs (target, first_ms, last_ms, looks, detail)"
                    " VALUES (?, ?, ?, 1, ?)",
                    (target, at_ms, at_ms, _text(finding)),
                ).lastrowid
                assert row is not None
                self._open[target] = _Run(row=row, what=what, last_ms=at_ms, looks=1, finding=finding)
            else:
                run.last_ms, run.finding = at_ms, finding
                run.looks += 1
                changed[run.row] = run
        database.executemany(
            "UPDATE failure_runs SET last_ms = ?, looks = ?, detail = ? WHERE id = ?",
            [(run.last_ms, run.looks, _text(run.finding), run.row) for run in changed.values()],
        )

    def forget(self) -> None:
        """What was written last is not there: begin anew."""
        self._open.clear()

    def read(self, database: sqlite3.Connection, target: int, *, limit: int) -> tuple[PastFailure, ...]:
        """The newest `limit` of one target, newest first."""
        rows = database.execute(
            "SELECT first_ms, last_ms, looks, detail FROM failure_runs WHERE target = ?"
            " ORDER BY last_ms DESC, id DESC LIMIT ?",
            (target, limit),
        )
        return tuple(
            PastFailure(first_s=first_ms / 1000, at_s=last_ms / 1000, looks=looks, detail=detail)
            for first_ms, last_ms, looks, detail in rows
        )

    def prune(self, database: sqlite3.Connection, env: str, *, oldest_ms: int) -> None:
        """Drop what ended before `oldest_ms` in an environment."""
        database.execute(
            "DELETE FROM failure_runs WHERE last_ms < ? AND target IN (SELECT id FROM targets WHERE env = ?)",
            (oldest_ms, env),
        )

    def thin_out(self, database: sqlite3.Connection) -> None:
        """Drop of each target all but the newest 200."""
        database.execute(
            "DELETE FROM failure_runs WHERE id IN (SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY"
            " target ORDER BY last_ms DESC, id DESC) AS place FROM failure_runs) WHERE place > ?)",
            (_KEPT_PER_TARGET,),
        )


def _text(finding: Finding) -> str:
    return msgspec.json.encode(finding).decode()
