from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from checks.catalog import ProbeKit, kind
from checks.clock import SystemClock
from checks.finding import State
from checks.observation import Observation, observe_in_flight
from checks.reason import Reason
from checks.resolver import CachingResolver
from checks.target import Kind, Target, TargetKey
from checks.wire.flight import Flight, in_task
from checks.wire.reactor import reactor
from checks.wire.stream import Wire
from tests.flown import flown
from tests.waiting import until

Landing = tuple[object, BaseException | None]


async def landing(look: Coroutine[Any, Any, object], *, within_s: float = 5.0) -> Landing:
    """How a flight ended."""
    ended: asyncio.Future[Landing] = asyncio.get_running_loop().create_future()
    Flight(
        look,
        lambda result, error: ended.set_result((result, error)),
        deadline_s=time.monotonic() + within_s,
    ).start()
    return await ended


@pytest.fixture
def silent() -> Any:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


async def waiting_on(listener: socket.socket) -> bytes:
    wire = await Wire.connect(*listener.getsockname())
    try:
        return await wire.receive()
    finally:
        wire.close()


async def test_a_look_that_waits_on_a_wire_needs_no_task(silent: socket.socket) -> None:
    tasks: list[asyncio.Task[Any] | None] = []

    async def look() -> bytes:
        wire = await Wire.connect(*silent.getsockname())
        peer, _ = silent.accept()
        with peer:
            asyncio.get_running_loop().call_later(0.01, peer.send, b"hello")
            data = await wire.receive()
        tasks.append(asyncio.current_task())
        wire.close()
        return data

    assert await landing(look()) == (b"hello", None)
    assert tasks == [None]


async def test_what_it_raises_is_told() -> None:
    error = ValueError("x")

    async def look() -> None:
        raise error

    assert await landing(look()) == (None, error)


async def test_after_in_task_it_may_use_all_of_asyncio() -> None:
    async def look() -> str:
        await in_task()
        async with asyncio.timeout(1), asyncio.TaskGroup() as group:
            found = group.create_task(asyncio.sleep(0.001, "slept"))
        await in_task()
        return found.result()

    assert await landing(look()) == ("slept", None)


async def test_a_turn_of_the_loop_needs_no_task() -> None:
    async def look() -> str:
        await asyncio.sleep(0)
        return "back"

    assert await landing(look()) == ("back", None)


async def test_waiting_for_anything_else_is_a_defect_that_says_so() -> None:
    async def look() -> None:
        await asyncio.sleep(1)

    _, error = await landing(look())
    assert isinstance(error, RuntimeError)
    assert "it needs in_task()" in str(error)


@pytest.mark.parametrize("tasked", [False, True])
async def test_the_deadline_cancels_the_look_and_is_told_as_a_timeout(
    silent: socket.socket, *, tasked: bool
) -> None:
    async def look() -> bytes:
        if tasked:
            await in_task()
        return await waiting_on(silent)

    result, error = await landing(look(), within_s=0.05)
    assert result is None
    assert isinstance(error, TimeoutError)
    assert isinstance(error.__cause__, asyncio.CancelledError)
    assert reactor().waiting == 0


@pytest.mark.parametrize("tasked", [False, True])
async def test_a_cancelled_look_closes_its_connection_and_tells_nothing(
    silent: socket.socket, *, tasked: bool
) -> None:
    told: list[Landing] = []

    async def look() -> bytes:
        if tasked:
            await in_task()
        return await waiting_on(silent)

    flight = Flight(look(), lambda result, error: told.append((result, error)))
    flight.start()
    await until(lambda: reactor().waiting == 1, what="the wait")
    peer, _ = silent.accept()
    flight.cancel()
    flight.cancel()
    with peer:
        peer.settimeout(5)
        await until(lambda: reactor().waiting == 0, what="the end of the wait")
        assert peer.recv(1) == b""
    assert told == []


async def test_a_failing_listener_does_not_stop_the_others(silent: socket.socket) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def look() -> str:
        return "seen"

    def told(_: object, __: BaseException | None) -> None:
        raise ValueError("no")

    Flight(look(), told).start()
    assert [type(one["exception"]) for one in complaints] == [ValueError]
    assert await landing(look()) == ("seen", None)


def http_target(listener: socket.socket, timeout_s: float) -> tuple[Any, Target, ProbeKit]:
    found, port = kind("http"), listener.getsockname()[1]
    kit = ProbeKit(clock=SystemClock(), resolver=CachingResolver())
    key = TargetKey(env="test", service="s", check="http", vantage="here")
    target = Target(key=key, kind=Kind.SERVICE, address="it")
    options = found.options(url=f"http://127.0.0.1:{port}", timeout=timeout_s)
    return found.build(target, options, kit), target, kit


async def test_a_look_cut_off_by_the_observers_deadline_names_the_unfinished_phase(
    silent: socket.socket,
) -> None:
    check, target, kit = http_target(silent, 5.0)
    seen = await flown(check, target, deadline_s=0.1, clock=kit.clock)
    assert (seen.finding.state, seen.finding.reason) == (State.DOWN, Reason.TIMEOUT)
    assert seen.finding.message == (
        "it did not answer within 100ms: it accepted the request and sent no answer (processing unfinished)"
    )
    assert 0.1 <= seen.duration_s < 1


async def test_a_look_that_ends_by_its_own_deadline_keeps_its_phases(silent: socket.socket) -> None:
    check, target, kit = http_target(silent, 0.1)
    for _ in range(5):
        seen = await flown(check, target, deadline_s=0.1, clock=kit.clock)
        assert [part.phase for part in seen.finding.phases] == ["connect"]


async def test_a_hundred_looks_at_once_are_all_told(silent: socket.socket) -> None:
    silent.listen(200)
    check, target, kit = http_target(silent, 0.3)
    told: list[Observation] = []
    for _ in range(100):
        observe_in_flight(check, target, told.append, deadline_s=5.0, clock=kit.clock).start()
    await until(lambda: len(told) == 100, what="every look")
    assert {one.finding.reason for one in told} == {Reason.TIMEOUT}
    assert reactor().waiting == 0
