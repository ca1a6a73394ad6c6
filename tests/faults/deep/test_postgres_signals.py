"""What is said of a PostgreSQL that answers and is not well."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from agent.local.postgres import LocalPostgres
from checks.clock import SystemClock
from checks.finding import Finding, State
from checks.limits import counts, seconds, shares, sizes
from checks.postgres.options import PostgresOptions
from checks.postgres.thresholds import Thresholds
from checks.reason import Reason
from checks.secret import Secret
from checks.units import Duration
from tests.faults.deep.looking import Look, look_once
from tests.waiting import until

NOW = seconds(0.000001, None)


def options(server: LocalPostgres, *, database: str = "postgres", **limits: object) -> PostgresOptions:
    off = dict.fromkeys(Thresholds.__struct_fields__)
    thresholds = Thresholds(**{**off, **limits})  # type: ignore[arg-type]
    return PostgresOptions(url=Secret(server.url_of(database=database)), thresholds=thresholds)


@asynccontextmanager
async def session(server: LocalPostgres, database: str = "postgres") -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(server.url_of(database=database))
    try:
        yield connection
    finally:
        connection.terminate()


def told(found: Finding) -> tuple[State, Reason]:
    return found.state, found.reason


async def test_a_session_idle_in_a_transaction_is_told(pg: LocalPostgres) -> None:
    async with session(pg) as idle:
        await idle.execute("BEGIN; SELECT 1")
        found = await look_once("postgres", options(pg, idle_in_transaction=NOW))
    assert told(found) == (State.DEGRADED, Reason.PG_IDLE_IN_TRANSACTION)
    assert "idle_in_transaction_session_timeout" in found.message


async def test_a_long_transaction_is_told(pg: LocalPostgres) -> None:
    async with session(pg) as busy:
        await busy.execute("BEGIN; SELECT pg_current_xact_id()")
        found = await look_once("postgres", options(pg, longest_transaction=NOW))
    assert told(found) == (State.DEGRADED, Reason.PG_LONG_TRANSACTION)


async def test_an_old_snapshot_is_told(pg: LocalPostgres) -> None:
    async with session(pg) as old:
        await old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class")
        found = await look_once("postgres", options(pg, oldest_snapshot=NOW))
    assert told(found) == (State.DEGRADED, Reason.PG_XMIN_HORIZON)
    assert "vacuum" in found.message


async def test_a_prepared_transaction_left_behind_is_told(pg: LocalPostgres) -> None:
    async with session(pg) as one:
        await one.execute("BEGIN")
        await one.execute("SELECT pg_current_xact_id()")
        await one.execute("PREPARE TRANSACTION 'left'")
        found = await look_once("postgres", options(pg, oldest_snapshot=NOW))
        await one.execute("ROLLBACK PREPARED 'left'")
    assert told(found) == (State.DEGRADED, Reason.PG_XMIN_HORIZON)
    assert "pg_prepared_xacts" in found.message


async def test_waiting_for_a_lock_is_told(pg: LocalPostgres) -> None:
    pg.run_sql("CREATE TABLE IF NOT EXISTS locked (a int)")
    async with (
        session(pg) as holder,
        session(pg) as waiter,
        Look("postgres", options(pg, lock_wait=NOW)) as one,
    ):
        await holder.execute("BEGIN; LOCK TABLE locked")
        waiting = asyncio.ensure_future(waiter.execute("SELECT * FROM locked"))
        while told(found := await one.look()) != (State.DEGRADED, Reason.PG_LOCK_WAIT):
            assert not waiting.done()
        holder.terminate()
        with contextlib.suppress(Exception):
            await waiting
    assert "pg_blocking_pids" in found.message


async def test_deadlocks_are_told(pg: LocalPostgres) -> None:
    pg.run_sql("CREATE TABLE IF NOT EXISTS dead (a int PRIMARY KEY); INSERT INTO dead VALUES (1), (2)"
               " ON CONFLICT DO NOTHING")  # fmt: skip
    async with Look("postgres", options(pg, deadlocks_per_minute=counts(0.1, None))) as one:
        await one.look()
        async with session(pg) as left, session(pg) as right:
            await left.execute("BEGIN; UPDATE dead SET a = a WHERE a = 1")
            await right.execute("BEGIN; UPDATE dead SET a = a WHERE a = 2")
            crossing = asyncio.ensure_future(left.execute("UPDATE dead SET a = a WHERE a = 2"))
            with contextlib.suppress(asyncpg.DeadlockDetectedError):
                await right.execute("UPDATE dead SET a = a WHERE a = 1")
            with contextlib.suppress(asyncpg.DeadlockDetectedError):
                await crossing
        await asyncio.gather(left.close(timeout=1), right.close(timeout=1), return_exceptions=True)
        async with asyncio.timeout(20):
            while told(found := await one.look()) != (State.DEGRADED, Reason.PG_DEADLOCKS):
                pass
    assert "1 deadlocks" in found.message


async def test_many_rollbacks_are_told(pg: LocalPostgres) -> None:
    async with Look("postgres", options(pg, rollbacks=shares(0.3, None))) as one:
        await one.look()
        pg.run_sql("\n".join("BEGIN; SELECT 1; ROLLBACK;" for _ in range(300)))
        async with asyncio.timeout(20):
            while told(found := await one.look()) != (State.DEGRADED, Reason.PG_ROLLBACKS):
                pg.run_sql("\n".join("BEGIN; SELECT 1; ROLLBACK;" for _ in range(300)))
    assert "rolled back" in found.message


async def test_an_unused_slot_that_keeps_wal_is_told_by_name(pg: LocalPostgres) -> None:
    pg.run_sql("SELECT pg_create_physical_replication_slot('forgotten', true)")
    pg.run_sql("CREATE TABLE IF NOT EXISTS fill (a text); INSERT INTO fill SELECT repeat('x', 900)"
               " FROM generate_series(1, 500)")  # fmt: skip
    found = await look_once("postgres", options(pg, slot_retained=sizes(1, None)))
    pg.run_sql("SELECT pg_drop_replication_slot('forgotten')")
    assert told(found) == (State.DEGRADED, Reason.PG_SLOT)
    assert "slot forgotten" in found.message


async def test_a_nearly_used_sequence_is_told_by_name(pg: LocalPostgres) -> None:
    pg.run_sql("DROP SEQUENCE IF EXISTS tickets; CREATE SEQUENCE tickets MAXVALUE 100;"
               "SELECT setval('tickets', 95)")  # fmt: skip
    found = await look_once("postgres", options(pg, sequences=shares(0.75, 0.9)))
    pg.run_sql("DROP SEQUENCE tickets")
    assert told(found) == (State.DEGRADED, Reason.PG_SEQUENCE)
    assert "public.tickets" in found.message
    assert "95%" in found.message


async def test_transaction_ids_running_out_are_told(pg: LocalPostgres) -> None:
    found = await look_once("postgres", options(pg, wraparound=shares(1e-9, None)))
    assert told(found) == (State.DEGRADED, Reason.PG_WRAPAROUND)
    assert "VACUUM" in found.message


async def test_many_connections_are_told_with_their_holders(pg: LocalPostgres) -> None:
    async with session(pg), session(pg):
        found = await look_once("postgres", options(pg, connections=shares(0.01, None)))
    assert told(found) == (State.DEGRADED, Reason.PG_CONNECTIONS_HIGH)
    assert "postgres" in found.message.rpartition(":")[2]


async def test_a_statement_that_became_slow_is_told(pg: LocalPostgres) -> None:
    pg.run_sql("SELECT pg_stat_statements_reset()")
    slow = options(pg, statement_slowdown=counts(5, None))
    async with Look("postgres", slow) as one, session(pg) as client:
        signals = one.check._signals  # type: ignore[attr-defined]
        for pause_s in (0.001, 0.001, 0.12):
            for _ in range(6):
                await client.execute(f"SELECT pg_sleep({pause_s})")
            signals._due_s.clear()
            found = await one.look()
    assert told(found) == (State.DEGRADED, Reason.PG_STATEMENT_DRIFT)
    assert "pg_sleep" in found.message


async def test_read_only_is_seen_by_a_held_session_and_its_end_too(pg: LocalPostgres) -> None:
    async with Look("postgres", options(pg, database="app")) as one:
        assert (await one.look()).state is State.UP
        pg.run_sql("ALTER DATABASE app SET default_transaction_read_only = on")
        found = await one.look()
        pg.run_sql("ALTER DATABASE app RESET default_transaction_read_only")
        after = await one.look()
    assert told(found) == (State.DOWN, Reason.PG_READ_ONLY)
    assert "app" in found.message
    assert after.state is State.UP


async def test_a_session_opened_while_read_only_notices_the_end(pg: LocalPostgres) -> None:
    pg.run_sql("ALTER DATABASE app SET default_transaction_read_only = on")
    async with Look("postgres", options(pg, database="app")) as one:
        found = await one.look()
        pg.run_sql("ALTER DATABASE app RESET default_transaction_read_only")
        after = await one.look()
    assert told(found) == (State.DOWN, Reason.PG_READ_ONLY)
    assert after.state is State.UP


async def test_an_agent_logged_into_postgres_sees_the_app_databases_go_read_only(pg: LocalPostgres) -> None:
    pg.run_sql("ALTER DATABASE app SET default_transaction_read_only = on")
    others = pg.run_sql("SELECT datname FROM pg_database WHERE NOT datistemplate AND datallowconn"
                        " AND datname NOT IN ('app', 'postgres')").split()  # fmt: skip
    for name in others:
        pg.run_sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    found = await look_once("postgres", options(pg))
    for name in ("app", *others):
        pg.run_sql(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    assert told(found) == (State.DOWN, Reason.PG_READ_ONLY)


async def test_forced_checkpoints_are_worth_a_word_and_no_alarm(pg: LocalPostgres) -> None:
    async with Look("postgres", options(pg, requested_checkpoints=shares(0.5, None))) as one:
        await one.look()
        pg.run_sql("\n".join("CHECKPOINT;" for _ in range(12)))
        found = await one.look()
    assert told(found) == (State.UP, Reason.PG_CHECKPOINTS)


async def test_a_terminated_session_is_a_suspicion_that_the_look_clears(pg: LocalPostgres) -> None:
    async with Look("postgres", options(pg)) as one:
        await one.look()
        async with one.watched() as suspicions:
            await asyncio.sleep(0)
            pg.run_sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                       " WHERE application_name = 'gaia-agent'")  # fmt: skip
            assert "ended" in await suspicions.first()
            found = await one.look()
    assert told(found) == (State.UP, Reason.OK)


async def test_the_sentinel_opens_no_connection_of_its_own(pg: LocalPostgres) -> None:
    async with Look("postgres", options(pg)) as one, one.watched():
        await one.look(3)
        held = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'gaia-agent'"
        assert pg.run_sql(held) == "1"


async def test_a_healthy_held_session_raises_no_suspicion(pg: LocalPostgres) -> None:
    beats = PostgresOptions(url=Secret(pg.url), heartbeat=Duration(0.02))
    async with Look("postgres", beats) as one, one.watched() as suspicions:
        await one.look()
        calls = "SELECT sum(calls) FROM pg_stat_statements WHERE query = 'SELECT $1'"
        before = int(pg.run_sql(calls) or 0)
        await until(lambda: int(pg.run_sql(calls) or 0) > before + 5)
        assert suspicions.words == []


async def test_nothing_is_held_where_the_server_may_sleep(pg: LocalPostgres) -> None:
    url = Secret(pg.url)
    async with Look("postgres", PostgresOptions(url=url, hold=False)) as one, one.watched():
        assert (await one.look()).state is State.UP
        held = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'gaia-agent'"
        await until(lambda: pg.run_sql(held) == "0")


@pytest.mark.parametrize("sql", ["CREATE TABLE intruder (a int)", "SELECT pg_read_file('PG_VERSION')"])
async def test_the_recommended_role_may_not_do_harm(pg: LocalPostgres, sql: str) -> None:
    connection = await asyncpg.connect(pg.url_of(user="monitor", password="monitor"))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(sql)
    await connection.close()


async def test_a_slot_unused_for_long_is_told_by_any_server(
    pg: LocalPostgres,
) -> None:
    pg.run_sql("SELECT pg_create_physical_replication_slot('idle', true)")
    try:
        async with Look("postgres", options(pg, slot_inactive=seconds(0.1, None))) as one:
            found = await one.until(Reason.PG_SLOT)
    finally:
        pg.run_sql("SELECT pg_drop_replication_slot('idle')")
    assert found.state is State.DEGRADED
    assert "replication slot idle of" in found.message
    assert "is unused for" in found.message


@pytest.mark.parametrize(("off_s", "words"), [(5.0, "behind the agent's"), (-5.0, "ahead of the agent's")])
async def test_a_clock_that_differs_from_the_servers_is_told(
    pg: LocalPostgres, off_s: float, words: str
) -> None:
    class Off(SystemClock):
        def wall_s(self) -> float:
            return super().wall_s() + off_s

    async with Look("postgres", options(pg, clock_skew=seconds(0.5, 2)), clock=Off()) as one:
        found = await one.look()
    async with Look("postgres", options(pg, clock_skew=seconds(0.5, 2))) as one:
        well = await one.look()
    assert told(found) == (State.DEGRADED, Reason.HOST_CLOCK)
    assert words in found.message
    assert f"the clock of 127.0.0.1:{pg.port}/postgres is 5.0 s" in found.message or "4.9 s" in found.message
    assert well.state is State.UP
