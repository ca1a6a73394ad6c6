from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from agent.telemetry.dead_letters import DeadLetters
from agent.telemetry.durable_log import DurableLog, LogLimits
from agent.telemetry.forwarder import Forwarder
from agent.telemetry.ledger import Account
from agent.telemetry.options import DestinationOptions, IntakeOptions
from agent.telemetry.post import HttpPost
from agent.telemetry.record import Head
from agent.telemetry.signals import Lane, Signal
from checks.clock import SystemClock
from checks.secret import Secret
from checks.units import Duration, Size
from tests.agent.telemetry.backend import ACCEPT, Backend, Verdict, backend
from tests.agent.telemetry.otlp import logs, messages_of, metrics, traces
from tests.waiting import until


def options_for(tempo: Backend) -> IntakeOptions:
    return IntakeOptions(
        listen="127.0.0.1:0", keep_free=Size(0), destinations={"tempo": DestinationOptions(url=tempo.url)}
    )


@dataclass(slots=True)
class Rig:
    """A log, a forwarder and the backend it sends to."""

    log: DurableLog
    forwarder: Forwarder
    backend: Backend
    directory: Path
    received: dict[Signal, int] = field(default_factory=lambda: dict.fromkeys(Signal, 0))

    async def put(
        self, body: bytes, *, lane: Lane = Lane.LOGS, items: int = 1, oldest_ns: int = 0, gzipped: bool = True
    ) -> None:
        head = Head(
            seq=0,
            received_ns=1,
            lane=lane,
            gzip=gzipped,
            items=items,
            oldest_ns=oldest_ns,
            digest=os.urandom(16),
        )
        content = gzip.compress(body) if gzipped else body
        await self.log.append(head, content, apply=lambda _: None)
        self.received[lane.signal] += items

    async def account(self, signal: Signal = Signal.LOGS) -> Account:
        return await self.forwarder.account(signal)

    async def drained(self, signal: Signal = Signal.LOGS) -> Account:
        """The ledger once nothing waits any more; it must balance."""
        async with asyncio.timeout(10):
            while (account := await self.account(signal)).queued:
                pass  # Each look waits for the log's thread, which the forwarder needs in between.
        assert account.missing == 0
        return account

    def letters(self) -> list[tuple[str, int]]:
        return [
            (letter.label.reason, letter.label.items)
            for letter in DeadLetters(self.directory / "dead").letters()
        ]


@asynccontextmanager
async def rig(
    directory: Path, options: DestinationOptions | None = None, *, segment_bytes: int = 1 << 20
) -> AsyncIterator[Rig]:
    async with backend() as tempo:
        log = DurableLog(directory, LogLimits(free_bytes=0, disk_bytes=1 << 20, segment_bytes=segment_bytes))
        await log.open()
        post = HttpPost(timeout_s=2)
        received: dict[Signal, int] = dict.fromkeys(Signal, 0)
        forwarder = Forwarder(
            "tempo", msgspec.structs.replace(options or DestinationOptions(url=""), url=tempo.url), log=log,
            directory=directory, clock=SystemClock(), post=post, received=received.__getitem__,
            first_s=0.02, cap_s=0.05,
        )  # fmt: skip
        log.on_evict = forwarder.evict
        task = asyncio.create_task(forwarder.run())
        try:
            yield Rig(log, forwarder, tempo, directory, received)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await post.close()
            await log.close()


async def test_everything_arrives_in_order_and_the_ledger_balances(tmp_path: Path) -> None:
    async with rig(tmp_path) as its:
        for number in range(50):
            await its.put(logs(f"{number}"), lane=Lane.ERRORS if number % 3 else Lane.LOGS)
        account = await its.drained()
        assert messages_of(its.backend.bodies("/v1/logs")) == [str(number) for number in range(50)]
        assert account == Account(received=50, delivered=50, queued=0, dead=0, evicted=0)
        assert its.letters() == []


async def test_small_requests_are_joined_without_being_decompressed(tmp_path: Path) -> None:
    all_there = False
    async with rig(tmp_path) as its:
        its.backend.decide = lambda _path, _body: ACCEPT if all_there else Verdict(503)
        for number in range(100):
            await its.put(logs(f"{number}"))
        all_there = True
        await its.drained()
        # What was first tried while the others were still coming, and all the rest in one.
        assert len(its.backend.accepted) <= 3
        assert its.backend.headers[0]["Content-Encoding"] == "gzip"


async def test_each_signal_goes_to_its_own_path(tmp_path: Path) -> None:
    async with rig(tmp_path) as its:
        await its.put(traces(2), lane=Lane.TRACES, items=2)
        await its.put(metrics(3), lane=Lane.METRICS, items=3, gzipped=False)
        await its.put(logs("a"))
        for signal in Signal:
            await its.drained(signal)
        assert {path for path, _ in its.backend.accepted} == {"/v1/traces", "/v1/metrics", "/v1/logs"}


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_retryable_answer_is_retried_until_it_is_taken(tmp_path: Path, status: int) -> None:
    async with rig(tmp_path) as its:
        its.backend.decide = lambda _path, _body: ACCEPT if len(its.backend.requests) > 8 else Verdict(status)
        await its.put(logs("a"))
        assert (await its.drained()).delivered == 1
        assert its.backend.requests[:8] == [("/v1/logs", status)] * 8


async def test_a_backend_that_is_away_loses_nothing_and_nothing_is_sent_out_of_order(tmp_path: Path) -> None:
    away = True
    async with rig(tmp_path) as its:
        its.backend.decide = lambda _path, _body: Verdict(503) if away else ACCEPT
        for number in range(200):
            await its.put(logs(f"{number}"))
        await until(lambda: len(its.backend.requests) > 20)
        assert (await its.account()).queued == 200
        away = False
        await its.drained()
        assert messages_of(its.backend.bodies("/v1/logs")) == [str(number) for number in range(200)]


async def test_retry_after_is_honoured(tmp_path: Path) -> None:
    async with rig(tmp_path) as its:
        times: list[float] = []

        def decide(_path: str, _body: bytes) -> Verdict:
            times.append(asyncio.get_running_loop().time())
            return ACCEPT if len(times) > 1 else Verdict(503, headers={"Retry-After": "1"})

        its.backend.decide = decide
        await its.put(logs("a"))
        await its.drained()
        assert times[1] - times[0] >= 1


@pytest.mark.parametrize(("status", "reason"), [(400, "rejected_by_backend"), (413, "too_large")])
async def test_one_poisoned_item_is_put_aside_alone(tmp_path: Path, status: int, reason: str) -> None:
    async with rig(tmp_path) as its:
        its.backend.decide = lambda _path, body: Verdict(status, b"no") if b"poison" in body else ACCEPT
        for number in range(10):
            await its.put(logs(*(f"{number}.{item}" for item in range(8))), items=8)
        await its.put(logs(*(f"p.{item}" for item in range(7)), "poison"), items=8)
        await its.put(logs("after"))
        account = await its.drained()
        assert (account.delivered, account.dead) == (88, 1)
        assert its.letters() == [(reason, 1)]
        [letter] = DeadLetters(tmp_path / "dead").letters()
        assert (letter.label.status, letter.label.answer) == (status, "no")
        assert messages_of([DeadLetters(tmp_path / "dead").body(letter.id)]) == ["poison"]
        # What was taken before the culprit was met may arrive again: at least once.
        assert set(messages_of(its.backend.bodies("/v1/logs"))) >= {"after", "p.0", "9.7"}


async def test_a_backend_that_refuses_everything_is_not_asked_for_ever(tmp_path: Path) -> None:
    async with rig(tmp_path) as its:
        its.backend.decide = lambda _path, _body: Verdict(400)
        await its.put(logs(*(str(number) for number in range(5000))), items=5000)
        account = await its.drained()
        assert account.dead == 5000
        assert len(its.backend.requests) < 200


@pytest.mark.parametrize("status", [500, 422, 301, 501])
async def test_what_must_not_be_retried_is_put_aside_whole(tmp_path: Path, status: int) -> None:
    async with rig(tmp_path) as its:
        its.backend.decide = lambda _path, _body: Verdict(status, headers={"Location": "/elsewhere"})
        await its.put(logs("a", "b"), items=2)
        assert (await its.drained()).dead == 2
        assert its.letters() == [("rejected_by_backend", 2)]
        assert its.backend.requests == [("/v1/logs", status)]


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_where_we_may_not_or_nobody_is_sending_pauses_and_nothing_is_lost(
    tmp_path: Path, status: int
) -> None:
    async with rig(tmp_path) as its:
        allowed = False
        its.backend.decide = lambda _path, _body: ACCEPT if allowed else Verdict(status)
        await its.put(logs("a"))
        await until(lambda: its.forwarder.backend.paused)
        assert f"HTTP {status}" in its.forwarder.backend.paused
        assert (await its.account()).queued == 1
        allowed = True
        assert (await its.drained()).delivered == 1
        assert its.forwarder.backend.paused == ""


async def test_a_backend_that_cannot_read_joined_gzip_is_sent_them_one_by_one(tmp_path: Path) -> None:
    async with rig(tmp_path) as its:
        its.backend.reads_joined = False
        for number in range(20):
            await its.put(logs(f"{number}"))
        account = await its.drained()
        assert (account.delivered, account.dead) == (20, 0)
        assert messages_of(its.backend.bodies("/v1/logs")) == [str(number) for number in range(20)]


async def test_items_a_backend_rejects_in_its_answer_are_accounted_for(tmp_path: Path) -> None:
    async with rig(tmp_path) as its:
        its.backend.decide = lambda _path, _body: Verdict(200, b"\x0a\x06\x08\x03\x12\x02no")
        await its.put(logs("a", "b", "c", "d"), items=4)
        account = await its.drained()
        assert (account.delivered, account.dead) == (1, 3)


async def test_records_older_than_the_backend_takes_are_put_aside_unsent(tmp_path: Path) -> None:
    async with rig(tmp_path, DestinationOptions(url="", max_age=Duration(3600))) as its:
        await its.put(logs("old"), oldest_ns=1)
        await its.put(logs("new"), oldest_ns=int(SystemClock().wall_s() * 1e9))
        account = await its.drained()
        assert (account.delivered, account.dead) == (1, 1)
        assert its.letters() == [("too_old", 1)]
        assert messages_of(its.backend.bodies("/v1/logs")) == ["new"]


async def test_what_is_given_up_for_room_is_counted_and_never_waited_for(tmp_path: Path) -> None:
    async with rig(tmp_path, segment_bytes=20_000) as its:
        its.backend.decide = lambda _path, _body: Verdict(503)
        for _ in range(120):
            await its.put(os.urandom(20_000), gzipped=False)
        account = await its.account()
        assert account.evicted > 0
        assert account.missing == 0
        assert account.queued + account.evicted == 120


async def test_headers_carry_the_secret_and_logs_do_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = DestinationOptions(url="", headers={"Authorization": Secret("Bearer s3cret")})
    async with rig(tmp_path, options) as its:
        its.backend.decide = lambda _path, _body: Verdict(401) if len(its.backend.requests) < 3 else ACCEPT
        await its.put(logs("a"))
        await its.drained()
        assert its.backend.headers[0]["Authorization"] == "Bearer s3cret"
        assert "s3cret" not in caplog.text


async def test_a_restart_goes_on_where_it_stopped(tmp_path: Path) -> None:
    async with rig(tmp_path) as its:
        await its.put(logs("before"))
        await its.drained()
    async with rig(tmp_path) as its:
        its.received[Signal.LOGS] = 1
        await its.put(logs("after"))
        account = await its.drained()
        assert messages_of(its.backend.bodies("/v1/logs")) == ["after"]
        assert account == Account(received=2, delivered=2, queued=0, dead=0, evicted=0)


async def test_loki_gets_its_own_format_with_few_labels(tmp_path: Path) -> None:
    async with rig(tmp_path, DestinationOptions(url="", kind="loki", signals=(Signal.LOGS,))) as its:
        its.backend.decide = lambda _path, _body: Verdict(204)
        await its.put(logs("first", "second", at_ns=5))
        await its.drained()
        [(path, body)] = its.backend.accepted
        assert path == "/loki/api/v1/push"
        metadata = {"severity_text": "17", "scope_name": "app"}
        assert msgspec.json.decode(body) == {
            "streams": [
                {
                    "stream": {"service_name": "auth"},
                    "values": [["5", "first", metadata], ["5", "second", metadata]],
                }
            ]
        }
