"""The HTTP probers that are compared: ours as the agent runs it, aiohttp's client, bare sockets, blackbox."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import select
import shutil
import socket
import ssl
import statistics
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

from agent.local.ports import free_ports
from checks.catalog import ProbeKit, kind
from checks.clock import SystemClock
from checks.observation import Observation, observe_in_flight
from checks.resolver import CachingResolver
from checks.target import Kind, Target, TargetKey
from checks.wire.tls_options import TlsOptions

# Takes the number of a target, looks at it, and says when that is done.
Start = Callable[[int, Callable[[], None]], None]
Prober = Callable[[], AbstractAsyncContextManager[Start]]

_BARE: Final = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
_SO_TIMESTAMPNS: Final = 35


def target(number: int, url: str) -> Target:
    return Target(
        key=TargetKey(env="bench", service=f"s{number}", check="http", vantage="here"),
        kind=Kind.SERVICE,
        address=url,
    )


def address(number: int) -> str:
    """A loopback address of its own for each target, as real targets have."""
    return f"127.0.{1 + number // 250}.{1 + number % 250}"


def urls(port: int, targets: int, *, scheme: str = "http") -> list[str]:
    return [f"{scheme}://{address(number)}:{port}/health" for number in range(targets)]


def ours(places: list[str], connection: str, tls: TlsOptions | None = None) -> Prober:
    """Looks in flight, as the prober takes them."""

    @asynccontextmanager
    async def prober() -> AsyncIterator[Start]:
        http, clock = kind("http"), SystemClock()
        kit = ProbeKit(clock=clock, resolver=CachingResolver())
        targets = [target(number, url) for number, url in enumerate(places)]
        more = {} if tls is None else {"tls": tls}
        checks = [
            http.build(one, http.options(url=one.address, connection=connection, **more), kit)
            for one in targets
        ]

        def start(number: int, done: Callable[[], None]) -> None:
            def told(seen: Observation) -> None:
                assert seen.finding.state == "up", seen.finding.message
                done()

            observe_in_flight(checks[number], targets[number], told, deadline_s=6.0, clock=clock).start()

        try:
            yield start
        finally:
            for check in checks:
                await check.close()

    return prober


def aiohttp_client(places: list[str], connection: str, context: ssl.SSLContext | None = None) -> Prober:
    """aiohttp's client session, a task for each probe."""

    @asynccontextmanager
    async def prober() -> AsyncIterator[Start]:
        import aiohttp

        connector = aiohttp.TCPConnector(limit=0, force_close=connection == "fresh", ssl=context or True)
        timeout = aiohttp.ClientTimeout(total=5)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            asyncio.TaskGroup() as group,
        ):

            async def probe(number: int) -> None:
                async with session.get(places[number]) as answer:
                    assert (await answer.json(content_type=None))["status"] == "pass"

            yield in_tasks(group, probe)

    return prober


def in_tasks(group: asyncio.TaskGroup, probe: Callable[[int], Awaitable[None]]) -> Start:
    """Each probe in a task of its own."""

    async def held(number: int, done: Callable[[], None]) -> None:
        await probe(number)
        done()

    def start(number: int, done: Callable[[], None]) -> None:
        group.create_task(held(number, done))

    return start


class BareSockets:
    """Non-blocking sockets on one epoll and nothing else: what the kernel and the interpreter cost."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._epoll = select.epoll()
        self._open: dict[int, socket.socket] = {}
        self._buffer = bytearray(65536)

    def start(self, number: int) -> None:
        one = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        one.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        one.connect_ex((address(number), self._port))
        one.send(_BARE)
        self._open[one.fileno()] = one
        self._epoll.register(one.fileno(), select.EPOLLIN | select.EPOLLET)

    def finish(self, within_s: float) -> int:
        """Read and close what has been answered; how many that were."""
        ready = self._epoll.poll(within_s)
        for number, _ in ready:
            one = self._open.pop(number)
            assert one.recvmsg_into((self._buffer,), 64)[0]
            one.close()
        return len(ready)


@contextmanager
def blackbox(modules: str) -> Iterator[tuple[str, int] | None]:
    """The base URL and the process of a blackbox_exporter; None where there is none."""
    binary = shutil.which("prometheus-blackbox-exporter") or shutil.which("blackbox_exporter")
    if binary is None:
        yield None
        return
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="gaia-bench-") as folder:
        config = Path(folder) / "blackbox.yml"
        config.write_text(modules)
        listen = f"127.0.0.1:{port}"
        process = subprocess.Popen(
            [binary, f"--config.file={config}", f"--web.listen-address={listen}", "--log.level=error"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for(port)
            yield f"http://{listen}", process.pid
        finally:
            process.terminate()
            process.wait()


def through_blackbox(base: str, places: list[str], module: str = "http_2xx") -> Prober:
    """blackbox_exporter asked over connections that stay open; what asking costs is not its own."""

    @asynccontextmanager
    async def prober() -> AsyncIterator[Start]:
        import aiohttp

        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:

            async def probe(number: int) -> None:
                async with session.get(f"{base}/probe?module={module}&target={places[number]}") as answer:
                    assert "\nprobe_success 1" in await answer.text()

            yield in_tasks(group, probe)

    return prober


def _wait_for(port: int) -> None:
    end = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > end:
                raise
        else:
            return


def cpu_s(pid: int | None = None) -> float:
    """Processor seconds of this process, or of another."""
    if pid is None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def settle() -> None:
    """What the agent does after its start: what lives for ever is not collected again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


class Table:
    """Figures of interleaved rounds by name, printed with what they are held against."""

    def __init__(self) -> None:
        self._figures: dict[str, list[float]] = {}

    def add(self, name: str, figure: float | None) -> None:
        rounds = self._figures.setdefault(name, [])
        if figure is not None:
            rounds.append(figure)

    def median(self, name: str) -> float | None:
        rounds = self._figures[name]
        return statistics.median(rounds) if rounds else None

    def row(self, name: str, form: str, note: str = "") -> None:
        """Median and range of one name."""
        rounds = self._figures[name]
        if not rounds:
            print(f"  {name:32} not installed")
            return
        middle, least, most = (f"{one:{form}}" for one in (self.median(name), min(rounds), max(rounds)))
        print(f"  {name:32} {middle:>8} [{least}-{most}]  {note}")

    def ratio(self, words: str, one: str, other: str, limit: str = "") -> None:
        """How many times `other` is in `one`."""
        above, below = self.median(one), self.median(other)
        if above is None or below is None:
            print(f"  {words}: not to be compared here")
        else:
            print(f"  {words}: {above / below:.2f}" + (f" (limit {limit})" if limit else ""))
