"""Error of the measured latency: 50 ms injected, quiet and with our process stopped 60 ms of every 100."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from checks.catalog import ProbeKit, kind
from checks.clock import SystemClock
from checks.resolver import CachingResolver
from tests.bench.probe_cpu import target

SO_TIMESTAMPNS = 35
DELAY_S = 0.05
PROBES = 200
PACE_S = 0.02


def _throttle(pid: int) -> None:
    while True:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.06)
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.04)


@contextmanager
def throttled(*, on: bool) -> Iterator[None]:
    """This process gets 40 % of a core, in pieces, as on a shared machine out of quota."""
    if not on:
        yield
        return
    stopper = multiprocessing.get_context("fork").Process(target=_throttle, args=(os.getpid(),), daemon=True)
    stopper.start()
    try:
        yield
    finally:
        stopper.kill()
        stopper.join()
        os.kill(os.getpid(), signal.SIGCONT)


def _answer(connection: socket.socket) -> None:
    """Answers after DELAY_S, and says how long it really took since the request reached this machine."""
    with connection, suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        _, ancillary, _, _ = connection.recvmsg(65536, 64)
        arrived_s = time.time()
        for _, kind_, data in ancillary:
            if kind_ == SO_TIMESTAMPNS:
                seconds, nanoseconds = struct.unpack_from("qq", data)
                arrived_s = seconds + nanoseconds / 1e9
        time.sleep(max(0.0, DELAY_S - (time.time() - arrived_s)))
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        template = b'{"status":"pass","checks":{"delay":[{"status":"pass","output":"%.9f"}]}}'
        body = template % (time.time() - arrived_s)
        connection.sendall(head % len(body) + body)


def _serve(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_answer, args=(connection,), daemon=True).start()


@contextmanager
def truthful_origin() -> Iterator[int]:
    """The port of a server that knows how slow it was."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        process = multiprocessing.get_context("fork").Process(target=_serve, args=(listener,), daemon=True)
        process.start()
        try:
            yield listener.getsockname()[1]
        finally:
            process.kill()
            process.join()


async def paced(probe: Any) -> list[float]:
    """Errors of PROBES probes started every PACE_S seconds."""
    loop = asyncio.get_running_loop()
    tasks = []
    start = loop.time()
    for number in range(PROBES):
        await asyncio.sleep(max(0.0, start + number * PACE_S - loop.time()))
        tasks.append(loop.create_task(probe()))
    return list(await asyncio.gather(*tasks))


async def ours(port: int) -> list[float]:
    http = kind("http")
    kit = ProbeKit(clock=SystemClock(), resolver=CachingResolver())
    url = f"http://127.0.0.1:{port}/health"
    check = http.build(target(0, url), http.options(url=url), kit)

    async def probe() -> float:
        finding = await check.probe()
        assert finding.latency_s is not None
        error: float = finding.latency_s - float(finding.claims[0].output)
        return error

    return await paced(probe)


async def theirs(port: int) -> list[float]:
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0)) as session:

        async def probe() -> float:
            started = time.monotonic()
            async with session.get(f"http://127.0.0.1:{port}/health") as answer:
                told = await answer.json(content_type=None)
            return time.monotonic() - started - float(told["checks"]["delay"][0]["output"])

        return await paced(probe)


def main() -> None:
    """Print median and 99th percentile of |measured - true|, in milliseconds."""
    print(f"|measured - true latency of about {DELAY_S * 1000:.0f} ms| in ms, {PROBES} new connections")
    with truthful_origin() as port:
        for on in (False, True):
            for name, arm in (("gaia", ours), ("aiohttp client", theirs)):
                with throttled(on=on):
                    measured = asyncio.run(arm(port))
                errors = sorted(abs(one) * 1000 for one in measured)
                condition = "throttled to 40 %" if on else "undisturbed"
                print(
                    f"  {condition:18} {name:15} p50 {errors[len(errors) // 2]:7.3f}  "
                    f"p99 {errors[int(len(errors) * 0.99)]:7.3f}"
                )
