from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.telemetry.durable_log import DurableLog, LogLimits
from agent.telemetry.record import HEADER_BYTES, Head, decode, encode
from agent.telemetry.signals import Lane

SMALL = LogLimits(disk_bytes=1 << 20, free_bytes=0, segment_bytes=4096)


def head(lane: Lane = Lane.TRACES, *, items: int = 1, digest: bytes = b"") -> Head:
    return Head(
        seq=0, received_ns=1, lane=lane, gzip=False, items=items, oldest_ns=0, digest=digest or os.urandom(16)
    )


@asynccontextmanager
async def opened(
    directory: Path, limits: LogLimits = SMALL, *, after_seq: int = 0
) -> AsyncIterator[DurableLog]:
    log = DurableLog(directory, limits)
    await log.open(after_seq=after_seq)
    try:
        yield log
    finally:
        await log.close()


async def contents(
    log: DurableLog, lane: Lane = Lane.TRACES, after: int = 0
) -> list[tuple[int, bytes | None]]:
    found: list[tuple[int, bytes | None]] = []
    while batch := await log.read(lane, after, max_bytes=3000):
        found += [(record.seq, content) for record, content in batch]
        after = batch[-1][0].seq
    return found


def segments(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*.seg"))


async def put(log: DurableLog, content: bytes, lane: Lane = Lane.TRACES, *, items: int = 1) -> int:
    written = await log.append(head(lane, items=items), content, apply=lambda _: None)
    assert written is not None
    return written.seq


async def test_what_was_appended_is_read_back_in_order_after_a_restart(tmp_path: Path) -> None:
    payloads = [os.urandom(700) for _ in range(40)]
    async with opened(tmp_path) as log:
        await asyncio.gather(*(put(log, payload) for payload in payloads))
        assert [content for _, content in await contents(log)] == payloads
    async with opened(tmp_path) as log:
        assert await contents(log) == list(enumerate(payloads, start=1))
        assert await put(log, b"next") == 41


async def test_requests_waiting_together_share_one_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = 0
    real = os.fdatasync

    def counted(descriptor: int) -> None:
        nonlocal syncs
        syncs += 1
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", counted)
    async with opened(tmp_path, LogLimits(free_bytes=0)) as log:
        await asyncio.gather(*(put(log, b"x") for _ in range(100)))
        assert syncs <= 3


async def test_counts_are_applied_in_order_before_the_append_returns(tmp_path: Path) -> None:
    applied: list[int] = []
    async with opened(tmp_path) as log:

        async def one() -> None:
            written = await log.append(head(), b"x", apply=lambda record: applied.append(record.seq))
            assert written is not None
            assert written.seq in applied

        await asyncio.gather(*(one() for _ in range(20)))
    assert applied == list(range(1, 21))


async def test_a_caller_that_was_cancelled_is_counted_all_the_same(tmp_path: Path) -> None:
    applied: list[int] = []
    async with opened(tmp_path) as log:
        task = asyncio.create_task(log.append(head(), b"x", apply=lambda record: applied.append(record.seq)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await log.settle()
        assert [seq for seq, _ in await contents(log)] == applied == [1]


async def test_a_retry_waits_for_the_first_and_is_kept_once(tmp_path: Path) -> None:
    digest = os.urandom(16)
    async with opened(tmp_path) as log:
        twice = [log.append(head(digest=digest), b"x", apply=lambda _: None) for _ in range(2)]
        written, repeated = await asyncio.gather(*twice)
        assert written is not None
        assert repeated is None
    async with opened(tmp_path) as log:
        assert await log.append(head(digest=digest), b"x", apply=lambda _: None) is None
        assert len(await contents(log)) == 1


async def test_a_retry_of_what_could_not_be_written_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = os.urandom(16)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    async with opened(tmp_path) as log:
        await put(log, b"before")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", full)
            with pytest.raises(OSError, match="No space"):
                await log.append(head(digest=digest), b"x", apply=lambda _: None)
        assert await log.append(head(digest=digest), b"x", apply=lambda _: None) is not None
        assert [content for _, content in await contents(log)] == [b"before", b"x"]
        assert log.failures == 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    damages=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from(["flip", "cut", "zero"])), max_size=4
    ),
    sizes=st.lists(st.integers(0, 900), min_size=1, max_size=25),
)
async def test_damage_never_stops_the_start_and_never_changes_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, damages: list[tuple[float, str]], sizes: list[int]
) -> None:
    directory = tmp_path_factory.mktemp("log")
    payloads = [os.urandom(size) for size in sizes]
    async with opened(directory) as log:
        for payload in payloads:
            await put(log, payload)
    written = dict(enumerate(payloads, start=1))
    files = segments(directory)
    for where, how in damages:
        path = files[int(where * len(files))]
        content = bytearray(path.read_bytes())
        if not content:
            continue
        at = int(where * len(content))
        if how == "flip":
            content[at] ^= 0xFF
        elif how == "zero":
            content[at : at + 100] = bytes(len(content[at : at + 100]))
        else:
            del content[at:]
        path.write_bytes(content)
    async with opened(directory) as log:
        for seq, content_read in await contents(log):
            assert content_read in {None, written[seq]}
        latest = await put(log, b"after")
        assert (await contents(log))[-1] == (latest, b"after")


async def test_a_torn_tail_costs_only_the_torn_record(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        for number in range(3):
            await put(log, b"%d" % number * 100)
    path = segments(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:-50])
    async with opened(tmp_path) as log:
        assert [content for _, content in await contents(log)] == [b"0" * 100, b"1" * 100]
        assert log.damaged_bytes == HEADER_BYTES + 50


async def test_a_damaged_header_in_the_middle_costs_one_record(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        for number in range(3):
            await put(log, b"%d" % number * 100)
    path = segments(tmp_path)[0]
    content = bytearray(path.read_bytes())
    content[HEADER_BYTES + 100 + 10] ^= 1
    path.write_bytes(content)
    async with opened(tmp_path) as log:
        assert [seq for seq, _ in await contents(log)] == [1, 3]


async def test_room_is_made_from_traces_first_and_from_errors_last(tmp_path: Path) -> None:
    evicted: list[tuple[Lane, int]] = []
    limits = LogLimits(disk_bytes=20_000, free_bytes=0, segment_bytes=1000)
    async with opened(tmp_path, limits) as log:
        log.on_evict = lambda lane, segment: evicted.append((lane, segment.first_seq))
        for lane in (Lane.ERRORS, Lane.LOGS, Lane.METRICS, Lane.TRACES) * 4:
            await put(log, bytes(1100), lane)
        order = [lane for lane, _ in evicted]
        assert order == sorted(order)
        for _ in range(40):
            await put(log, bytes(1100), Lane.ERRORS)
        order = [lane for lane, _ in evicted]
        assert order == sorted(order)
        assert set(order) == set(Lane)
        assert log.disk_bytes <= 20_000
        await log.settle()
        await log.in_thread(lambda: None)
        assert sum(path.stat().st_size for path in segments(tmp_path)) == log.disk_bytes


async def test_what_nobody_needs_any_more_gives_its_space_back(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        for _ in range(20):
            await put(log, bytes(1000))
        log.release(Lane.TRACES, 20)
        await log.in_thread(lambda: None)
        assert segments(tmp_path) == []
        assert await put(log, b"x") == 21


async def test_numbers_go_on_above_what_was_passed_even_when_all_files_are_gone(tmp_path: Path) -> None:
    async with opened(tmp_path, after_seq=1000) as log:
        assert await put(log, b"x") == 1001


async def test_a_reader_sees_what_is_committed_while_more_is_written(tmp_path: Path) -> None:
    async with opened(tmp_path) as log:
        seen: list[int] = []

        async def follow() -> None:
            while len(seen) < 60:
                found = await log.read(Lane.TRACES, seen[-1] if seen else 0, max_bytes=2000)
                assert all(content is not None for _, content in found)
                seen.extend(record.seq for record, _ in found)
                if not found:
                    await log.news()

        following = asyncio.create_task(follow())
        for _ in range(60):
            await put(log, os.urandom(300))
        async with asyncio.timeout(5):
            await following
    assert seen == list(range(1, 61))


@given(payload=st.binary(max_size=100), seq=st.integers(0, 2**64 - 1), lane=st.sampled_from(Lane))
def test_a_header_reads_back_and_no_single_damaged_byte_goes_unseen(
    payload: bytes, seq: int, lane: Lane
) -> None:
    written = encode(
        Head(seq=seq, received_ns=5, lane=lane, gzip=True, items=7, oldest_ns=9, digest=bytes(16)), payload
    )
    read = decode(written)
    assert read is not None
    assert (read.seq, read.lane, read.payload_bytes) == (seq, lane, len(payload))
    for at in range(len(written)):
        damaged = bytearray(written)
        damaged[at] ^= 0x01
        assert decode(bytes(damaged)) is None
