"""1,000 targets of which 200 hang, 50 drip and 20 have dead DNS: do the healthy ones keep time and truth?"""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
from contextlib import ExitStack, suppress

from checks.catalog import ProbeKit, kind
from checks.check import Check
from checks.clock import SystemClock
from checks.resolver import CachingResolver
from checks.target import Target
from tests.bench.http_origin import origin
from tests.bench.probers import settle, target
from tests.flown import flown

TARGETS, HANGING, DRIPPING, NAMELESS = 1000, 200, 50, 20
INTERVAL_S, ROUNDS, SLOT_S, DELAY_S = 5.0, 3, 0.02, 0.02


def _hostile(listener: socket.socket, piece: bytes) -> None:
    """Accepts; then sends nothing, or `piece` every 50 ms for ever."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await reader.readuntil(b"\r\n\r\n")
            if piece:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not writer.is_closing():
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.05 if piece else 3600)

    async def serve() -> None:
        await (await asyncio.start_server(handle, sock=listener)).serve_forever()

    asyncio.run(serve())


def _dead_nameserver() -> socket.socket:
    """A name server that takes questions and never answers."""
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    found.bind(("127.0.0.1", 0))
    return found


async def watch(
    ports: tuple[int, int, int], nameserver: str, *, hostile: bool
) -> tuple[list[float], list[float], int]:
    healthy, hanging, dripping = ports
    http = kind("http")
    kit = ProbeKit(clock=SystemClock(), resolver=CachingResolver(nameservers=(nameserver,)))
    places = [f"127.0.0.1:{healthy}"] * TARGETS
    if hostile:
        places[:HANGING] = [f"127.0.0.1:{hanging}"] * HANGING
        places[HANGING : HANGING + DRIPPING] = [f"127.0.0.1:{dripping}"] * DRIPPING
        for number in range(NAMELESS):
            places[HANGING + DRIPPING + number] = f"dead-{number}.test:80"
    bad = HANGING + DRIPPING + NAMELESS if hostile else 0
    watched: list[tuple[Target, Check, bool]] = []
    for number, place in enumerate(places):
        one = target(number, f"http://{place}/health")
        watched.append((one, http.build(one, http.options(url=one.address), kit), number >= bad))
    lags: list[float] = []
    errors: list[float] = []
    wrong = 0

    async def look(one: Target, check: Check, *, good: bool, due_s: float) -> None:
        nonlocal wrong
        lag_s = loop.time() - due_s
        seen = await flown(check, one, deadline_s=5.0, clock=kit.clock)
        if good:
            lags.append(lag_s)
            if seen.finding.latency_s is not None:
                errors.append(abs(seen.finding.latency_s - DELAY_S))
        wrong += good != (seen.finding.state == "up")

    loop = asyncio.get_running_loop()
    settle()
    order = [(number * 617) % TARGETS for number in range(TARGETS)]  # hostile ones spread over the slots
    per_slot = round(TARGETS * SLOT_S / INTERVAL_S)
    start = (loop.time() // SLOT_S + 2) * SLOT_S
    async with asyncio.TaskGroup() as group:
        for slot in range(round(ROUNDS * INTERVAL_S / SLOT_S)):
            due_s = start + slot * SLOT_S
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            for turn in range(per_slot):
                one, check, good = watched[order[(slot * per_slot + turn) % TARGETS]]
                group.create_task(look(one, check, good=good, due_s=due_s))
    await kit.resolver.close()  # type: ignore[attr-defined] # ours has one
    return sorted(lags), sorted(errors), wrong


def main() -> None:
    """Print schedule lag, latency error and wrong verdicts, with and without the hostile targets."""
    print(
        f"{TARGETS} targets each {INTERVAL_S:g} s, {HANGING} hang, {DRIPPING} drip, {NAMELESS} without DNS; "
        f"the healthy ones answer after {DELAY_S * 1000:.0f} ms"
    )
    context = multiprocessing.get_context("fork")
    with ExitStack() as stack:
        healthy = stack.enter_context(origin(delay_s=DELAY_S))
        ports = [healthy]
        for piece in (b"", b"a"):
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
            process = context.Process(target=_hostile, args=(listener, piece), daemon=True)
            process.start()
            stack.callback(process.kill)
            ports.append(listener.getsockname()[1])
        dead = stack.enter_context(_dead_nameserver())
        nameserver = f"127.0.0.1:{dead.getsockname()[1]}"
        for hostile in (False, True):
            lags, errors, wrong = asyncio.run(
                watch((ports[0], ports[1], ports[2]), nameserver, hostile=hostile)
            )
            name = "hostile" if hostile else "all healthy"
            print(f"  {name:12} lag {spread(lags)}; latency error {spread(errors)}; {wrong} wrong verdicts")
        print("  limits: lag p99 5 ms, no wrong verdict; the origin's own lateness is in the latency error")


def spread(figures: list[float]) -> str:
    """Median, 99th percentile and maximum of sorted seconds, in milliseconds."""
    p50, p99, most = figures[len(figures) // 2], figures[int(len(figures) * 0.99)], figures[-1]
    return f"p50 {p50 * 1e3:.2f} p99 {p99 * 1e3:.2f} max {most * 1e3:.1f} ms"
