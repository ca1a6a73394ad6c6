"""A database that may sleep: asked only while an app needs it, and left alone when nobody uses it."""

from __future__ import annotations

import asyncpg

from agent.local.postgres import LocalPostgres
from checks.finding import State
from checks.machines.api import Machine
from checks.postgres.options import PostgresOptions
from checks.reason import Reason
from checks.secret import Secret
from checks.units import Duration
from tests.faults.deep.conftest import Private
from tests.faults.deep.fly import APP, RUNNING, Fly, exited, machine, platform
from tests.faults.deep.looking import Look

SLEEPING = machine("a1", "stopped", exited(0))


def options(server: LocalPostgres, fly: Fly) -> PostgresOptions:
    return PostgresOptions(
        url=Secret(server.url_of(user="monitor", password="monitor", database="app")),
        hold=False,
        only_while_started=(APP,),
        nameserver="127.0.0.1",
        nameserver_port=fly.dns_port,
        answer_within=Duration(2),
    )


def sessions(server: LocalPostgres) -> int:
    return int(server.run_sql("SELECT sum(sessions) FROM pg_stat_database WHERE datname = 'app'") or 0)


async def test_while_no_app_runs_it_is_asleep_and_never_asked(pg: LocalPostgres) -> None:
    async with platform(SLEEPING) as fly, Look("postgres", options(pg, fly), env="development") as one:
        before = sessions(pg)
        found = await one.look(100)
    assert (found.state, found.reason) == (State.ASLEEP, Reason.ASLEEP)
    assert f"no machine of {APP} is started" in found.message
    assert sessions(pg) == before


async def test_it_is_asked_as_soon_as_an_app_starts_and_no_longer_than_it_runs(pg: LocalPostgres) -> None:
    async with platform(SLEEPING) as fly, Look("postgres", options(pg, fly), env="development") as one:
        asleep = await one.look()
        fly.machines[0] = RUNNING
        awake = await one.look()
        fly.machines[0] = SLEEPING
        again = await one.look()
    assert [found.state for found in (asleep, awake, again)] == [State.ASLEEP, State.UP, State.ASLEEP]
    assert pg.run_sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'monitor'") == "0"


async def test_when_nobody_says_what_runs_it_is_unknown_and_not_asked(pg: LocalPostgres) -> None:
    async with platform(RUNNING) as fly, Look("postgres", options(pg, fly), env="development") as one:
        fly.dns_away = True
        found = await one.look()
    assert (found.state, found.reason) == (State.UNKNOWN, Reason.FLY_CONTROL_PLANE)
    assert f"nobody says whether a machine of {APP} is started" in found.message


async def test_what_the_machines_check_beside_it_knows_is_enough(pg: LocalPostgres) -> None:
    async with platform(RUNNING) as fly, Look("postgres", options(pg, fly), env="development") as one:
        one.kit.apps.saw(APP, (Machine(id="a1", state="started"),), at_s=one.kit.clock.monotonic_s())
        fly.dns_away = True
        found = await one.look()
    assert found.state is State.UP


async def test_after_three_looks_without_a_client_it_is_left_alone_until_an_app_starts(
    private: Private,
) -> None:
    server = private.server()
    server.run_sql("CREATE ROLE monitor LOGIN PASSWORD 'monitor'; CREATE DATABASE app")
    async with platform(RUNNING) as fly, Look("postgres", options(server, fly), env="development") as one:
        states = [(await one.look()).state for _ in range(6)]
        found = await one.look()
        fly.machines.append(machine("a2", "started"))
        woken = await one.look()
    assert states == [State.UP] * 3 + [State.ASLEEP] * 3
    assert "had no client but the agent, 3 times in a row" in found.message
    assert woken.state is State.UP


async def test_a_database_in_use_is_looked_at_each_time(private: Private) -> None:
    server = private.server()
    server.run_sql("CREATE ROLE monitor LOGIN PASSWORD 'monitor'; CREATE DATABASE app")
    async with platform(RUNNING) as fly, Look("postgres", options(server, fly), env="development") as one:
        client = await asyncpg.connect(server.url_of(database="app"))
        states = {(await one.look()).state for _ in range(6)}
        await client.close()
    assert states == {State.UP}
