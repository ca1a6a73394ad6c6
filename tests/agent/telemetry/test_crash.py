from __future__ import annotations

import asyncio
import gzip
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from agent.telemetry.options import DestinationOptions, IntakeOptions
from agent.telemetry.signals import Signal
from checks.units import Size
from tests.agent.telemetry.backend import Backend, backend
from tests.agent.telemetry.otlp import post, running, traces
from tests.waiting import until

ROUNDS = 20
WRITERS = 8
# GAIA_OUTAGE_S=600 makes it ten minutes; the suite has no time for them.
OUTAGE_S = float(os.environ.get("GAIA_OUTAGE_S", "12"))

Sending = list[asyncio.Task[None]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def span_ids(body: bytes) -> list[bytes]:
    return [
        span.span_id
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


class Writer:
    """Sends batch after batch, the same one again until it is acknowledged, as the SDKs do."""

    def __init__(self, number: int, port: int, *, pause_s: float = 0.0) -> None:
        self.service = f"service-{number % 3}"
        self._port = port
        self._pause_s = pause_s
        self.acked: list[bytes] = []
        self.errors = 0
        self.retries = 0
        self.stop = False

    async def run(self) -> None:
        count = 0
        while not self.stop:
            count += 1
            status = 500 if count % 7 == 0 else 200
            body = traces(1 + count % 5, service=self.service, status=status)
            while not await self._sent(body):
                self.retries += 1
                await asyncio.sleep(0.02)
            self.acked += span_ids(body)
            self.errors += (1 + count % 5) if status == 500 else 0
            if self._pause_s:
                await asyncio.sleep(self._pause_s)

    async def _sent(self, body: bytes) -> bool:
        with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(10):
                response = await post(
                    self._port, "/v1/traces", gzip.compress(body), headers={"Content-Encoding": "gzip"}
                )
            return response.status == 200
        return False


async def killed_again_and_again(
    directory: Path, port: int, url: str, *, enough: Callable[[int], Awaitable[None]]
) -> None:
    """Twenty agents one after the other, each killed -9 once `enough` of its round has passed."""
    for round_ in range(ROUNDS):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.agent.telemetry.child_intake", str(directory), str(port), url
        )
        try:
            await enough(round_)
        finally:
            child.send_signal(signal.SIGKILL)
            await child.wait()


async def check(directory: Path, port: int, writers: list[Writer], tempo: Backend, sending: Sending) -> None:
    """One more agent delivers everything; counts and ledger equal what the writers know was acknowledged."""
    for writer in writers:
        writer.stop = True
    destinations = {"tempo": DestinationOptions(url=tempo.url)}
    options = IntakeOptions(listen=f"127.0.0.1:{port}", keep_free=Size(0), destinations=destinations)
    async with running(directory, options) as intake:
        await asyncio.gather(*sending)
        acked = Counter(span for writer in writers for span in writer.acked)
        await until(lambda: intake.forwarders, within_s=30)

        def arrived() -> set[bytes]:
            return {span for body in tempo.bodies("/v1/traces") for span in span_ids(body)}

        async def drained() -> bool:
            return (await intake.forwarders["tempo"].account(Signal.TRACES)).queued == 0

        async with asyncio.timeout(120):
            while not await drained():
                pass  # Each look waits for the log's thread, which the forwarder needs in between.
        _, counting = intake._parts()
        counts = {
            service: counting.requests.routes(service, envs=frozenset())["/login"]
            for service in ("service-0", "service-1", "service-2")
        }
        account = await intake.forwarders["tempo"].account(Signal.TRACES)
    # The oracle: what the writers know was acknowledged, each batch once.
    expected = {
        service: (
            sum(len(writer.acked) for writer in writers if writer.service == service),
            sum(writer.errors for writer in writers if writer.service == service),
        )
        for service in counts
    }
    assert {service: (row.total, row.errors) for service, row in counts.items()} == expected
    assert arrived() == acked.keys()
    assert account.missing == 0
    assert account.received == acked.total()
    assert sum(writer.retries for writer in writers) > 0


async def test_twenty_kills_under_eight_writers_lose_nothing_and_count_nothing_twice(tmp_path: Path) -> None:
    port = free_port()
    writers = [Writer(number, port) for number in range(WRITERS)]

    def acked() -> int:
        return sum(len(writer.acked) for writer in writers)

    async def enough(round_: int) -> None:
        wanted = acked() + 40 + round_
        await until(lambda: acked() > wanted, within_s=60)

    async with backend() as tempo:
        sending = [asyncio.create_task(writer.run()) for writer in writers]
        await killed_again_and_again(tmp_path, port, tempo.url, enough=enough)
        await check(tmp_path, port, writers, tempo, sending)


async def test_an_outage_of_the_backend_under_eight_writers_and_kills_loses_nothing(tmp_path: Path) -> None:
    """Nobody listens at the backend's address for OUTAGE_S; twenty agents are killed meanwhile."""
    port, away = free_port(), free_port()
    writers = [Writer(number, port, pause_s=OUTAGE_S / 400) for number in range(WRITERS)]

    async def enough(_: int) -> None:
        before = sum(len(writer.acked) for writer in writers)
        await asyncio.sleep(OUTAGE_S / ROUNDS)
        await until(lambda: sum(len(writer.acked) for writer in writers) > before, within_s=60)

    sending = [asyncio.create_task(writer.run()) for writer in writers]
    await killed_again_and_again(tmp_path, port, f"http://127.0.0.1:{away}", enough=enough)
    async with backend(away) as tempo:
        await check(tmp_path, port, writers, tempo, sending)


async def test_every_answer_comes_after_its_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = 0
    real = os.fdatasync

    def counted(descriptor: int) -> None:
        nonlocal synced
        real(descriptor)
        if Path(f"/proc/self/fd/{descriptor}").readlink().suffix == ".seg":
            synced = os.fstat(descriptor).st_size

    monkeypatch.setattr(os, "fdatasync", counted)
    async with running(tmp_path) as intake:
        for _ in range(20):
            before = synced
            assert (await post(intake.port, "/v1/traces", traces(1))).status == 200
            assert synced > before
