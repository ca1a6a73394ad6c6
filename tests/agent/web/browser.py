"""A headless Chromium driven over its DevTools protocol: enough to open a page and ask it questions."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_WITHIN_S = 15.0


class Event(msgspec.Struct):
    """An event or an answer of the protocol."""

    id: int | None = None
    method: str = ""
    params: dict[str, object] = {}
    result: dict[str, object] = {}
    error: dict[str, object] | None = None


class Tab:
    """One page. `problems` collects console errors, policy violations and uncaught exceptions."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._last = 0
        self._waiting: dict[int, asyncio.Future[dict[str, object]]] = {}
        self.problems: list[str] = []
        self.requests: list[str] = []
        self.loaded = asyncio.Event()

    async def listen(self) -> None:
        """Take in what the browser says until it hangs up."""
        async for message in self._socket:
            event = msgspec.json.decode(message.data, type=Event)
            if event.id is not None and (waiter := self._waiting.pop(event.id, None)) is not None:
                waiter.set_result(event.result if event.error is None else {"error": event.error})
            elif event.method in {"Log.entryAdded", "Runtime.exceptionThrown"}:
                self.problems.append(str(event.params))
            elif event.method == "Network.requestWillBeSent":
                request = event.params["request"]
                assert isinstance(request, dict)
                self.requests.append(str(request["url"]))
            elif event.method == "Page.loadEventFired":
                self.loaded.set()

    async def call(self, method: str, **params: object) -> dict[str, object]:
        """One command of the protocol."""
        self._last += 1
        waiter: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()
        self._waiting[self._last] = waiter
        await self._socket.send_str(
            msgspec.json.encode({"id": self._last, "method": method, "params": params}).decode()
        )
        async with asyncio.timeout(_WITHIN_S):
            return await waiter

    async def open(self, url: str) -> None:
        """Load `url` and wait for its load event."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        self.loaded.clear()
        await self.call("Page.navigate", url=url)
        async with asyncio.timeout(_WITHIN_S):
            await self.loaded.wait()

    async def ask(self, script: str) -> object:
        """The value of a JavaScript expression; a promise is waited for."""
        answer = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        result = answer["result"]
        assert isinstance(result, dict)
        return result.get("value")


@asynccontextmanager
async def tab(folder: Path, *, width: int = 1280, height: int = 900) -> AsyncIterator[Tab]:
    """A fresh browser with one empty tab; `folder` holds its profile."""
    assert CHROMIUM is not None
    browser = await asyncio.create_subprocess_exec(
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", f"--window-size={width},{height}", f"--user-data-dir={folder}",
        "--remote-debugging-port=0", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert browser.stderr is not None
        async with asyncio.timeout(_WITHIN_S):
            line = b""
            while b"DevTools listening on" not in line:
                line = await browser.stderr.readline()
        port = int(line.decode().split("127.0.0.1:")[1].split("/")[0])
        draining = asyncio.create_task(_drain(browser.stderr))
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            async with client.get("/json") as response:
                pages = await response.json(content_type=None)
            address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
            async with client.ws_connect(address, max_msg_size=64 * 2**20) as socket:
                page = Tab(socket)
                listening = asyncio.create_task(page.listen())
                yield page
                listening.cancel()
        draining.cancel()
    finally:
        if browser.returncode is None:
            browser.kill()
        await browser.wait()


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.readline():
        continue
