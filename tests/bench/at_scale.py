"""10,000 checks / 10 s while scraped, and 50: bytes per further check, CPU, lateness, the longest stall."""

from __future__ import annotations

import asyncio
import multiprocessing
import re
import threading
import time
import urllib.request
from multiprocessing.connection import Connection
from pathlib import Path

from msgspec import Struct

from agent.local.ports import free_ports
from tests.bench.agent_process import AgentProcess, agent_process
from tests.bench.http_origin import address_of, origin, raise_file_limit

_FEW, _MANY = 50, 10_000
_INTERVAL_S = 10
_WARM_S = 25.0
_SCRAPE_EVERY_S = 15.0
_SCRAPES = 3
# A second look at the page shows how late the looks were that were due while the first was written.
_LOOK_AGAIN_S = 5.0
_SLOT_S = 0.02
_LAGS = re.compile(rb"^gaia_probe_schedule_lag_seconds\{[^}]*\} (\S+)$", re.MULTILINE)
_SUCCESS = re.compile(rb"^probe_success\{[^}]*\} 1$", re.MULTILINE)


class Seen(Struct, frozen=True, kw_only=True):
    """One arm. `lags_s` are in ascending order: the agent's looks', and those of an idle loop beside it."""

    rss_kib: int
    share: float
    lags_s: list[float]
    idle_lags_s: list[float]
    up: int
    page_bytes: int


def main() -> None:
    """Print each figure beside its limit."""
    raise_file_limit()
    with origin() as port:
        few = _arm(port, _FEW)
        many = _arm(port, _MANY)
    further = (many.rss_kib - few.rss_kib) * 1024 / (_MANY - _FEW)
    print(f"{_FEW} checks / {_INTERVAL_S} s: RSS {few.rss_kib / 1024:.1f} MiB (limit 48)")
    print(
        f"{_MANY:,} checks / {_INTERVAL_S} s: RSS {many.rss_kib / 1024:.0f} MiB (limit 120),"
        f" {further:,.0f} bytes per further check (limit 8,000); {many.up:,} answer"
    )
    print(
        f"  {many.share:.1%} of a core (limit 25 %), scraped every {_SCRAPE_EVERY_S:.0f} s:"
        f" {many.page_bytes / 2**20:.0f} MiB a page"
    )
    print(
        f"  lateness p99 {_p99_ms(many.lags_s):.1f} ms (limit 25), longest {many.lags_s[-1] * 1000:.0f} ms"
        f" (limit 20); an idle loop beside it, on this machine: p99 {_p99_ms(many.idle_lags_s):.1f} ms,"
        f" longest {many.idle_lags_s[-1] * 1000:.0f} ms"
    )


def _arm(port: int, checks: int) -> Seen:
    (listen,) = free_ports(1)
    services = "\n".join(
        f'  s{number}: {{url: "http://{address_of(number)}:{port}", http: {{heartbeat: 0s}}}}'
        for number in range(checks)
    )
    text = (
        f"platform: bench\nenvironments: {{production: {{alias: prod, check_interval: {_INTERVAL_S}s}}}}\n"
        f"services:\n{services}\nagent: {{listen: '127.0.0.1:{listen}', otlp_listen: null}}\n"
    )
    with agent_process(text) as agent:
        agent.wait_for("web.started", within_s=120)
        threading.Event().wait(_WARM_S)
        with _idle_loop() as idle:
            return _measure(agent, listen, idle)


def _measure(agent: AgentProcess, port: int, idle: Connection) -> Seen:
    before_s, started_s = agent.cpu_s, time.monotonic()
    lags_s: list[float] = []
    page = b""
    for _ in range(_SCRAPES):
        threading.Event().wait(_SCRAPE_EVERY_S - _LOOK_AGAIN_S)
        _page(port)
        threading.Event().wait(_LOOK_AGAIN_S)
        page = _page(port)
        lags_s += [float(lag) for lag in _LAGS.findall(page)]
    share = (agent.cpu_s - before_s) / (time.monotonic() - started_s)
    idle.send(None)
    return Seen(
        rss_kib=_rss_kib(agent.process.pid),
        share=share,
        lags_s=sorted(lags_s),
        idle_lags_s=idle.recv(),
        up=len(_SUCCESS.findall(page)),
        page_bytes=len(page),
    )


def _page(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        text: bytes = answer.read()
    return text


def _rss_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])


def _p99_ms(ordered_s: list[float]) -> float:
    return ordered_s[int(0.99 * (len(ordered_s) - 1))] * 1000


class _idle_loop:  # noqa: N801 - a context manager, used as one
    """A process that does nothing but ask to be woken every slot; gives its lags when told to end."""

    def __enter__(self) -> Connection:
        self._ours, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("fork").Process(
            target=lambda: asyncio.run(_beat(theirs)), daemon=True
        )
        self._process.start()
        return self._ours

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()


async def _beat(told: Connection) -> None:
    lags_s: list[float] = []
    loop = asyncio.get_running_loop()
    while not told.poll():
        due_s = loop.time() + _SLOT_S
        await asyncio.sleep(_SLOT_S)
        lags_s.append(max(0.0, loop.time() - due_s))
    told.send(sorted(lags_s))
