"""Error of the measured latency: 50 ms injected, quiet and with the prober stopped 60 ms of every 100."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import re
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from checks.catalog import ProbeKit, kind
from checks.clock import SystemClock
from checks.resolver import CachingResolver
from tests.bench.probers import blackbox, target
from tests.flown import flown

SO_TIMESTAMPNS = 35
_PROCESSING = re.compile(r'^probe_http_duration_seconds\{phase="processing"\} (\S+)$', re.MULTILINE)
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
def throttled(pid: int, *, on: bool) -> Iterator[None]:
    """The process gets 40 % of a core, in pieces, as on a shared machine out of quota."""
    if not on:
        yield
        return
    stopper = multiprocessing.get_context("fork").Process(target=_throttle, args=(pid,), daemon=True)
    stopper.start()
    try:
        yield
    finally:
        stopper.kill()
        stopper.join()
        os.kill(pid, signal.SIGCONT)


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
    one = target(0, url)
    check = http.build(one, http.options(url=url), kit)

    async def probe() -> float:
        finding = (await flown(check, one, deadline_s=5.0, clock=kit.clock)).finding
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


async def blackboxs(base: str, port: int) -> list[float]:
    """blackbox_exporter's `processing` phase; it hands no body on, so it is held against 50 ms."""
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def probe() -> float:
            url = f"{base}/probe?module=http_2xx&target=http://127.0.0.1:{port}/health"
            async with session.get(url) as answer:
                found = _PROCESSING.search(await answer.text())
            assert found is not None
            return float(found[1]) - DELAY_S

        return await paced(probe)


def main() -> None:
    """Print median and 99th percentile of |measured - true|, in milliseconds."""
    print(f"|measured - true latency of about {DELAY_S * 1000:.0f} ms| in ms, {PROBES} new connections")
    modules = "modules: {http_2xx: {prober: http, timeout: 5s}}\n"
    with truthful_origin() as port, blackbox(modules) as exporter:
        arms: dict[str, tuple[int, Callable[[], Coroutine[Any, Any, list[float]]]]] = {
            "gaia": (os.getpid(), lambda: ours(port)),
            "aiohttp client": (os.getpid(), lambda: theirs(port)),
        }
        if exporter is not None:
            base, pid = exporter
            arms["blackbox_exporter"] = (pid, lambda: blackboxs(base, port))
        for on in (False, True):
            for name, (pid, arm) in arms.items():
                with throttled(pid, on=on):
                    measured = asyncio.run(arm())
                errors = sorted(abs(one) * 1000 for one in measured)
                condition = "throttled to 40 %" if on else "undisturbed"
                print(
                    f"  {condition:18} {name:18} p50 {errors[len(errors) // 2]:7.3f}  "
                    f"p99 {errors[int(len(errors) * 0.99)]:7.3f}"
                    + ("  (limit p99 1)" if on and name == "gaia" else "")
                )
    if exporter is None:
        print("  blackbox_exporter is not installed")
