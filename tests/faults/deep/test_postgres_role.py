"""The role that `gaia doctor postgres` prints: it lets the agent see everything and do nothing, 15 and 18."""

from __future__ import annotations

import asyncpg
import pytest

from agent.local.postgres import LocalPostgres
from checks.finding import State
from checks.postgres.options import PostgresOptions
from checks.postgres.role import role_sql
from checks.secret import Secret
from tests.faults.deep.looking import look_once

ROLE = "doctor_role"


@pytest.fixture
def url(pg: LocalPostgres) -> str:
    """The role made as printed, twice: a second run changes nothing."""
    major = int(pg.run_sql("SHOW server_version_num")) // 10000
    sql = role_sql(ROLE, major=major, password=False)
    for _ in range(2):
        pg.run_sql(sql)
    pg.run_sql(f"ALTER ROLE {ROLE} PASSWORD 'p'")
    return pg.url_of(user=ROLE, password="p", database="app")


async def test_it_sees_everything_that_is_asked(pg: LocalPostgres, url: str) -> None:
    pg.run_sql("SELECT pg_stat_statements_reset()")
    found = await look_once("postgres", PostgresOptions(url=Secret(url)))
    assert found.state is State.UP, found.message
    assert not [one for one in found.evidence if one.name == "not_permitted"]
    assert pg.run_sql(f"SELECT rolconnlimit FROM pg_roles WHERE rolname = '{ROLE}'") == "4"


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE public.mine (a int)",
        "SELECT rolpassword FROM pg_authid",
        "SELECT pg_read_file('postgresql.conf')",
        "ALTER SYSTEM SET work_mem = '1GB'",
        "CREATE ROLE other",
        "CREATE DATABASE other",
        "COPY (SELECT 1) TO PROGRAM 'true'",
    ],
)
async def test_it_may_not(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_it_never_takes_more_connections_than_its_limit(url: str) -> None:
    held = [await asyncpg.connect(url) for _ in range(4)]
    try:
        with pytest.raises(asyncpg.TooManyConnectionsError):
            await asyncpg.connect(url)
    finally:
        for connection in held:
            await connection.close()


def test_the_reserved_slots_are_granted_from_16_on() -> None:
    assert "pg_use_reserved_connections" in role_sql(major=16)
    assert "pg_use_reserved_connections" not in role_sql(major=15)


def test_no_password_is_ever_part_of_the_sql() -> None:
    assert "\\password gaia_monitor" in role_sql()
    assert "PASSWORD '" not in role_sql().upper()


@pytest.mark.parametrize(
    ("role", "major", "words"),
    [("x; DROP TABLE users", 18, "not a plain lower-case role name"), ("Gaia", 18, "not a plain"),
     ("gäia", 18, "not a plain"), ("gaia", 12, "PostgreSQL 12 is not supported: 13 is the oldest")],
)  # fmt: skip
def test_what_cannot_be_printed_is_refused_with_its_reason(role: str, major: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        role_sql(role, major=major)
