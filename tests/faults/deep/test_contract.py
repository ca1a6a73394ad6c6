"""What every deep check owes its caller: nothing left open, nothing hostile gets through, no secret out."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from checks.finding import State
from checks.nats.link import Link
from checks.nats.options import NatsOptions
from checks.postgres import wire
from checks.postgres.options import PostgresOptions
from checks.secret import Secret
from checks.units import Duration
from tests.faults.deep.looking import Handler, Look, look_once, misbehaving, silent
from tests.waiting import until

SECRET = "hunter2-hunter2"


def options(kind: str, port: int, *, within_s: float = 0.3) -> PostgresOptions | NatsOptions:
    answer_within = Duration(within_s)
    if kind == "postgres":
        url = Secret(f"postgresql://agent:{SECRET}@127.0.0.1:{port}/app")
        return PostgresOptions(url=url, answer_within=answer_within)
    url = Secret(f"nats://agent:{SECRET}@127.0.0.1:{port}")
    monitor = f"http://127.0.0.1:{port}"
    return NatsOptions(url=url, monitor_url=monitor, jetstream=True, answer_within=answer_within)


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("kind", ["postgres", "nats"])
async def test_a_cancelled_look_leaves_nothing_open(kind: str) -> None:
    async with misbehaving(silent) as port, Look(kind, options(kind, port, within_s=5)) as one:
        loop = asyncio.get_running_loop()
        before = open_files()
        for turn in range(10):
            task = asyncio.create_task(one.check.probe())
            loop.call_later(0.002 * turn, task.cancel)
            with contextlib.suppress(asyncio.CancelledError):
                await task
        # What is left are the stub's own ends, which close when it notices.
        await until(lambda: open_files() <= before)


@pytest.mark.parametrize("kind", ["postgres", "nats"])
async def test_looks_that_fail_leave_nothing_open(kind: str) -> None:
    async with misbehaving(silent) as port, Look(kind, options(kind, port, within_s=0.01)) as one:
        before = open_files()
        await one.look(20)
        await until(lambda: open_files() <= before)


@pytest.mark.parametrize("kind", ["postgres", "nats"])
@pytest.mark.parametrize("seed", range(8))
async def test_whatever_a_server_says_is_a_finding_and_never_up(kind: str, seed: int) -> None:
    dice = random.Random(seed)
    starts = [
        b"",
        b"N",
        b"S",
        b"E",
        b"INFO {}\r\n",
        b"INFO {}\r\n+OK\r\n",
        b"NR\0\0\0\x08",
        b"N" + b"E\0\0\0\x08",
    ]
    said = dice.choice(starts) + dice.randbytes(dice.randrange(1, 400))

    async def babbles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()
        while await reader.read(4096):
            pass

    handler: Handler = babbles
    async with misbehaving(handler) as port:
        found = await look_once(kind, options(kind, port))
    assert found.state in (State.DOWN, State.UNKNOWN)
    assert SECRET not in repr(found)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_an_error_response_of_any_bytes_is_read(body: bytes) -> None:
    assert isinstance(wire.parse_error(body).sqlstate, str)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=8))
@example([b"MSG a b c\r\n"])
@example([b"MSG \r\n"])
@example([b"HMSG a 1 9 2\r\nxx\r\n"])
@example([b"HMSG a 1 -5 -9\r\nxx\r\n"])
@example([b"MSG a 1 99999999999\r\n"])
async def test_a_link_takes_any_bytes_in_any_pieces(pieces: list[bytes]) -> None:
    link = Link()
    link.data_received(b"INFO {}\r\n")
    for piece in pieces:
        link.data_received(piece)
    link.close()


@settings(deadline=None)
@given(st.data())
async def test_messages_are_whole_however_they_arrive(data: st.DataObject) -> None:
    bodies = data.draw(st.lists(st.binary(max_size=40), min_size=1, max_size=6))
    stream = b"".join(b"MSG a 1 %d\r\n%s\r\n" % (len(body), body) for body in bodies)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    link = Link()
    got: list[bytes] = []
    link.subscribe("a", lambda reply: got.append(reply.data))
    link.data_received(b"INFO {}\r\n")
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        link.data_received(stream[start:end])
    assert got == bodies
