"""Who wakes sleeping machines, how long they take then, and when they are left alone."""

from __future__ import annotations

import asyncio

import pytest

from checks.apps import Ask, Asker
from checks.finding import Finding, State
from checks.reason import Reason
from checks.units import Duration
from tests.faults.deep.fly import APP, RUNNING, Machine, ago, machine, platform
from tests.faults.deep.looking import misbehaving


def started(seconds: float, *, source: str = "proxy") -> Machine:
    return {"type": "start", "timestamp": ago(seconds), "source": source}


def measured(found: Finding, name: str, **labels: str) -> float | None:
    for one in found.measures:
        if one.name == name and labels.items() <= dict(one.labels).items():
            return one.value
    return None


NAME = ("development", "machines")


async def test_a_probe_of_our_own_that_woke_the_app_is_an_alarm() -> None:
    async with platform(machine("a1", "started", started(1))) as fly, fly.look() as one:
        now_s = one.kit.clock.wall_s()
        one.kit.apps.asked(NAME, Ask(at_s=now_s - 2, by=Asker.AGENT, what="auth"))
        found = await one.look()
        fly.machines[0] = machine("a1", "suspended", started(1))
        asleep = await one.look()
    assert (found.state, found.reason) == (State.DEGRADED, Reason.FLY_WOKEN_BY_AGENT)
    assert "the agent itself woke gaia-auth-dev: machine a1" in found.message
    assert measured(found, "gaia_machine_wakes_last_day", by="agent") == 1
    assert asleep.state is State.ASLEEP
    assert any("the agent itself woke" in one.value for one in asleep.evidence)


async def test_an_app_that_health_checks_keep_awake_is_told_with_whose() -> None:
    wakes = [started(60.0 * number) for number in range(30)]
    async with platform(machine("a1", "started", *wakes)) as fly, fly.look() as one:
        now_s = one.kit.clock.wall_s()
        for number in range(30):
            ask = Ask(at_s=now_s - 60.0 * number - 1, by=Asker.HEALTH, what="gateway")
            one.kit.apps.asked(NAME, ask)
        found = await one.look()
    assert (found.state, found.reason) == (State.UP, Reason.FLY_WOKEN)
    assert (
        "woken 30 times in the last day, 30 of them within 2 s of a look at gateway's health" in found.message
    )
    assert measured(found, "gaia_machine_wakes_last_day", by="health") == 30


async def test_a_woken_machine_that_does_not_answer_yet_is_starting_and_then_measured() -> None:
    answering = False

    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        if answering:
            writer.write(b"HTTP/1.0 200 OK\r\n\r\n")
            await writer.drain()

    async with platform(machine("a1", "started", started(3))) as fly, misbehaving(slowly) as port:
        names = f"a1.vm.{APP}.internal"
        async with fly.look(port=port) as one:
            one.names._known[names] = "127.0.0.1"
            cold = await one.look()
            answering = True
            warm = await one.look()
        answering = False
        async with fly.look(port=port, start_within=Duration(2)) as other:
            other.names._known[names] = "127.0.0.1"
            late = await other.look()
    assert (cold.state, cold.reason) == (State.STARTING, Reason.STARTING)
    assert "machine a1 was started 3 s ago" in cold.message
    assert warm.state is State.UP
    assert measured(warm, "gaia_machine_cold_start_seconds_count") == 1
    assert 3 <= (measured(warm, "gaia_machine_cold_start_seconds_sum") or 0) < 60
    assert (late.state, late.reason) == (State.DEGRADED, Reason.FLY_CHECKS)


@pytest.mark.parametrize(
    ("minimum", "known", "asked"), [(0, True, 4), (0, False, 8), (1, True, 8)],
    ids=["may sleep", "its use is not known", "must run"],
)  # fmt: skip
async def test_an_app_without_users_is_left_alone_after_three_looks(
    minimum: int, asked: int, *, known: bool
) -> None:
    asks = 0

    async def counts(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asks
        asks += 1
        await reader.read(1)
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n")
        await writer.drain()

    async with (
        platform(RUNNING) as fly,
        misbehaving(counts) as port,
        fly.look(port=port, minimum=minimum) as one,
    ):
        one.names._known[f"a1.vm.{APP}.internal"] = "127.0.0.1"
        if known:
            one.kit.apps.used(NAME).count("s", "1", 5, at_s=one.kit.clock.wall_s() - 60, born_s=None)
        found = await one.look(8)
        left_alone = asks
        if known:
            one.kit.apps.used(NAME).count("s", "1", 6, at_s=one.kit.clock.wall_s() + 1, born_s=None)
        await one.look()
    assert found.state is State.UP
    assert (left_alone, asks) == (asked, asked + 1)
