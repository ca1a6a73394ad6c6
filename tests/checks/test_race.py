"""Several addresses of one name: the first to connect wins, the silent and the refusing are told."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from checks.finding import Phase
from checks.wire.dial import connect, order
from checks.wire.fault import DeadlinePassed, Fault
from checks.wire.journey import Journey
from checks.wire.race import alternating
from tests.waiting import until


@pytest.fixture
def port() -> Iterator[int]:
    """A port on which the kernel accepts at 127.0.0.1 and ::1; nobody takes the connections."""
    with socket.create_server(("127.0.0.1", 0)) as four:
        found: int = four.getsockname()[1]
        with socket.create_server(("::1", found), family=socket.AF_INET6):
            yield found


@contextlib.contextmanager
def silent(address: str, port: int) -> Iterator[None]:
    """`address` listens, its queue is full and nobody accepts: the kernel drops every further SYN."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind((address, port))
        listener.listen(0)
        for _ in range(2):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex((address, port))
        yield


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_a_silent_address_costs_a_quarter_of_a_second_and_is_told(port: int) -> None:
    journey = Journey(deadline_s=time.monotonic() + 30)
    with silent("127.0.0.2", port):
        wire = await connect(("127.0.0.2", "127.0.0.1"), port, journey)
    assert wire.peer == ("127.0.0.1", port)
    assert journey.ip == "127.0.0.1"
    assert list(journey.evidence) == ["address 127.0.0.2"]
    assert journey.evidence["address 127.0.0.2"].startswith("had not answered after ")
    (connected,) = journey.phases()
    # Callers wait as long, so the time lost is the target's.
    assert (connected.phase, connected.duration_s >= 0.25) == (Phase.CONNECT, True)
    wire.close()


async def test_the_losers_are_closed(port: int) -> None:
    (await connect(("127.0.0.1",), port, Journey())).close()  # the reactor's own descriptor
    with silent("127.0.0.2", port):
        before = open_files()
        wire = await connect(("127.0.0.2", "127.0.0.1", "::1"), port, Journey())
        await until(lambda: open_files() == before + 1, within_s=5, what="the loser's end")
        wire.close()


async def test_a_refusing_address_is_passed_over_at_once(port: int) -> None:
    journey = Journey()
    wire = await connect(("127.0.0.9", "127.0.0.8", "::1"), port, journey)
    wire.close()
    assert journey.ip == "::1"
    assert journey.evidence == {"address 127.0.0.9": "refuses connections: nobody listens there"}


async def test_every_address_has_its_turn_before_a_short_deadline(port: int) -> None:
    journey = Journey(deadline_s=time.monotonic() + 0.9)
    with silent("127.0.0.2", port), silent("127.0.0.3", port), silent("127.0.0.4", port):
        wire = await connect(("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.1"), port, journey)
    assert journey.ip == "127.0.0.1"
    wire.close()


async def test_when_all_refuse_it_is_hard_evidence_and_when_one_is_silent_nobody_knows(port: int) -> None:
    with pytest.raises(Fault) as refused:
        await connect(("127.0.0.8", "127.0.0.9"), port, Journey())
    assert refused.value.hard
    assert str(refused.value) == "refuses connections: nobody listens there; so with all 2 addresses"
    journey = Journey(deadline_s=time.monotonic() + 0.3)
    with silent("127.0.0.2", port), pytest.raises(DeadlinePassed):
        await connect(("127.0.0.9", "127.0.0.2"), port, journey)
    assert journey.phase is Phase.CONNECT
    assert sorted(journey.evidence) == ["address 127.0.0.2", "address 127.0.0.9"]


async def test_a_family_without_a_way_out_hides_nothing(port: int) -> None:
    journey = Journey()
    # RFC 5737: on this network nobody is; a machine on which it is reachable just waits 250 ms.
    wire = await connect(("2001:db8::1", "127.0.0.1"), port, journey)
    assert journey.ip == "127.0.0.1"
    wire.close()


async def test_who_is_told_to_stop_leaves_nothing_behind(port: int) -> None:
    (await connect(("127.0.0.1",), port, Journey())).close()
    with silent("127.0.0.2", port), silent("127.0.0.3", port):
        before = open_files()
        task = asyncio.create_task(connect(("127.0.0.2", "127.0.0.3"), port, Journey(deadline_s=math.inf)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: open_files() == before, within_s=5, what="the attempts' end")


@pytest.mark.parametrize(
    ("given", "tried"),
    [
        (("::1",), ("::1",)),
        (("::1", "::2", "10.0.0.1"), ("::1", "10.0.0.1", "::2")),
        (("10.0.0.1", "10.0.0.2", "::1", "::2"), ("10.0.0.1", "::1", "10.0.0.2", "::2")),
        (("10.0.0.1", "10.0.0.2", "10.0.0.3"), ("10.0.0.1", "10.0.0.2", "10.0.0.3")),
    ],
)
def test_the_families_take_turns(given: tuple[str, ...], tried: tuple[str, ...]) -> None:
    assert alternating(given) == tried


def test_a_family_may_be_preferred_or_demanded() -> None:
    found = ("10.0.0.1", "::1", "10.0.0.2")
    assert order(found, "any") == found
    assert order(found, "prefer_6") == ("::1", "10.0.0.1", "10.0.0.2")
    assert order(found, "prefer_4") == ("10.0.0.1", "10.0.0.2", "::1")
    assert (order(found, "only_6"), order(found, "only_4")) == (("::1",), ("10.0.0.1", "10.0.0.2"))
    assert order(("10.0.0.1",), "only_6") == ()
