"""What changes slowly and costs more than the rest: identity, sequences, the archive's queue, statements."""

from __future__ import annotations

from typing import Final

import msgspec

from checks.finding import Evidence, Measure, State
from checks.limits import chosen
from checks.postgres import depth, statements
from checks.postgres.depth import Identity, Sequences
from checks.postgres.options import PostgresOptions
from checks.postgres.reading import Reading
from checks.postgres.session import QueryRefusedError, Session
from checks.postgres.statements import Statement, Statements
from checks.postgres.thresholds import Thresholds
from checks.problem import Problem, over
from checks.reason import Reason

_READY_LIMIT: Final = 100


class SlowSignals:
    """Reads and remembers. Raises what Session.text raises when the connection itself fails."""

    def __init__(self, session: Session, options: PostgresOptions, limits: Thresholds) -> None:
        self._session = session
        self._options = options
        self._limits = limits
        self._within_s = float(options.answer_within)
        self._identity: Identity | None = None
        self._statements = Statements()

    async def read(self, *, archiving: bool) -> Reading:
        """One reading of them all."""
        reading = Reading()
        shown = self._session.place.shown
        text = await self._ask(depth.IDENTITY, reading, "identity")
        if text is not None:
            seen = msgspec.json.decode(text, type=Identity)
            if self._identity is not None and seen != self._identity:
                words = f"{shown} is another server now (timeline {seen.timeline}): was there a failover?"
                reading.evidence.append(Evidence(name=Reason.PG_FAILOVER, value=words))
            self._identity = seen
            reading.measures.append(Measure(name="gaia_postgres_timeline", value=float(seen.timeline)))
        text = await self._ask(depth.SEQUENCES, reading, "sequences")
        if text is not None:
            self._sequences(reading, msgspec.json.decode(text, type=Sequences), shown)
        if archiving:
            ready = await self._ask(depth.ARCHIVE_READY, reading, "archive_ready")
            if ready is not None:
                self._archive(reading, int(ready), shown)
        if self._options.statements:
            await self._read_statements(reading, shown)
        return reading

    def _sequences(self, reading: Reading, seen: Sequences, shown: str) -> None:
        if seen.hidden:
            words = f"{seen.hidden} sequences may not be read: GRANT SELECT ON ALL SEQUENCES"
            reading.evidence.append(Evidence(name="not_permitted", value=words))
        if seen.fullest is None:
            return
        fullest = seen.fullest
        reading.measures.append(Measure(name="gaia_postgres_sequence_used_ratio", value=fullest))
        reading.problems += over(
            chosen(self._limits.sequences),
            fullest,
            Reason.PG_SEQUENCE,
            lambda at: (
                f"sequence {seen.name} on {shown} is {fullest:.0%} used (limit {at:.0%}): "
                "inserts fail when it ends; make it and its column bigint"
            ),
        )

    def _archive(self, reading: Reading, ready: int, shown: str) -> None:
        reading.measures.append(Measure(name="gaia_postgres_archive_ready", value=float(ready)))
        if ready > _READY_LIMIT and chosen(self._limits.archiver_failing) is not None:
            words = (
                f"{ready} WAL files on {shown} wait to be archived (limit {_READY_LIMIT}): it falls behind"
            )
            reading.problems.append(
                Problem(state=State.DEGRADED, reason=Reason.PG_ARCHIVER, message=words, urgent=True)
            )

    async def _read_statements(self, reading: Reading, shown: str) -> None:
        text = await self._ask(statements.SQL, reading, "pg_stat_statements")
        if text is None:
            return
        rows = msgspec.json.decode(text, type=tuple[Statement, ...])
        costs = self._statements.take(rows)
        calls = sum(row.calls for row in rows)
        reading.measures.append(Measure(name="gaia_postgres_statement_calls_total", value=float(calls)))
        if not costs:
            return
        mean_s = sum(cost.total_ms for cost in costs) / sum(cost.calls for cost in costs) / 1000
        reading.measures.append(Measure(name="gaia_postgres_statement_mean_seconds", value=mean_s))
        reading.evidence.append(Evidence(name="heaviest_statements", value=statements.top(costs)))
        for cost in costs:
            reading.problems += over(
                chosen(self._limits.statement_slowdown),
                cost.slower_by(),
                Reason.PG_STATEMENT_DRIFT,
                lambda at, cost=cost: (  # type: ignore[misc]  # The default binds the loop's value.
                    f"a statement on {shown} takes {cost.mean_ms:.0f} ms instead of {cost.usual_ms:.0f} ms "
                    f"(limit {at:g} times): {cost.text}"
                ),
            )

    async def _ask(self, sql: str, reading: Reading, name: str) -> str | None:
        return await ask(self._session, sql, reading, name=name, within_s=self._within_s)


async def ask(session: Session, sql: str, reading: Reading, *, name: str, within_s: float) -> str | None:
    """None when the server refuses this one question: that signal is unknown, the others are not."""
    try:
        return await session.text(sql, within_s=within_s)
    except QueryRefusedError as refused:
        why = {
            "42501": "the role may not read it: see `gaia doctor postgres`",
            "42P01": "the extension is not in this database: CREATE EXTENSION pg_stat_statements",
            "55000": "add it to shared_preload_libraries and restart the server",
            "57014": "it took longer than its time limit",
        }.get(refused.error.sqlstate, f"SQLSTATE {refused.error.sqlstate}")
        reading.evidence.append(Evidence(name=f"unknown: {name}", value=why))
        return None
