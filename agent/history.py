"""What was seen, kept: looks for days, failures with their evidence for longer, one line a day for a year."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from agent import past_failures
from agent.past_failures import FailureRuns, PastFailure
from alerts.requests import RequestSample
from checks.clock import Clock
from checks.finding import State
from checks.observation import Observation
from checks.target import TargetKey

logger = logging.getLogger(__name__)

T = TypeVar("T")

_FLUSH_EVERY_S: Final = 1.0
_BUFFER_ROWS: Final = 20_000
_CHANGES_KEPT_S: Final = 90 * 86400
_DAYS_KEPT: Final = 400
_PRUNE_EVERY_S: Final = 600.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS targets (
  id INTEGER PRIMARY KEY, env TEXT, service TEXT, "check" TEXT, vantage TEXT,
  UNIQUE (env, service, "check", vantage));
CREATE TABLE IF NOT EXISTS looks (target INTEGER, at_ms INTEGER, state TEXT, reason TEXT, latency_us INTEGER);
CREATE INDEX IF NOT EXISTS looks_by_target ON looks (target, at_ms);
CREATE INDEX IF NOT EXISTS looks_by_time ON looks (at_ms);
CREATE TABLE IF NOT EXISTS days (
  target INTEGER, day INTEGER, state TEXT, looks INTEGER, PRIMARY KEY (target, day, state)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS requests (
  env TEXT, service TEXT, source TEXT, at_ms INTEGER, sample BLOB);
CREATE INDEX IF NOT EXISTS requests_by_service ON requests (env, service, at_ms);
CREATE TABLE IF NOT EXISTS changes (at_ms INTEGER, change TEXT);
CREATE INDEX IF NOT EXISTS changes_by_time ON changes (at_ms);
"""


class PastLook(Struct, frozen=True, kw_only=True):
    """One kept look; `at_s` is its wall second."""

    at_s: float
    state: State
    reason: str
    latency_s: float | None


class PastDay(Struct, frozen=True, kw_only=True):
    """How many looks of one UTC day (days since 1970) found each state."""

    day: int
    looks: dict[State, int]


class Kept(Struct, frozen=True, kw_only=True):
    """How many seconds looks (with request counters) and failures are kept."""

    looks_s: float = 7 * 86400.0
    failures_s: float = 90 * 86400.0


_KEPT: Final = Kept()


class History:
    """A SQLite file written by one thread of its own, in batches; the event loop never waits for the disk.

    When the disk refuses, looks are dropped and counted in `dropped`, and `trouble` says why until it works.
    """

    def __init__(self, path: Path, clock: Clock, kept: Mapping[str, Kept] | None = None) -> None:
        self._clock = clock
        self.keep(kept or {})
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="history")
        self._path = path
        self._database: sqlite3.Connection | None = None
        self._ids: dict[TargetKey, int] = {}
        self._looks: list[Observation] = []
        self._samples: list[RequestSample] = []
        self._failures = FailureRuns()
        self.dropped = 0
        self.trouble: str | None = None

    def keep(self, kept: Mapping[str, Kept]) -> None:
        """How long each environment's past is kept from now on."""
        self._kept = dict(kept)

    async def run(self) -> None:
        """Write what is added about once a second until cancelled, then write the rest and close."""
        pruned_s = self._clock.monotonic_s() - _PRUNE_EVERY_S
        try:
            while True:
                await self._flush()
                if self._clock.monotonic_s() - pruned_s >= _PRUNE_EVERY_S:
                    pruned_s = self._clock.monotonic_s()
                    await self._try(self._prune)
                await asyncio.sleep(_FLUSH_EVERY_S)
        finally:
            self._thread.submit(self._close, self._looks, self._samples)
            self._looks, self._samples = [], []
            self._thread.shutdown(wait=True)

    def add(self, observation: Observation) -> None:
        """Remember one look at the next flush."""
        if len(self._looks) < _BUFFER_ROWS:
            self._looks.append(observation)
        else:
            self.dropped += 1

    def add_requests(self, sample: RequestSample) -> None:
        """Remember one source's request counters at the next flush."""
        if len(self._samples) < _BUFFER_ROWS:
            self._samples.append(sample)
        else:
            self.dropped += 1

    async def looks(self, key: TargetKey, *, since_s: float, limit: int) -> tuple[PastLook, ...]:
        """Looks at one target from `since_s` on, oldest first, the newest `limit` of them."""

        def read() -> tuple[PastLook, ...]:
            rows = self._open().execute(
                "SELECT at_ms, state, reason, latency_us FROM looks WHERE target = ? AND at_ms >= ?"
                " ORDER BY at_ms DESC LIMIT ?",
                (self._id(key), int(since_s * 1000), limit),
            )
            return tuple(
                PastLook(
                    at_s=at_ms / 1000,
                    state=State(state),
                    reason=reason,
                    latency_s=None if latency_us is None else latency_us / 1e6,
                )
                for at_ms, state, reason, latency_us in reversed(rows.fetchall())
            )

        return await self._ask(read)

    async def failures(self, key: TargetKey, *, limit: int) -> tuple[PastFailure, ...]:
        """The newest failures of one target with their evidence, newest first."""

        def read() -> tuple[PastFailure, ...]:
            return self._failures.read(self._open(), self._id(key), limit=limit)

        return await self._ask(read)

    async def days(self, key: TargetKey, *, days: int) -> tuple[PastDay, ...]:
        """The last `days` UTC days that have looks, oldest first."""

        def read() -> tuple[PastDay, ...]:
            first = int(self._clock.wall_s() // 86400) - days + 1
            rows = self._open().execute(
                "SELECT day, state, looks FROM days WHERE target = ? AND day >= ? ORDER BY day",
                (self._id(key), first),
            )
            found: dict[int, dict[State, int]] = {}
            for day, state, looks in rows:
                found.setdefault(day, {})[State(state)] = looks
            return tuple(PastDay(day=day, looks=looks) for day, looks in found.items())

        return await self._ask(read)

    async def requests(self, env: str, service: str, *, since_s: float) -> tuple[RequestSample, ...]:
        """Kept request counters of one service from `since_s` on, oldest first."""

        def read() -> tuple[RequestSample, ...]:
            rows = self._open().execute(
                "SELECT sample FROM requests WHERE env = ? AND service = ? AND at_ms >= ? ORDER BY at_ms",
                (env, service, int(since_s * 1000)),
            )
            return tuple(msgspec.msgpack.decode(sample, type=RequestSample) for (sample,) in rows)

        return await self._ask(read)

    async def add_change(self, at_s: float, change: str) -> None:
        """Remember a change of the platform, given as JSON text, before returning. Raises sqlite3.Error."""

        def write() -> None:
            with self._open() as database:
                database.execute("INSERT INTO changes VALUES (?, ?)", (int(at_s * 1000), change))

        await self._ask(write)

    async def changes(self, *, limit: int) -> tuple[str, ...]:
        """The newest changes as JSON texts, newest first."""

        def read() -> tuple[str, ...]:
            rows = self._open().execute("SELECT change FROM changes ORDER BY at_ms DESC LIMIT ?", (limit,))
            return tuple(change for (change,) in rows)

        return await self._ask(read)

    async def _ask(self, question: Callable[[], T]) -> T:
        await self._flush()
        return await asyncio.get_running_loop().run_in_executor(self._thread, question)

    async def _flush(self) -> None:
        looks, samples = self._looks, self._samples
        if looks or samples:
            self._looks, self._samples = [], []
            if not await self._try(lambda: self._write(looks, samples)):
                self.dropped += len(looks) + len(samples)

    async def _try(self, work: Callable[[], None]) -> bool:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            self._failures.forget()
            if self.trouble is None:
                logger.error("history.write_failed", extra={"path": str(self._path), "error": str(error)})  # noqa: TRY400  the sentence says it; a full disk needs no traceback
            self.trouble = f"{self._path}: {error}"
            return False
        if self.trouble is not None:
            logger.info("history.write_recovered", extra={"path": str(self._path), "dropped": self.dropped})
        self.trouble = None
        return True

    # Everything below runs in the thread.

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            database = sqlite3.connect(self._path, check_same_thread=False)
            database.executescript(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" + _SCHEMA + past_failures.SCHEMA
            )
            self._database = database
        return self._database

    def _id(self, key: TargetKey) -> int:
        known = self._ids.get(key)
        if known is None:
            database = self._open()
            words = (key.env, key.service, key.check, key.vantage)
            database.execute(
                'INSERT OR IGNORE INTO targets (env, service, "check", vantage) VALUES (?, ?, ?, ?)', words
            )
            (known,) = database.execute(
                'SELECT id FROM targets WHERE env = ? AND service = ? AND "check" = ? AND vantage = ?', words
            ).fetchone()
            database.commit()
            self._ids[key] = known
        return known

    def _write(self, looks: list[Observation], samples: list[RequestSample]) -> None:
        database = self._open()
        rows: list[tuple[int, int, str, str, int | None]] = []
        numbered = [(self._id(look.target.key), look) for look in looks]
        days: dict[tuple[int, int, str], int] = {}
        for target, look in numbered:
            finding = look.finding
            at_ms = int(look.at_s * 1000)
            latency_us = None if finding.latency_s is None else int(finding.latency_s * 1e6)
            rows.append((target, at_ms, finding.state.value, finding.reason.value, latency_us))
            day = (target, at_ms // 86_400_000, finding.state.value)
            days[day] = days.get(day, 0) + 1
        with database:
            database.executemany("INSERT INTO looks VALUES (?, ?, ?, ?, ?)", rows)
            self._failures.write(database, numbered)
            database.executemany(
                "INSERT INTO days VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET looks = looks + excluded.looks",
                [(*day, looks) for day, looks in days.items()],
            )
            database.executemany(
                "INSERT INTO requests VALUES (?, ?, ?, ?, ?)",
                [
                    (s.env, s.service, s.source, int(s.at_s * 1000), msgspec.msgpack.encode(s))
                    for s in samples
                ],
            )

    def _prune(self) -> None:
        now_ms = int(self._clock.wall_s() * 1000)
        database = self._open()
        with database:
            for env in self._environments(database):
                kept = self._kept.get(env, _KEPT)
                oldest_ms = now_ms - int(kept.looks_s * 1000)
                database.execute(
                    "DELETE FROM looks WHERE at_ms < ? AND target IN (SELECT id FROM targets WHERE env = ?)",
                    (oldest_ms, env),
                )
                database.execute("DELETE FROM requests WHERE at_ms < ? AND env = ?", (oldest_ms, env))
                self._failures.prune(database, env, oldest_ms=now_ms - int(kept.failures_s * 1000))
            database.execute("DELETE FROM changes WHERE at_ms < ?", (now_ms - _CHANGES_KEPT_S * 1000,))
            database.execute("DELETE FROM days WHERE day < ?", (now_ms // 86_400_000 - _DAYS_KEPT,))
            self._failures.thin_out(database)

    @staticmethod
    def _environments(database: sqlite3.Connection) -> list[str]:
        return [env for (env,) in database.execute("SELECT env FROM targets UNION SELECT env FROM requests")]

    def _close(self, looks: list[Observation], samples: list[RequestSample]) -> None:
        try:
            if looks or samples:
                self._write(looks, samples)
        except sqlite3.Error as error:
            logger.warning("history.last_write_failed", extra={"error": str(error)})
        if self._database is not None:
            self._database.close()
            self._database = None
