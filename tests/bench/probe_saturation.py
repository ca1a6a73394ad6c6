"""Saturation: HTTP probes a second of one core, 50 in flight, beside bare sockets, aiohttp and blackbox."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from tests.bench.http_origin import origin
from tests.bench.probers import (
    BareSockets,
    Prober,
    Start,
    Table,
    aiohttp_client,
    blackbox,
    cpu_s,
    ours,
    settle,
    through_blackbox,
    urls,
)

IN_FLIGHT = 50
PROBES = 3000
_BLACKBOX_PROBES = 600
ROUNDS = 5


def saturated(prober: Prober, probes: int = PROBES, pid: int | None = None) -> float:
    """Probes per CPU second of this process or of `pid`: what one core can do."""
    return asyncio.run(_saturated(prober, probes, pid))


async def _saturated(prober: Prober, probes: int, pid: int | None) -> float:
    async with prober() as start:
        await _all(start, IN_FLIGHT * 4)
        settle()
        before_s = cpu_s(pid)
        await _all(start, probes)
        return probes / (cpu_s(pid) - before_s)


async def _all(start: Start, probes: int) -> None:
    """So many probes, each of 50 targets asked again as soon as it has answered."""
    over = asyncio.get_running_loop().create_future()
    begun = done = 0

    def again(number: int) -> None:
        nonlocal begun
        if begun < probes:
            begun += 1
            start(number, lambda: finished(number))

    def finished(number: int) -> None:
        nonlocal done
        done += 1
        if done == probes:
            over.set_result(None)
        again(number)

    for number in range(IN_FLIGHT):
        again(number)
    await over


def bare(port: int) -> float:
    """The same with sockets alone."""
    sockets, begun, done = BareSockets(port), 0, 0
    before_s = cpu_s()
    while done < PROBES:
        while begun < PROBES and begun - done < IN_FLIGHT:
            sockets.start(begun % IN_FLIGHT)
            begun += 1
        done += sockets.finish(1)
    return PROBES / (cpu_s() - before_s)


def main() -> None:
    """Print probes per CPU second of each, medians of interleaved rounds."""
    table, started_s = Table(), time.monotonic()
    with origin() as port, blackbox("modules: {http_2xx: {prober: http, timeout: 5s}}\n") as exporter:
        places = urls(port, IN_FLIGHT)
        arms: dict[str, Callable[[], float]] = {
            "gaia, new connection each": lambda: saturated(ours(places, "fresh")),
            "bare sockets, new each": lambda: bare(port),
            "aiohttp, new connection each": lambda: saturated(aiohttp_client(places, "fresh")),
            "gaia, kept": lambda: saturated(ours(places, "kept")),
            "aiohttp, kept": lambda: saturated(aiohttp_client(places, "kept")),
        }
        for _ in range(ROUNDS):
            for name, arm in arms.items():
                table.add(name, arm())
            if exporter is None:
                table.add("blackbox_exporter, new each", None)
            else:
                through = through_blackbox(exporter[0], places)
                rate = saturated(through, _BLACKBOX_PROBES, exporter[1])
                table.add("blackbox_exporter, new each", rate)
    print(f"HTTP probes per second of one core, {IN_FLIGHT} in flight, median [min-max] of {ROUNDS} rounds")
    for name in (*arms, "blackbox_exporter, new each"):
        table.row(name, ".0f", "limit 8000, at least" if name == "gaia, new connection each" else "")
    fresh = "gaia, new connection each"
    table.ratio("gaia / blackbox, new", fresh, "blackbox_exporter, new each", "5, at least")
    table.ratio("gaia / bare sockets, new", fresh, "bare sockets, new each", "0.5, at least")
    table.ratio("gaia / aiohttp, new", fresh, "aiohttp, new connection each")
    print(f"  (took {time.monotonic() - started_s:.0f} s)")
