"""The status page with 10,000 targets: bytes, rendering, first view and a change shown, in a real browser."""

from __future__ import annotations

import asyncio
import gzip
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from agent.web.server import WebOptions, serving
from tests.agent.web.browser import CHROMIUM, tab
from tests.agent.web.platform import Platform, refused, target, up

_TARGETS = 10_000
_FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def main() -> None:
    asyncio.run(_measure())


def _fleet() -> Platform:
    platform = Platform()
    platform.place(*((target(f"service-{number:05d}"), ()) for number in range(_TARGETS)))
    for number, row in enumerate(platform.board.rows()):
        platform.look(row.target.key, up(0.02 + number % 97 / 1000))
    for number in range(0, _TARGETS, 97):
        for _ in range(2):
            platform.look(target(f"service-{number:05d}").key, refused("service"))
    return platform


async def _measure() -> None:
    platform = _fleet()
    async with serving(platform, WebOptions(port=0)) as port:
        url = f"http://127.0.0.1:{port}/"
        await _server_side(url)
        if CHROMIUM is None:
            print("first view: chromium is not installed (apt-get install chromium)")
            return
        with tempfile.TemporaryDirectory() as folder:
            async with tab(Path(folder)) as page:
                platform.wait(2)  # Whatever was rendered a moment ago is too old now.
                await page.open(url)
                painted_ms = await page.ask(_FIRST_PAINT)
                nodes = await page.ask("document.querySelectorAll('*').length")
                assert isinstance(painted_ms, (int, float))
                first = f"first view {painted_ms / 1000:.2f} s, {nodes} nodes"
                print(f"{first} (limit 1 s; Uptime Kuma 45-50 s at 700-1,855)")
                await _change(platform, page.ask)


async def _server_side(url: str) -> None:
    async with aiohttp.ClientSession() as client:
        start = time.process_time()
        async with client.get(url, headers={"Accept-Encoding": "identity"}) as response:
            body = await response.read()
        cpu_ms = (time.process_time() - start) * 1000
        start = time.process_time()
        async with client.get(url) as response:
            await response.read()
        again_ms = (time.process_time() - start) * 1000
    print(
        f"{_TARGETS} targets: {len(body) / 1024:.0f} KiB, {len(gzip.compress(body, 1)) / 1024:.0f} KiB sent; "
        f"rendered with {cpu_ms:.0f} ms CPU, shared by all readers for 1 s ({again_ms:.1f} ms)"
    )


async def _change(platform: Platform, ask: Callable[[str], Awaitable[object]]) -> None:
    await asyncio.sleep(2)
    start = time.monotonic()
    for _ in range(3):
        platform.look(target("service-00001").key, refused("service"))
    while not await ask("document.getElementById('c.production.service-00001')?.dataset.s === 'down'"):
        if time.monotonic() - start > 10:
            print("change not shown within 10 s")
            return
    print(f"a change is shown after {time.monotonic() - start:.2f} s (limit 1 s)")
