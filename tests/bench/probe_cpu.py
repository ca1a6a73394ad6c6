"""CPU seconds per 1,000 HTTP probes: ours on new and kept connections, aiohttp, blackbox_exporter."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from checks.catalog import ProbeKit, kind
from checks.clock import SystemClock
from checks.observation import observe
from checks.resolver import CachingResolver
from checks.target import Kind, Target, TargetKey
from tests.bench.http_origin import origin

TARGETS = 1000
PER_SECOND = 200
SLOT_S = 0.02
SECONDS = 5.0
ROUNDS = 3

Probe = Callable[[int], Awaitable[bool]]


def target(number: int, url: str) -> Target:
    return Target(
        key=TargetKey(env="bench", service=f"s{number}", check="http", vantage="here"),
        kind=Kind.SERVICE,
        address=url,
    )


def address(number: int) -> str:
    """A loopback address of its own for each target, as real targets have."""
    return f"127.0.{1 + number // 250}.{1 + number % 250}"


async def steady(probe: Probe) -> None:
    """TARGETS probed in turn, PER_SECOND of them each second, those of one slot started together."""
    loop = asyncio.get_running_loop()
    per_slot = round(PER_SECOND * SLOT_S)
    start = (loop.time() // SLOT_S + 1) * SLOT_S
    running: set[asyncio.Task[bool]] = set()
    for slot in range(round(SECONDS / SLOT_S)):
        await asyncio.sleep(start + slot * SLOT_S - loop.time())
        for place in range(per_slot):
            task = loop.create_task(_held(probe, (slot * per_slot + place) % TARGETS))
            running.add(task)
            task.add_done_callback(running.discard)
    await asyncio.gather(*running)


async def _held(probe: Probe, number: int) -> bool:
    good = await probe(number)
    assert good, "a benchmark's probe failed"
    return good


async def ours(port: int, connection: str) -> float:
    http = kind("http")
    kit = ProbeKit(clock=SystemClock(), resolver=CachingResolver())
    targets = [target(number, f"http://{address(number)}:{port}/health") for number in range(TARGETS)]
    checks = [http.build(one, http.options(url=one.address, connection=connection), kit) for one in targets]

    async def probe(number: int) -> bool:
        seen = await observe(checks[number], targets[number], deadline_s=6.0, clock=kit.clock)
        return seen.finding.state == "up"

    try:
        return await _measured(probe)
    finally:
        for check in checks:
            await check.close()


async def theirs(port: int, connection: str) -> float:
    import aiohttp

    urls = [f"http://{address(number)}:{port}/health" for number in range(TARGETS)]
    connector = aiohttp.TCPConnector(limit=0, force_close=connection == "fresh")
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=5)) as session:

        async def probe(number: int) -> bool:
            async with session.get(urls[number]) as answer:
                await answer.json(content_type=None)
                return answer.status == 200

        return await _measured(probe)


async def _measured(probe: Probe) -> float:
    for number in range(0, TARGETS, 50):
        await asyncio.gather(*(probe(one) for one in range(number, number + 50)))
    before = resource.getrusage(resource.RUSAGE_SELF)
    await steady(probe)
    after = resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used / (PER_SECOND * SECONDS) * 1000


def blackbox(port: int) -> float | None:
    """blackbox_exporter alone, asked at the same pace by a process whose CPU is not counted."""
    binary = shutil.which("prometheus-blackbox-exporter") or shutil.which("blackbox_exporter")
    if binary is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "blackbox.yml"
        config.write_text("modules: {http_2xx: {prober: http, timeout: 5s}}\n")
        listen = _free_port()
        process = subprocess.Popen(
            [
                binary,
                f"--config.file={config}",
                f"--web.listen-address=127.0.0.1:{listen}",
                "--log.level=error",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            return asyncio.run(_asked(listen, port, process.pid))
        finally:
            process.terminate()
            process.wait()


async def _asked(listen: int, port: int, pid: int) -> float:
    import aiohttp

    url = f"http://127.0.0.1:{listen}/probe?module=http_2xx&target=http://127.0.0.1:{port}/health"
    async with aiohttp.ClientSession() as session:
        for _ in range(200):
            try:
                async with session.get(url):
                    break
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)

        async def probe(_: int) -> bool:
            async with session.get(url) as answer:
                return "\nprobe_success 1" in await answer.text()

        for number in range(200):
            await probe(number)
        before = _cpu_s(pid)
        await steady(probe)
        return (_cpu_s(pid) - before) / (PER_SECOND * SECONDS) * 1000


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def main() -> None:
    """Print CPU s per 1,000 probes of each prober: median and spread of interleaved rounds."""
    arms: dict[str, Callable[[int], float | None]] = {
        "gaia, new connection each": lambda port: asyncio.run(ours(port, "fresh")),
        "gaia, kept, every 5th new": lambda port: asyncio.run(ours(port, "mixed")),
        "gaia, kept": lambda port: asyncio.run(ours(port, "kept")),
        "aiohttp client, new each": lambda port: asyncio.run(theirs(port, "fresh")),
        "aiohttp client, kept": lambda port: asyncio.run(theirs(port, "kept")),
        "blackbox_exporter alone": blackbox,
    }
    used: dict[str, list[float]] = {name: [] for name in arms}
    started = time.monotonic()
    with origin() as port:
        for _ in range(ROUNDS):
            for name, arm in arms.items():
                figure = arm(port)
                if figure is not None:
                    used[name].append(figure)
    print(
        f"CPU s per 1,000 HTTP probes, {TARGETS} targets, {PER_SECOND}/s, median [min-max] of {ROUNDS} rounds"
    )
    for name, figures in used.items():
        if not figures:
            print(f"  {name:28} not installed")
            continue
        print(f"  {name:28} {statistics.median(figures):.3f} [{min(figures):.3f}-{max(figures):.3f}]")
    print(f"  (took {time.monotonic() - started:.0f} s)")
