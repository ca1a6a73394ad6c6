"""What is said of a primary and its streaming standby, from both sides."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from agent.local.postgres import LocalPostgres
from checks.finding import State
from checks.limits import seconds, sizes
from checks.postgres.options import PostgresOptions
from checks.postgres.thresholds import Thresholds
from checks.reason import Reason
from checks.secret import Secret
from tests.faults.deep.conftest import Private
from tests.faults.deep.looking import Look, look_once

OFF = dict.fromkeys(Thresholds.__struct_fields__)


def options(
    server: LocalPostgres, *, role: str = "any", standbys: int | None = None, **limits: object
) -> PostgresOptions:
    return PostgresOptions(
        url=Secret(server.url),
        expected_role=role,  # type: ignore[arg-type]
        standbys=standbys,
        thresholds=Thresholds(**{**OFF, **limits}),  # type: ignore[arg-type]
    )


def pair(private: Private) -> tuple[LocalPostgres, LocalPostgres]:
    """A primary and its streaming standby."""
    primary = private.server("primary", wal_level="replica", wal_receiver_status_interval="1s")
    folder = private.folder / "standby"
    command: list[str | Path] = [
        private.binaries / "pg_basebackup", "-D", folder, "-R", "-X", "stream", "-c", "fast",
        "-d", primary.url + "?application_name=standby",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, cwd=private.folder)
    standby = private.server("standby", hot_standby="on", wal_receiver_status_interval="1s")
    return primary, standby


async def until_streaming(one: Look) -> None:
    async with asyncio.timeout(20):
        while "gaia_postgres_standby_reply_age_seconds" not in {m.name for m in (await one.look()).measures}:
            pass


async def test_a_streaming_pair_is_up_on_both_sides_and_not_behind(private: Private) -> None:
    primary, standby = pair(private)
    patience, gone = seconds(5, 30), seconds(None, 0.1)
    async with Look(
        "postgres", options(primary, role="primary", standbys=1, replay_age=patience, receiver_gone=gone)
    ) as one:
        upstream = await one.until(Reason.OK)
    downstream = await look_once(
        "postgres", options(standby, role="standby", replay_age=patience, receiver_gone=gone)
    )
    assert (upstream.state, downstream.state) == (State.UP, State.UP)
    numbers = {one.name: one.value for one in downstream.measures}
    # The primary is idle: its last commit is old, and the standby is not behind for that.
    assert numbers["gaia_postgres_replication_lag_seconds"] == 0
    assert numbers["gaia_postgres_wal_receivers"] == 1


async def test_the_writers_url_on_a_standby_is_the_wrong_role(private: Private) -> None:
    _, standby = pair(private)
    found = await look_once("postgres", options(standby, role="primary"))
    assert (found.state, found.reason) == (State.DOWN, Reason.PG_WRONG_ROLE)


async def test_a_missing_standby_is_told_with_the_count(private: Private) -> None:
    primary, standby = pair(private)
    async with Look("postgres", options(primary, standbys=1, replay_age=seconds(5, 30))) as one:
        await one.until(Reason.OK)
        standby.kill()
        found = await one.until(Reason.PG_REPLICA_MISSING)
    assert found.state is State.DEGRADED
    assert "0 of 1 standbys" in found.message


async def test_a_standby_that_was_seen_is_missed_without_being_configured(private: Private) -> None:
    primary, standby = pair(private)
    async with Look("postgres", options(primary, replay_age=seconds(5, 30))) as one:
        await until_streaming(one)
        standby.kill()
        found = await one.until(Reason.PG_REPLICA_MISSING)
    assert found.state is State.DEGRADED


async def test_a_frozen_standby_is_seen_although_its_state_reads_streaming(private: Private) -> None:
    primary, standby = pair(private)
    async with Look("postgres", options(primary, replay_age=seconds(1.5, None))) as one:
        await until_streaming(one)
        standby.freeze()
        primary.run_sql("CREATE TABLE news (a int); INSERT INTO news VALUES (1)")
        found = await one.until(Reason.PG_REPLICATION_LAG)
        standby.thaw()
    assert "it may be frozen although its state reads streaming" in found.message


async def test_paused_replay_is_told_and_its_backlog_too(private: Private) -> None:
    primary, standby = pair(private)
    standby.run_sql("SELECT pg_wal_replay_pause()")
    primary.run_sql("CREATE TABLE news AS SELECT repeat('x', 900) FROM generate_series(1, 2000)")
    async with Look("postgres", options(standby, replay_bytes=sizes(1000, None))) as one:
        found = await one.until(Reason.PG_REPLICATION_LAG)
    upstream = options(primary, replay_bytes=sizes(1000, None))
    async with Look("postgres", upstream) as one:
        behind = await one.until(Reason.PG_REPLICATION_LAG)
    assert "pg_wal_replay_resume" in found.message
    assert "MB behind" in behind.message


async def test_a_standby_cut_off_from_its_primary_is_down_after_its_grace(private: Private) -> None:
    primary, standby = pair(private)
    async with Look("postgres", options(standby, receiver_gone=seconds(None, 0.2))) as one:
        await one.until(Reason.OK)
        primary.kill()
        found = await one.until(Reason.PG_REPLICA_DISCONNECTED)
    assert found.state is State.DOWN
    assert "what it answers is old" in found.message
    assert "gaia_postgres_replication_lag_seconds" not in {one.name for one in found.measures}


async def test_a_promoted_standby_is_an_event_and_then_a_primary(private: Private) -> None:
    primary, standby = pair(private)
    async with Look("postgres", options(standby)) as one:
        await one.look()
        primary.kill()
        standby.run_sql("SELECT pg_promote()")
        found = await one.until(Reason.PG_FAILOVER)
        after = await one.look()
    assert found.state is State.UP
    assert "promoted" in found.message
    assert after.reason is Reason.OK


async def test_a_standby_is_found_by_its_primary_and_looked_at_on_its_own(private: Private) -> None:
    primary, standby = pair(private)
    wanted = PostgresOptions(url=Secret(primary.url), replica_port=standby.port)
    up = ("gaia_postgres_replica_up", (("replica", f"127.0.0.1:{standby.port}/postgres"),))
    async with Look("postgres", wanted) as one, asyncio.timeout(30):
        await until_streaming(one)
        numbers: dict[object, float] = {}
        while up not in numbers:
            one.check._signals._due_s.clear()  # type: ignore[attr-defined]
            numbers = {(item.name, item.labels): item.value for item in (await one.look()).measures}
    assert numbers[up] == 1


async def test_a_second_primary_is_told(private: Private) -> None:
    primary, standby = pair(private)
    other = private.server("other")
    wanted = PostgresOptions(url=Secret(primary.url), replica_port=other.port)
    async with Look("postgres", wanted) as one:
        await until_streaming(one)
        one.check._signals._due_s.clear()  # type: ignore[attr-defined]
        found = await one.until(Reason.PG_FAILOVER, within_s=40)
    assert standby.pid
    assert "two primaries" in found.message
