"""Machines that run, sleep, crash or are deployed, by a stub API, a stub name server, a counting proxy."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from checks.finding import State
from checks.reason import Reason
from checks.units import Size
from tests.faults.deep.fly import APP, RUNNING, Machine, ago, exited, machine, platform
from tests.faults.deep.looking import misbehaving

CASES = {
    "running": ([RUNNING], 0, State.UP, Reason.OK, "1 of 1 machines started"),
    "no machine": ([], 0, State.DOWN, Reason.FLY_NO_MACHINES, "no machine at all"),
    "stopped on request": (
        [machine("a1", "stopped", exited(requested_stop=True))],
        0,
        State.ASLEEP,
        Reason.ASLEEP,
        "stopped on purpose",
    ),
    "stopped with code 0": ([machine("a1", "stopped", exited(0))], 0, State.ASLEEP, Reason.ASLEEP, "sleeps"),
    "suspended": ([machine("a1", "suspended")], 0, State.ASLEEP, Reason.ASLEEP, "suspended on purpose"),
    "crashed": (
        [machine("a1", "stopped", exited(137))],
        0,
        State.DOWN,
        Reason.FLY_CRASHED,
        "a1 of gaia-auth-dev exited with code 137",
    ),
    "out of memory": (
        [machine("a1", "stopped", exited(137, oom_killed=True))],
        0,
        State.DOWN,
        Reason.FLY_OOM,
        "killed for memory",
    ),
    "crash loop": (
        [machine("a1", "stopped", exited(1), exited(1, seconds=60), exited(1, seconds=120))],
        0,
        State.DOWN,
        Reason.FLY_CRASH_LOOP,
        "ended 3 times in 10 min",
    ),
    "older exit event": (
        [
            machine(
                "a1",
                "stopped",
                {
                    "type": "exit",
                    "timestamp": 1,
                    "request": {"MonitorEvent": {"exit_event": {"exit_code": 2}}},
                },
            )
        ],
        0,
        State.DOWN,
        Reason.FLY_CRASHED,
        "code 2",
    ),
    "stopped, nobody knows why": (
        [machine("a1", "stopped")],
        0,
        State.UNKNOWN,
        Reason.FLY_STOPPED_REASON_UNKNOWN,
        "not recorded",
    ),
    "asleep below the minimum": (
        [machine("a1", "stopped", exited(0))],
        1,
        State.DOWN,
        Reason.FLY_BELOW_MINIMUM,
        "0 started machines of at least 1",
    ),
    "one of two": (
        [RUNNING, machine("a2", "stopped", exited(0))],
        2,
        State.DEGRADED,
        Reason.FLY_BELOW_MINIMUM,
        "1 started machines of at least 2",
    ),
    "one of two crashed": (
        [RUNNING, machine("a2", "stopped", exited(3))],
        2,
        State.DEGRADED,
        Reason.FLY_CRASHED,
        "a2 of gaia-auth-dev exited with code 3",
    ),
    "starting": ([machine("a1", "starting", age_s=3)], 1, State.STARTING, Reason.STARTING, "a1 is starting"),
    "stuck starting": (
        [machine("a1", "starting", age_s=400)],
        0,
        State.DOWN,
        Reason.FLY_STUCK,
        "stuck",
    ),
    "one stuck stopping": (
        [RUNNING, machine("a2", "stopping", age_s=900)],
        1,
        State.DEGRADED,
        Reason.FLY_STUCK,
        "a2 of gaia-auth-dev is stopping for 15 min",
    ),
    "being deployed": (
        [RUNNING, machine("a2", "replacing", age_s=20)],
        2,
        State.UP,
        Reason.FLY_DEPLOYING,
        "is being deployed",
    ),
    "a deploy that hangs": (
        [RUNNING, machine("a2", "replacing", age_s=700)],
        1,
        State.DEGRADED,
        Reason.FLY_STUCK,
        "replacing for 12 min",
    ),
    "restarted after it ran out of memory": (
        [machine("a1", "started", exited(137, oom_killed=True, seconds=90))],
        1,
        State.DEGRADED,
        Reason.FLY_OOM,
        "a1 of gaia-auth-dev was killed for memory within the last 10 min",
    ),
    "cordoned": (
        [machine("a1", "started", cordoned=True)],
        1,
        State.UP,
        Reason.FLY_HOST,
        "is cordoned",
    ),
    "host unreachable": (
        [machine("a1", "started", host_status="unreachable")],
        1,
        State.DEGRADED,
        Reason.FLY_HOST,
        "is unreachable",
    ),
    "restarting by itself": (
        [machine("a1", "started", exited(1), exited(1, seconds=60), exited(1, seconds=90))],
        1,
        State.DEGRADED,
        Reason.FLY_CRASH_LOOP,
        "was started again",
    ),
    "a release command is not a crash": (
        [
            RUNNING,
            machine(
                "r1",
                "stopped",
                exited(1),
                config={"metadata": {"fly_process_group": "fly_app_release_command"}},
            ),
        ],
        1,
        State.UP,
        Reason.OK,
        "1 of 1",
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_the_state_of_machines_is_named(case: str) -> None:
    machines, minimum, state, reason, words = CASES[case]
    async with platform(*machines) as fly:
        found = await fly.found(minimum=minimum)
    assert (found.state, found.reason) == (state, reason), found.message
    assert words in found.message
    assert "fo1_secret" not in repr(found)


def checked(status: str, *, seconds: float) -> Machine:
    check = {"name": "http", "status": status, "output": "503", "updated_at": ago(seconds)}
    return machine("a1", "started", checks=[check])


BY_ENVIRONMENT = {
    "a check that fails for long": (
        [checked("critical", seconds=150)],
        {"production": Reason.FLY_CHECKS, "staging": Reason.FLY_CHECKS, "development": Reason.OK},
        "check http of machine a1 of gaia-auth-dev is critical: 503",
    ),
    "a check that fails since a minute": (
        [checked("critical", seconds=60)],
        {"production": Reason.FLY_CHECKS, "staging": Reason.OK, "development": Reason.OK},
        "is critical",
    ),
    "a check that warns": (
        [checked("warning", seconds=150)],
        {"production": Reason.FLY_CHECKS, "staging": Reason.OK, "development": Reason.OK},
        "is warning",
    ),
    "a check that failed just now": (
        [checked("critical", seconds=5)],
        {"production": Reason.OK, "staging": Reason.OK, "development": Reason.OK},
        "",
    ),
    "a host nobody hears of": (
        [machine("a1", "started", host_status="unknown")],
        {"production": Reason.FLY_HOST, "staging": Reason.OK, "development": Reason.OK},
        "the host of machine a1 of gaia-auth-dev in fra is unknown",
    ),
    "two images": (
        [RUNNING, machine("a2", "started", image_ref={"digest": "sha256:2"})],
        {"production": Reason.FLY_DRIFT, "staging": Reason.FLY_DRIFT, "development": Reason.OK},
        "run different images",
    ),
}


@pytest.mark.parametrize("env", ["production", "staging", "development"])
@pytest.mark.parametrize("case", BY_ENVIRONMENT)
async def test_each_environment_has_its_own_patience(case: str, env: str) -> None:
    machines, by_environment, words = BY_ENVIRONMENT[case]
    async with platform(*machines) as fly:
        found = await fly.found(env=env)
    assert found.reason is by_environment[env], found.message
    assert found.state is (State.UP if found.reason is Reason.OK else State.DEGRADED)
    assert found.reason is Reason.OK or words in found.message


async def test_a_machine_of_another_size_than_the_file_says_is_named() -> None:
    async with platform(RUNNING) as fly:
        size = {"memory": Size(2**30), "cpus": 1, "cpu_kind": "shared"}
        found = await fly.found(env="production", **size)
    assert (found.state, found.reason) == (State.DEGRADED, Reason.FLY_DRIFT)
    assert (
        "machine a1 of gaia-auth-dev has 1 shared CPUs and 512 MB and should have 1 shared CPUs and 1024 MB"
        in (found.message)
    )


async def test_a_region_without_a_machine_is_named() -> None:
    async with platform(RUNNING) as fly:
        found = await fly.found(env="production", regions=("fra", "iad"))
    assert (found.state, found.reason) == (State.DEGRADED, Reason.FLY_DRIFT)
    assert "no started machine in iad" in found.message


async def test_without_a_token_what_stopped_an_app_is_unknown_not_down() -> None:
    async with platform(machine("a1", "stopped", exited(1))) as fly:
        found = await fly.found(token=False)
        needed = await fly.found(token=False, minimum=1)
    assert (found.state, found.reason) == (State.UNKNOWN, Reason.FLY_STOPPED_REASON_UNKNOWN)
    assert "probably asleep" in found.message
    assert (needed.state, needed.reason) == (State.DOWN, Reason.FLY_BELOW_MINIMUM)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (500, "cannot be asked: status 500"),
        (401, "its token is not accepted; `fly tokens create readonly`"),
        (404, f"there is no app {APP}, or the token may not see it"),
    ],
)
async def test_without_api_and_dns_the_control_plane_is_unknown_and_why_is_said(
    status: int, words: str
) -> None:
    async with platform(RUNNING) as fly:
        fly.dns_away, fly.api_status = True, status
        found = await fly.found()
    assert (found.state, found.reason) == (State.UNKNOWN, Reason.FLY_CONTROL_PLANE)
    assert words in found.message
    assert f"the name server 127.0.0.1 does not say: vms.{APP}.internal" in found.message
    assert "fo1_secret" not in repr(found)


async def test_dns_alone_is_enough_to_see_that_it_runs() -> None:
    async with platform(RUNNING) as fly:
        fly.api_status = 401
        found = await fly.found()
    assert (found.state, found.reason) == (State.UP, Reason.OK)
    assert any(
        one.name == "unknown: machines" and "its token is not accepted" in one.value for one in found.evidence
    )


async def test_a_hundred_looks_at_a_sleeping_app_wake_it_not_once_and_ask_the_api_sparingly() -> None:
    sleeping = (machine("a1", "suspended"), machine("a2", "stopped", exited(0)))
    async with platform(*sleeping) as fly, fly.look(port=fly.proxy_port) as one:
        for _ in range(100):
            assert (await one.look()).state is State.ASLEEP
    assert (fly.wake_ups, fly.api_calls) == (0, 1)


async def test_the_list_is_read_again_at_once_when_dns_has_news() -> None:
    async with platform(RUNNING) as fly, fly.look() as one:
        await one.look()
        fly.machines[0] = machine("a1", "stopped", exited(0))
        found = await one.look()
    assert found.state is State.ASLEEP


async def test_a_machine_that_falls_asleep_while_asked_is_asleep_not_broken() -> None:
    async with platform(RUNNING) as fly:

        async def sleeps(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            fly.machines[0] = machine("a1", "suspended")
            writer.transport.abort()

        async with misbehaving(sleeps) as port, fly.look(port=port) as one:
            one.names._known[f"a1.vm.{APP}.internal"] = "127.0.0.1"
            found = await one.look()
    assert (found.state, found.reason) == (State.ASLEEP, Reason.ASLEEP)


async def test_a_started_machine_that_does_not_answer_is_named() -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(1024):
                pass

    async with platform(RUNNING) as fly, misbehaving(silent) as port, fly.look(port=port) as one:
        one.names._known[f"a1.vm.{APP}.internal"] = "127.0.0.1"
        found = await one.look()
    assert (found.state, found.reason) == (State.DEGRADED, Reason.FLY_CHECKS)
    assert "machine a1" in found.message
    assert "did not answer within 500ms" in found.message
