"""The page in a real browser: live, quiet, nothing from elsewhere, honest when the agent is gone."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from agent.web.server import WebOptions, serving
from tests.agent.web.browser import CHROMIUM, Tab, tab
from tests.agent.web.platform import refused, small, target

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)"
)


async def shown(page: Tab, expression: str, wanted: object, *, within_s: float) -> float:
    """Wait until an expression has a value; gives the seconds it took."""
    start = time.monotonic()
    while time.monotonic() - start < within_s:
        if await page.ask(expression) == wanted:
            return time.monotonic() - start
        await page.ask("new Promise(done => requestAnimationFrame(done))")
    raise AssertionError(
        f"{expression} is {await page.ask(expression)!r}, not {wanted!r}, after {within_s} s"
    )


async def test_a_change_is_shown_without_reloading_and_keeps_what_the_reader_opened(tmp_path: Path) -> None:
    platform = small()
    async with serving(platform, WebOptions(port=0)) as port, tab(tmp_path) as page:
        await page.open(f"http://127.0.0.1:{port}/")
        await shown(page, "document.querySelector('#live-t').textContent", "Live", within_s=5)
        await page.ask("document.getElementById('c.production.auth').open = true, window.same = 1")
        for _ in range(3):
            platform.look(target("chat").key, refused("chat.example"))
        headline = "document.querySelector('h1').textContent"
        took_s = await shown(page, headline, "Down: chat is down in production", within_s=5)
        assert await page.ask("document.getElementById('c.production.chat').dataset.s") == "down"
        assert await page.ask("document.getElementById('c.production.auth').open") is True
        assert await page.ask("window.same") == 1
        assert (
            await page.ask("document.querySelector('#polite').textContent")
            == "chat in production is now down"
        )
        assert await page.ask("document.querySelector('#fav').href.includes('C4161C')") is True
        assert page.problems == []
        assert {url.split("/")[2] for url in page.requests if url.startswith("http")} == {f"127.0.0.1:{port}"}
    assert took_s < 3


async def test_when_the_agent_goes_away_the_page_says_that_it_is_old(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        served = AsyncExitStack()
        port = await served.enter_async_context(serving(small(), WebOptions(port=0)))
        page = await stack.enter_async_context(tab(tmp_path))
        await page.open(f"http://127.0.0.1:{port}/")
        await shown(page, "document.querySelector('#live-t').textContent", "Live", within_s=5)
        # Nothing is being read at that moment, so nothing can arrive late.
        await shown(page, "document.querySelector('#live-a').textContent", "3 s ago", within_s=10)
        await served.aclose()
        # What would take 15 s of waiting: the page's own clock is moved on.
        await page.ask("(() => { const now = Date.now; Date.now = () => now() + 41000 })()")
        await shown(page, "document.body.classList.contains('is-lost')", True, within_s=5)
        assert await page.ask("document.querySelector('#live-t').textContent") == "Feed lost"
        visible = "getComputedStyle(document.querySelector('.stale')).display"
        assert await page.ask(visible) == "block"


async def test_nothing_is_wider_than_the_window(tmp_path: Path) -> None:
    platform = small()
    for _ in range(3):
        platform.look(target("chat").key, refused("http://a-very-long-name." * 8))
    async with serving(platform, WebOptions(port=0)) as port, tab(tmp_path) as page:
        await page.open(f"http://127.0.0.1:{port}/")
        for width in (360, 768, 1280, 1600):
            await page.call(
                "Emulation.setDeviceMetricsOverride",
                width=width,
                height=900,
                deviceScaleFactor=1,
                mobile=False,
            )
            root = "document.documentElement"
            assert await page.ask(f"{root}.scrollWidth <= {root}.clientWidth && innerWidth") == width
