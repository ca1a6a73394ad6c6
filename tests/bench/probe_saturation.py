"""Saturation: HTTP probes a second of one core, 50 in flight, beside aiohttp's client and bare sockets."""

from __future__ import annotations

import asyncio
import resource
import socket
import statistics
import time
from collections.abc import Callable

from checks.catalog import ProbeKit, kind
from checks.clock import SystemClock
from checks.observation import observe
from checks.resolver import CachingResolver
from tests.bench.http_origin import origin
from tests.bench.probe_cpu import target

IN_FLIGHT = 50
PROBES = 1500
ROUNDS = 3


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def ours(port: int, connection: str) -> float:
    """CPU seconds per probe: its inverse is what one core can do."""
    http = kind("http")
    kit = ProbeKit(clock=SystemClock(), resolver=CachingResolver())
    url = f"http://127.0.0.1:{port}/health"
    one = target(0, url)
    checks = [http.build(one, http.options(url=url, connection=connection), kit) for _ in range(IN_FLIGHT)]

    async def work(number: int, times: int) -> None:
        for _ in range(times):
            seen = await observe(checks[number], one, deadline_s=6.0, clock=kit.clock)
            assert seen.finding.state == "up"

    await asyncio.gather(*(work(number, 5) for number in range(IN_FLIGHT)))
    before = cpu_s()
    await asyncio.gather(*(work(number, PROBES // IN_FLIGHT) for number in range(IN_FLIGHT)))
    used = cpu_s() - before
    for check in checks:
        await check.close()
    return used / PROBES


async def theirs(port: int, connection: str) -> float:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0, force_close=connection == "fresh")
    async with aiohttp.ClientSession(connector=connector) as session:

        async def work(times: int) -> None:
            for _ in range(times):
                async with session.get(f"http://127.0.0.1:{port}/health") as answer:
                    await answer.json(content_type=None)

        await asyncio.gather(*(work(5) for _ in range(IN_FLIGHT)))
        before = cpu_s()
        await asyncio.gather(*(work(PROBES // IN_FLIGHT) for _ in range(IN_FLIGHT)))
        return (cpu_s() - before) / PROBES


def bare(port: int) -> float:
    """Blocking sockets and nothing else: what the kernel and the interpreter cost at least."""
    request = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    before = cpu_s()
    for _ in range(PROBES // 5):
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(request)
            sock.recv(65536)
    return (cpu_s() - before) / (PROBES // 5)


def main() -> None:
    """Print probes per CPU second of each, medians of interleaved rounds."""
    arms: dict[str, Callable[[int], float]] = {
        "gaia, new connection each": lambda port: asyncio.run(ours(port, "fresh")),
        "gaia, kept": lambda port: asyncio.run(ours(port, "kept")),
        "aiohttp, new connection each": lambda port: asyncio.run(theirs(port, "fresh")),
        "aiohttp, kept": lambda port: asyncio.run(theirs(port, "kept")),
        "bare blocking sockets, new each": bare,
    }
    used: dict[str, list[float]] = {name: [] for name in arms}
    started = time.monotonic()
    with origin() as port:
        for _ in range(ROUNDS):
            for name, arm in arms.items():
                used[name].append(arm(port))
    print(f"HTTP probes per second of one core, {IN_FLIGHT} in flight, median [min-max] of {ROUNDS} rounds")
    for name, figures in used.items():
        rates = sorted(1 / figure for figure in figures)
        print(f"  {name:32} {statistics.median(rates):7.0f} [{rates[0]:.0f}-{rates[-1]:.0f}]")
    print(f"  (took {time.monotonic() - started:.0f} s)")
