"""Machines that run, sleep, crash or are deployed, by a stub API, a stub name server, a counting proxy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

import pytest

from checks.finding import Finding, State
from checks.machines.check import MachinesOptions
from checks.reason import Reason
from checks.secret import Secret
from checks.units import Duration
from tests.faults.deep.looking import Look, Names, misbehaving

APP = "gaia-auth-dev"
Machine = dict[str, object]


# The cases are written when this file is read, which may be long before they run: ages become times when
# the API answers.
_AGE = "age_s"


def ago(seconds: float) -> dict[str, float]:
    return {_AGE: seconds}


def dated(told: object, *, as_ms: bool = False) -> object:
    """`told` with every age as the time it is now."""
    if isinstance(told, dict):
        if told.keys() == {_AGE}:
            at_s = datetime.now(UTC).timestamp() - told[_AGE]
            return at_s * 1000 if as_ms else datetime.fromtimestamp(at_s, UTC).isoformat()
        return {name: dated(value, as_ms=name == "timestamp") for name, value in told.items()}
    return [dated(one) for one in told] if isinstance(told, list) else told


def exited(code: int = 0, *, seconds: float = 5, **how: object) -> Machine:
    return {"type": "exit", "timestamp": ago(seconds), "request": {"exit_event": {"exit_code": code, **how}}}


def machine(id_: str, state: str, *events: Machine, age_s: float = 60, **more: object) -> Machine:
    return {
        "id": id_,
        "state": state,
        "region": "fra",
        "updated_at": ago(age_s),
        "events": list(events),
        "image_ref": {"digest": "sha256:1"},
        "config": {"guest": {"cpu_kind": "shared", "cpus": 1, "memory_mb": 512}},
        **more,
    }


class NameServer(asyncio.DatagramProtocol):
    """Answers TXT for the two rolls of machines."""

    def __init__(self, fly: Fly) -> None:
        self._fly = fly

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's own datagram transport is no subclass of DatagramTransport in Python 3.11.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._fly.dns_away:
            return
        at, labels = 12, []
        while size := data[at]:
            labels.append(data[at + 1 : at + 1 + size].decode())
            at += 1 + size
        listed = self._fly.machines if labels[0] == "all" else self._fly.started
        text = ",".join(f"{one['id']} {one['region']}" for one in listed).encode()
        answer = b""
        if text:
            strings = b"".join(bytes([len(part)]) + part for part in _parts(text))
            answer = b"\xc0\x0c" + struct.pack("!HHIH", 16, 1, 5, len(strings)) + strings
        flags = 0x8180 if text else 0x8183
        header = data[:2] + struct.pack("!HHHHH", flags, 1, int(bool(text)), 0, 0)
        self._transport.sendto(header + data[12 : at + 5] + answer, addr)


def _parts(text: bytes) -> list[bytes]:
    return [text[at : at + 255] for at in range(0, len(text), 255)]


@dataclass(slots=True)
class Fly:
    """The platform: its machines, and how often its proxy was asked, which is what wakes."""

    machines: list[Machine] = field(default_factory=list)
    dns_away: bool = False
    api_status: int = 200
    wake_ups: int = 0
    api_calls: int = 0
    dns_port: int = 0
    api_port: int = 0
    proxy_port: int = 0

    @property
    def started(self) -> list[Machine]:
        return [one for one in self.machines if one["state"] == "started"]

    def look(self, *, token: bool = True, minimum: int = 0, env: str = "development", **more: object) -> Look:
        options = MachinesOptions(
            app=APP,
            minimum=minimum,
            token=Secret("fo1_secret") if token else None,
            api_url=f"http://127.0.0.1:{self.api_port}",
            nameserver="127.0.0.1",
            nameserver_port=self.dns_port,
            answer_within=Duration(0.5),
            **more,  # type: ignore[arg-type]
        )
        names = Names(**{f"{APP}.flycast": "127.0.0.1", f"{APP}.fly.dev": "127.0.0.1"})
        return Look("machines", options, env=env, names=names)

    async def found(self, **how: object) -> Finding:
        async with self.look(**how) as one:  # type: ignore[arg-type]
            return await one.look()


@asynccontextmanager
async def platform(*machines: Machine) -> AsyncIterator[Fly]:
    fly = Fly(machines=list(machines))

    async def api(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Bearer fo1_secret" in head
        assert f"/v1/apps/{APP}/machines".encode() in head
        fly.api_calls += 1
        writer.write(
            f"HTTP/1.1 {fly.api_status} X\r\n\r\n".encode() + json.dumps(dated(fly.machines)).encode()
        )
        await writer.drain()

    async def proxy(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        fly.wake_ups += 1
        await reader.read(1)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: NameServer(fly), local_addr=("127.0.0.1", 0))
    fly.dns_port = transport.get_extra_info("sockname")[1]
    async with misbehaving(api) as fly.api_port, misbehaving(proxy) as fly.proxy_port:
        try:
            yield fly
        finally:
            transport.close()


RUNNING = machine("a1", "started")
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
    "host unreachable": (
        [machine("a1", "started", host_status="unreachable")],
        1,
        State.DEGRADED,
        Reason.FLY_HOST,
        "is unreachable",
    ),
    "platform check critical": (
        [machine("a1", "started", checks=[{"name": "http", "status": "critical", "output": "503"}])],
        1,
        State.DEGRADED,
        Reason.FLY_CHECKS,
        "check http of machine a1",
    ),
    "two images": (
        [RUNNING, machine("a2", "started", image_ref={"digest": "sha256:2"})],
        2,
        State.DEGRADED,
        Reason.FLY_DRIFT,
        "different images",
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


async def test_without_a_token_what_stopped_an_app_is_unknown_not_down() -> None:
    async with platform(machine("a1", "stopped", exited(1))) as fly:
        found = await fly.found(token=False)
        needed = await fly.found(token=False, minimum=1)
    assert (found.state, found.reason) == (State.UNKNOWN, Reason.FLY_STOPPED_REASON_UNKNOWN)
    assert "probably asleep" in found.message
    assert (needed.state, needed.reason) == (State.DOWN, Reason.FLY_BELOW_MINIMUM)


async def test_without_api_and_dns_the_control_plane_is_unknown() -> None:
    async with platform(RUNNING) as fly:
        fly.dns_away, fly.api_status = True, 500
        found = await fly.found()
    assert (found.state, found.reason) == (State.UNKNOWN, Reason.FLY_CONTROL_PLANE)


async def test_dns_alone_is_enough_to_see_that_it_runs() -> None:
    async with platform(RUNNING) as fly:
        fly.api_status = 401
        found = await fly.found()
    assert (found.state, found.reason) == (State.UP, Reason.OK)


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
