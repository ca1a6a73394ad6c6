"""What is said when the agent is not let in, or asks for the wrong thing."""

from __future__ import annotations

import pytest

from agent.local.postgres import LocalPostgres
from checks.finding import State
from checks.postgres.options import PostgresOptions
from checks.reason import Reason
from checks.secret import Secret
from tests.faults.deep.looking import Look, look_once


def options(url: str, **more: object) -> PostgresOptions:
    return PostgresOptions(url=Secret(url), **more)  # type: ignore[arg-type]


async def test_a_healthy_primary_is_up_with_its_numbers(pg: LocalPostgres) -> None:
    found = await look_once("postgres", options(pg.url_of(user="monitor", password="monitor")))
    assert (found.state, found.reason) == (State.UP, Reason.OK)
    assert "answers as primary" in found.message
    assert {measure.name for measure in found.measures} >= {
        "gaia_postgres_connections",
        "gaia_postgres_connections_limit",
        "gaia_postgres_in_recovery",
        "gaia_postgres_commits_total",
        "gaia_postgres_xid_used_ratio",
        "gaia_postgres_canary_seconds",
        "gaia_postgres_timeline",
    }


async def test_a_wrong_password_is_unknown_and_names_the_role_and_no_password(pg: LocalPostgres) -> None:
    found = await look_once("postgres", options(pg.url_of(user="monitor", password="s3cret-wrong")))
    assert (found.state, found.reason) == (State.UNKNOWN, Reason.PG_AUTH_FAILED)
    assert "role monitor" in found.message
    assert "s3cret-wrong" not in repr(found)


async def test_an_unknown_role_cannot_be_told_from_a_wrong_password(pg: LocalPostgres) -> None:
    found = await look_once("postgres", options(pg.url_of(user="nobody_knows", password="x")))
    assert (found.state, found.reason) == (State.UNKNOWN, Reason.PG_AUTH_FAILED)


async def test_an_expired_password_is_unknown(pg: LocalPostgres) -> None:
    pg.run_sql("DROP ROLE IF EXISTS expired; CREATE ROLE expired LOGIN PASSWORD 'x' VALID UNTIL '2001-01-01'")
    found = await look_once("postgres", options(pg.url_of(user="expired", password="x")))
    assert (found.state, found.reason) == (State.UNKNOWN, Reason.PG_AUTH_FAILED)


async def test_a_role_that_may_not_log_in_is_not_permitted(pg: LocalPostgres) -> None:
    pg.run_sql("DROP ROLE IF EXISTS nologin; CREATE ROLE nologin PASSWORD 'x'")
    found = await look_once("postgres", options(pg.url_of(user="nologin", password="x")))
    assert (found.state, found.reason) == (State.UNKNOWN, Reason.PG_NOT_PERMITTED)
    assert "pg_hba.conf" in found.message


async def test_a_missing_database_is_down_and_named(pg: LocalPostgres) -> None:
    found = await look_once("postgres", options(pg.url_of(database="not_there")))
    assert (found.state, found.reason, found.hard) == (State.DOWN, Reason.PG_DATABASE_MISSING, True)
    assert "no database not_there" in found.message


async def test_a_closed_database_is_down_and_named(pg: LocalPostgres) -> None:
    pg.run_sql("DROP DATABASE IF EXISTS closed")
    pg.run_sql("CREATE DATABASE closed")
    pg.run_sql("ALTER DATABASE closed ALLOW_CONNECTIONS false")
    found = await look_once("postgres", options(pg.url_of(database="closed")))
    assert (found.state, found.reason) == (State.DOWN, Reason.PG_DATABASE_CLOSED)
    assert "ALLOW_CONNECTIONS" in found.message


async def test_the_agents_own_connection_limit_is_unknown_not_down(pg: LocalPostgres) -> None:
    pg.run_sql("DROP ROLE IF EXISTS one; CREATE ROLE one LOGIN PASSWORD 'x' CONNECTION LIMIT 1")
    url = pg.url_of(user="one", password="x")
    async with Look("postgres", options(url)) as first:
        assert (await first.look()).state is State.UP
        found = await look_once("postgres", options(url))
    assert (found.state, found.reason) == (State.UNKNOWN, Reason.PG_MONITOR_LIMIT)
    assert "role one" in found.message


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_tls_that_the_server_lacks_is_unknown_and_sends_no_password(
    pg: LocalPostgres, mode: str
) -> None:
    found = await look_once("postgres", options(pg.url, tls=mode))
    assert (found.state, found.reason) == (State.UNKNOWN, Reason.PG_TLS_UNAVAILABLE)
    assert f"sslmode={mode}" in found.message


async def test_a_unix_socket_without_a_password_is_enough(pg: LocalPostgres) -> None:
    if pg.socket_dir is None:
        pytest.skip("the folder's path is too long for a Unix socket")
    url = f"postgresql://plain@/app?host={pg.socket_dir}&port={pg.port}"
    found = await look_once("postgres", options(url))
    assert (found.state, found.reason) == (State.UP, Reason.OK)
    assert f".s.PGSQL.{pg.port}/app" in found.message


async def test_a_percent_encoded_socket_directory_is_understood(pg: LocalPostgres) -> None:
    if pg.socket_dir is None:
        pytest.skip("the folder's path is too long for a Unix socket")
    encoded = str(pg.socket_dir).replace("/", "%2F")
    found = await look_once("postgres", options(f"postgresql://plain@{encoded}:{pg.port}/app"))
    assert found.state is State.UP


async def test_the_writers_url_on_a_primary_that_should_be_a_standby_is_the_wrong_role(
    pg: LocalPostgres,
) -> None:
    found = await look_once("postgres", options(pg.url, expected_role="standby"))
    assert (found.state, found.reason) == (State.DOWN, Reason.PG_WRONG_ROLE)
    assert "is a primary and should be the standby" in found.message


async def test_without_pg_monitor_what_is_masked_is_said_and_left_out(pg: LocalPostgres) -> None:
    async with Look("postgres", options(pg.url)) as other:
        await other.look()
        found = await look_once("postgres", options(pg.url_of(user="plain", password="plain")))
    assert found.state is State.UP
    assert "gaia_postgres_longest_transaction_seconds" not in {one.name for one in found.measures}
    assert any("GRANT pg_monitor" in one.value for one in found.evidence)


async def test_an_extension_that_is_missing_is_no_fault(pg: LocalPostgres) -> None:
    found = await look_once("postgres", options(pg.url_of(database="app")))
    assert found.state is State.UP
    assert any(one.name == "unknown: pg_stat_statements" for one in found.evidence)


async def test_a_slow_answer_is_degraded_with_the_time_and_the_limit(pg: LocalPostgres) -> None:
    from checks.units import Duration

    found = await look_once("postgres", options(pg.url, slower_than=Duration(0.0001)))
    assert (found.state, found.reason) == (State.DEGRADED, Reason.PG_SLOW)
    assert "limit 0.1ms" in found.message
