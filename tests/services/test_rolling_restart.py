"""Two instances of a service restarted one after the other under load: nobody notices."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from tests.servers import NatsServer
from tests.services.running import PLATFORM_KEY, Process, answers, environment, free_port, process
from tests.waiting import until

KEY = {"X-API-Key": PLATFORM_KEY}
CLIENTS = 40
REQUESTS = {
    "auth": ("GET", "/api/v1/auth/me", 200),
    "asset": ("GET", "/api/v1/assets", 200),
    "chat": ("POST", "/api/v1/chat/rooms/lobby/messages", 202),
    "gateway": ("GET", "/api/v1/assets", 200),
}
BODIES = {"chat": {"text": "still here?"}}


@dataclass(slots=True)
class Balancer:
    """What stands before two gateways: sends to those whose `/readyz` said yes within the last 0.2 s."""

    urls: list[str]
    ready: list[str] = field(default_factory=list)
    turn: int = 0

    async def watch(self, session: aiohttp.ClientSession) -> None:
        while True:
            self.ready = [url for url in self.urls if await self._is_ready(session, url)] or self.urls
            await asyncio.sleep(0.2)

    async def _is_ready(self, session: aiohttp.ClientSession, url: str) -> bool:
        try:
            async with session.get(f"{url}/readyz") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    def choose(self) -> str:
        self.turn += 1
        return self.ready[self.turn % len(self.ready)]


@dataclass(slots=True)
class Load:
    """Forty clients on kept connections, and what they were answered."""

    service: str
    balancer: Balancer
    results: Counter[int | str] = field(default_factory=Counter)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def client(self, session: aiohttp.ClientSession) -> None:
        method, path, _ = REQUESTS[self.service]
        while not self.stop.is_set():
            try:
                async with session.request(
                    method, f"{self.balancer.choose()}{path}", headers=KEY, json=BODIES.get(self.service)
                ) as response:
                    body = await response.read()
                    outcome: int | str = (
                        response.status if response.status < 300 else f"{response.status} {body[:200]!r}"
                    )
            except aiohttp.ClientError as error:
                outcome = repr(error)
            self.results[outcome] += 1
            await asyncio.sleep(0.2)

    async def a_hundred_more(self) -> None:
        before = self.results.total()
        await until(lambda: self.results.total() > before + 100, within_s=20)


@pytest.mark.parametrize("service", REQUESTS)
async def test_scenario_16_a_rolling_restart_of_two_instances_loses_no_request(
    service: str, database_url: str, nats_server: NatsServer, tmp_path: Path
) -> None:
    ports = [free_port(), free_port()]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    environ = environment(
        DATABASE_URL=database_url, NATS_URL=nats_server.url, ASSET_STORAGE=str(tmp_path / "assets"),
        GAIA_DEVELOPER=tmp_path.name, DRAIN_DELAY="1500ms", RATE_LIMIT="100000/s",
        LOG_LEVEL="WARNING", DATABASE_POOL_MAX="16",
    )  # fmt: skip
    with ExitStack() as stack:

        def started(name: str, port: int = 0) -> Process:
            return stack.enter_context(process(name, environ, port=port))

        if service == "gateway":
            others = [started("asset")]
            environ["ASSET_URL"] = others[0].url
            instances = [started("gateway", port) for port in ports]
            gateways = instances
        else:
            environ[f"{service.upper()}_URL"] = ",".join(urls)
            instances = [started(service, port) for port in ports]
            gateways = others = [started("gateway")]
        load = Load(service, Balancer([one.url for one in gateways]))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            for one in (*instances, *others):
                await answers(session, f"{one.url}/readyz", within_s=30)
            watching = asyncio.create_task(load.balancer.watch(session))
            await until(lambda: bool(load.balancer.ready))
            clients = [asyncio.create_task(load.client(session)) for _ in range(CLIENTS)]
            for one in instances:
                await load.a_hundred_more()
                one.signal(signal.SIGTERM)
                assert await asyncio.to_thread(one.wait, 15) == 0
                one.start()
                await answers(session, f"{one.url}/readyz", within_s=30)
            await load.a_hundred_more()
            load.stop.set()
            await asyncio.gather(*clients)
            watching.cancel()
    assert set(load.results) == {REQUESTS[service][2]}, load.results
    assert load.results.total() > 300
