from __future__ import annotations

import asyncio
import gc
import socket
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest

from checks.wire.fault import DeadlinePassed
from checks.wire.reactor import Reactor, reactor
from checks.wire.stream import Wire
from tests.waiting import until


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as found:
        yield found


@asynccontextmanager
async def connected(listener: socket.socket, count: int) -> AsyncIterator[list[tuple[Wire, socket.socket]]]:
    """Connections with both their ends."""
    pairs: list[tuple[Wire, socket.socket]] = []
    try:
        for _ in range(count):
            wire = await Wire.connect(*listener.getsockname())
            pairs.append((wire, listener.accept()[0]))
        yield pairs
    finally:
        for wire, peer in pairs:
            wire.close()
            peer.close()


async def test_a_crowd_is_served_on_the_grid_again_and_again(listener: socket.socket) -> None:
    async with connected(listener, 30) as pairs, asyncio.TaskGroup() as group:
        for round_ in range(3):
            reads = [group.create_task(wire.receive()) for wire, _ in pairs]
            await until(lambda: reactor().waiting == 30, what="thirty waits")
            for _, peer in pairs:
                peer.send(b"%d" % round_)
            assert [await read for read in reads] == [b"%d" % round_] * 30
            assert reactor().waiting == 0


async def test_the_end_of_a_watched_connection_is_told_while_others_come_and_go(
    listener: socket.socket,
) -> None:
    async with connected(listener, 20) as pairs, asyncio.TaskGroup() as group:
        reads = [group.create_task(wire.receive()) for wire, _ in pairs[1:]]
        watched, watched_peer = pairs[0]
        watched.hold(user_timeout_s=5)
        end = group.create_task(watched.ended())
        await until(lambda: reactor().waiting == 19, what="the others")
        watched_peer.close()
        async with asyncio.timeout(5):
            await end
        for _, peer in pairs[1:]:
            peer.close()
        assert [await read for read in reads] == [b""] * 19


async def test_a_deadline_passes_once_it_is_due_and_not_before(listener: socket.socket) -> None:
    async with connected(listener, 1) as [(wire, _)]:
        deadline_s = time.monotonic() + 0.1
        wire.until(time.monotonic() + 30)
        wire.until(deadline_s)
        with pytest.raises(DeadlinePassed):
            await wire.receive()
        assert time.monotonic() >= deadline_s


async def test_an_answer_that_came_in_time_counts_although_we_were_held_up(listener: socket.socket) -> None:
    async with connected(listener, 1) as [(wire, peer)]:
        wire.until(time.monotonic() + 0.05)

        def held_up() -> None:
            peer.send(b"in time")
            time.sleep(0.1)

        asyncio.get_running_loop().call_soon(held_up)
        assert await wire.receive() == b"in time"


async def test_a_deadline_put_off_does_not_pass(listener: socket.socket) -> None:
    async with connected(listener, 2) as [(wire, peer), (other, _)]:
        wire.until(time.monotonic() + 0.02)
        wire.until(time.monotonic() + 30)
        other.until(time.monotonic() + 0.1)
        with pytest.raises(DeadlinePassed):
            await other.receive()
        peer.send(b"late")
        assert await wire.receive() == b"late"


async def test_a_socket_that_takes_the_number_of_a_closed_one_gets_only_its_own_events(
    listener: socket.socket,
) -> None:
    async with connected(listener, 1) as [(first, first_peer)], asyncio.TaskGroup() as group:
        read = group.create_task(first.receive())
        await until(lambda: reactor().waiting == 1, what="the wait")
        first_peer.close()
        assert await read == b""
        first.close()
        async with connected(listener, 1) as [(second, second_peer)]:
            read = group.create_task(second.receive())
            await until(lambda: reactor().waiting == 1, what="the second wait")
            second_peer.send(b"mine")
            assert await read == b"mine"


def test_a_loop_that_is_gone_leaves_no_reactor_behind(listener: socket.socket) -> None:
    async def look() -> weakref.ref[Reactor]:
        async with connected(listener, 1) as [(wire, _)]:
            wire.until(time.monotonic() + 60)
            with suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    await wire.receive()
        return weakref.ref(reactor())

    async def another() -> None:
        reactor()

    old = asyncio.run(look())
    asyncio.run(another())  # the last one is remembered
    gc.collect()
    assert old() is None
