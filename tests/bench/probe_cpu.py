"""CPU seconds per 1,000 HTTP probes: ours on new and kept connections, aiohttp, bare sockets, blackbox."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from agent.scheduler import Due, Scheduler
from checks.clock import SystemClock
from tests.bench.http_origin import origin
from tests.bench.probers import (
    BareSockets,
    Prober,
    Table,
    aiohttp_client,
    blackbox,
    cpu_s,
    ours,
    settle,
    through_blackbox,
    urls,
)
from tests.waiting import until

TARGETS = 1000
INTERVAL_S = 5.0
# After the first pass and the half interval it may be ahead of its grid.
_WARM_S = 6.0
_WINDOW_S = 5.0
_BARE_SLOT_S = 0.08
ROUNDS = 3


def steady(prober: Prober, targets: int, interval_s: float, pid: int | None = None) -> float:
    """CPU seconds per 1,000 probes of this process or of `pid`, on the agent's own schedule."""
    return asyncio.run(_steady(prober, targets, interval_s, pid))


async def _steady(prober: Prober, targets: int, interval_s: float, pid: int | None) -> float:
    begun = done = 0

    def finished() -> None:
        nonlocal done
        done += 1

    async with prober() as start:

        def due(one: Due[int]) -> None:
            nonlocal begun
            begun += 1
            start(one.key, finished)

        scheduler: Scheduler[int] = Scheduler(SystemClock(), due)
        scheduler.place(dict.fromkeys(range(targets), interval_s))
        await asyncio.sleep(_WARM_S)
        settle()
        before, before_s = done, cpu_s(pid)
        await asyncio.sleep(_WINDOW_S)
        used_s, probes = cpu_s(pid) - before_s, done - before
        scheduler.stop()
        await until(lambda: done == begun, within_s=10, what="the last probes")
    return used_s / probes * 1000


def bare(port: int) -> float:
    """The same pace with sockets alone, those of one slot together."""
    sockets, slots = BareSockets(port), round(_WINDOW_S / _BARE_SLOT_S)
    per_slot = round(TARGETS / INTERVAL_S * _BARE_SLOT_S)
    before_s, started_s = cpu_s(), time.monotonic()
    for slot in range(slots):
        time.sleep(max(0.0, started_s + slot * _BARE_SLOT_S - time.monotonic()))
        sockets.finish(0)
        for place in range(per_slot):
            sockets.start((slot * per_slot + place) % TARGETS)
    return (cpu_s() - before_s) / (slots * per_slot) * 1000


def main() -> None:
    """Print CPU s per 1,000 probes of each prober: median and spread of interleaved rounds."""
    table, started_s = Table(), time.monotonic()
    with origin() as port, blackbox("modules: {http_2xx: {prober: http, timeout: 5s}}\n") as exporter:
        places = urls(port, TARGETS)
        arms: dict[str, Callable[[], float]] = {
            "gaia, new connection each": lambda: steady(ours(places, "fresh"), TARGETS, INTERVAL_S),
            "gaia, kept, every 5th new": lambda: steady(ours(places, "mixed"), TARGETS, INTERVAL_S),
            "gaia, kept": lambda: steady(ours(places, "kept"), TARGETS, INTERVAL_S),
            "bare sockets, new each": lambda: bare(port),
            "aiohttp client, new each": lambda: steady(aiohttp_client(places, "fresh"), TARGETS, INTERVAL_S),
            "aiohttp client, kept": lambda: steady(aiohttp_client(places, "kept"), TARGETS, INTERVAL_S),
        }
        for _ in range(ROUNDS):
            for name, arm in arms.items():
                table.add(name, arm())
            if exporter is None:
                table.add("blackbox_exporter alone", None)
            else:
                through = through_blackbox(exporter[0], places)
                table.add("blackbox_exporter alone", steady(through, TARGETS, INTERVAL_S, exporter[1]))
    print(
        f"CPU s per 1,000 HTTP probes, the client alone, {TARGETS} targets each {INTERVAL_S:g} s,"
        f" median [min-max] of {ROUNDS} rounds; the limits are those of the whole agent"
    )
    notes = {"gaia, new connection each": "limit 0.35", "gaia, kept, every 5th new": "limit 0.20"}
    for name in (*arms, "blackbox_exporter alone"):
        table.row(name, ".3f", notes.get(name, ""))
    table.ratio("gaia / blackbox alone, new", "gaia, new connection each", "blackbox_exporter alone", "0.25")
    table.ratio("gaia / bare sockets, new", "gaia, new connection each", "bare sockets, new each")
    table.ratio("aiohttp / gaia, new", "aiohttp client, new each", "gaia, new connection each")
    print(f"  (took {time.monotonic() - started_s:.0f} s)")
