"""Kill and freeze PostgreSQL and NATS, or only the postmaster: when is it named? Beside us: exporters."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from agent.local.child import descendants
from agent.local.nats import LocalNats
from agent.local.ports import free_ports
from agent.local.postgres import LocalPostgres
from checks.finding import State
from checks.nats.options import NatsOptions
from checks.observation import Occasion, observe
from checks.postgres.options import PostgresOptions
from checks.secret import Secret
from checks.small_get import SmallGet
from checks.verdict import ConfirmPolicy, Verdict, step
from tests.faults.deep.looking import Look, Names

INTERVAL_S = 10.0
KILLS = 10
FREEZES = 3
GIVE_UP_S = 12.0
RESTING_S = 0.2

Said = tuple[float, str]


@dataclass(slots=True)
class Table:
    """Seconds from the fault to its name, by fault and witness."""

    rows: dict[tuple[str, str], list[float | None]] = field(default_factory=dict)
    words: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, fault: str, who: str, took_s: float | None, words: str = "") -> None:
        self.rows.setdefault((fault, who), []).append(took_s)
        if words:
            self.words[fault, who] = words

    def show(self) -> None:
        for (fault, who), values in self.rows.items():
            seen = [value for value in values if value is not None]
            missed = len(values) - len(seen)
            figure = (
                f"median {median(seen) * 1000:8.0f} ms  [{min(seen) * 1000:.0f}-{max(seen) * 1000:.0f}]"
                if seen
                else "never"
            )
            never = f", {missed} not within {GIVE_UP_S:.0f} s" if missed else ""
            print(f"{fault:18} {who:38} {figure} (n={len(values)}{never}) {self.words.get((fault, who), '')}")


async def ours(one: Look, suspected: asyncio.Event) -> Said:
    """Our way from the sentinel's word to the confirmed verdict, by the agent's own rules."""
    await suspected.wait()
    verdict, occasion = Verdict(state=State.UP), Occasion.SENTINEL
    policy = ConfirmPolicy()
    while True:
        seen = await observe(one.check, one.target, deadline_s=5, clock=one.kit.clock, occasion=occasion)
        verdict, again_s = step(verdict, seen, policy)
        if verdict.state is State.DOWN:
            return time.monotonic(), f"{verdict.reason}"
        occasion = Occasion.CONFIRMATION
        await asyncio.sleep(again_s if again_s is not None else 0.05)


async def polled(ask: Callable[[], Awaitable[bool]], phase_s: float) -> Said:
    """A scrape every 10 s at this phase, until one says that it is down."""
    await asyncio.sleep(phase_s)
    while True:
        started = time.monotonic()
        try:
            async with asyncio.timeout(INTERVAL_S):
                alive = await ask()
        except TimeoutError:
            return time.monotonic(), "the scrape itself times out"
        if not alive:
            return time.monotonic(), "says 0"
        await asyncio.sleep(max(0.0, started + INTERVAL_S - time.monotonic()))


def metric(url: str, path: str, name: str) -> Callable[[], Awaitable[bool]]:
    get = SmallGet(url, Names())

    async def ask() -> bool:
        answer = await get.get(path)
        for line in answer.body.decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1]) == 1
        return False

    return ask


@asynccontextmanager
async def exporter(program: str, *args: str, port: int, **environ: str) -> AsyncIterator[str | None]:
    path = shutil.which(program)
    if path is None:
        print(f"({program} is not installed: Debian package {program})")
        yield None
        return
    devnull = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        path, *args, stdout=devnull, stderr=devnull, env={**os.environ, **environ}
    )
    try:
        url = f"http://127.0.0.1:{port}"
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(OSError):
                    await SmallGet(url, Names()).get("/metrics")
                    break
                await asyncio.sleep(0.05)
        yield url
    finally:
        process.kill()
        await process.wait()


def strike(server: LocalPostgres | LocalNats, blow: signal.Signals, *, whole: bool) -> float:
    """`whole`: its children too. Without them sessions live on and nobody new gets in."""
    for pid in (server.pid, *(descendants(server.pid) if whole else ())):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, blow)
    return time.monotonic()


async def round_of(
    fault: str,
    server: LocalPostgres | LocalNats,
    one: Look,
    peers: dict[str, Callable[[], Awaitable[bool]]],
    table: Table,
) -> None:
    blow = signal.SIGKILL if fault.startswith("killed") else signal.SIGSTOP
    whole = not fault.startswith("stalled")
    await one.look(2)
    async with one.watched() as suspicions:
        await asyncio.sleep(RESTING_S + random.random())
        struck = strike(server, blow, whole=whole)
        waits = {"gaia": asyncio.create_task(ours(one, suspicions.raised))}
        for name, ask in peers.items():
            waits[name] = asyncio.create_task(polled(ask, random.random() * INTERVAL_S))
        await asyncio.wait(waits.values(), timeout=GIVE_UP_S)
        for name, task in waits.items():
            if task.done():
                said, words = task.result()
                table.add(fault, name, said - struck, words)
            else:
                task.cancel()
                table.add(fault, name, None, "still says 1")
    if blow is signal.SIGSTOP:
        strike(server, signal.SIGCONT, whole=whole)
    else:
        server.kill()
        server.start()


async def measure() -> None:
    table = Table()
    with tempfile.TemporaryDirectory(prefix="gaia-bench-") as folder:
        postgres, nats = LocalPostgres(Path(folder) / "pg"), LocalNats(Path(folder) / "nats")
        postgres.start()
        nats.start()
        blackbox_port, exporter_port = free_ports(2)
        config = Path(folder) / "blackbox.yml"
        config.write_text("modules: {tcp_connect: {prober: tcp, timeout: 5s}}\n")
        async with AsyncExitStack() as stack:
            stack.callback(postgres.kill)
            stack.callback(nats.kill)
            listen = f"--web.listen-address=127.0.0.1:{blackbox_port}"
            blackbox = await stack.enter_async_context(
                exporter(
                    "prometheus-blackbox-exporter", listen, f"--config.file={config}", port=blackbox_port
                )
            )
            pg_exporter = await stack.enter_async_context(
                exporter(
                    "prometheus-postgres-exporter",
                    f"--web.listen-address=127.0.0.1:{exporter_port}",
                    port=exporter_port,
                    DATA_SOURCE_NAME=f"{postgres.url}?sslmode=disable",
                )
            )
            pg_look = await stack.enter_async_context(
                Look("postgres", PostgresOptions(url=Secret(postgres.url)))
            )
            nats_look = await stack.enter_async_context(Look("nats", NatsOptions(url=Secret(nats.url))))
            pg_peers: dict[str, Callable[[], Awaitable[bool]]] = {}
            nats_peers: dict[str, Callable[[], Awaitable[bool]]] = {}
            if blackbox is not None:
                for peers, port in ((pg_peers, postgres.port), (nats_peers, nats.port)):
                    path = f"/probe?target=127.0.0.1:{port}&module=tcp_connect"
                    peers["blackbox_exporter tcp, every 10 s"] = metric(blackbox, path, "probe_success")
            if pg_exporter is not None:
                pg_peers["postgres_exporter, every 10 s"] = metric(pg_exporter, "/metrics", "pg_up")
            for blow, rounds in (("killed", KILLS), ("frozen", FREEZES)):
                for _ in range(rounds):
                    await asyncio.gather(
                        round_of(f"{blow} PostgreSQL", postgres, pg_look, pg_peers, table),
                        round_of(f"{blow} NATS", nats, nats_look, nats_peers, table),
                    )
            for _ in range(FREEZES):
                await round_of("stalled postmaster", postgres, pg_look, pg_peers, table)
    table.show()


def main() -> None:
    """Figures: milliseconds from the fault to its confirmed name."""
    print("promise: killed <= 50 ms median, frozen <= 3 s; exporters say only that a number is 0")
    asyncio.run(measure())
