"""The twenty acceptance scenarios of the services: each is a test whose name says its number."""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from collections import Counter
from pathlib import Path

import aiohttp

from services.instrumentation.breaker import BreakerPolicy
from tests.servers import NatsServer
from tests.services.conftest import sign_in
from tests.services.running import answers, environment, process, serving
from tests.waiting import until

RATE = 50


def test_every_scenario_has_a_test() -> None:
    texts = [file.read_text("utf-8") for file in Path(__file__).parent.glob("test_*.py")]
    found = {int(number) for text in texts for number in re.findall(r"def test_scenario_(\d\d)_", text)}
    assert found == set(range(1, 21))


async def test_scenario_01_auth_killed_under_load_opens_its_breaker_within_the_fewest_calls_that_count(
    database_url: str, nats_server: NatsServer, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    environ = environment(
        DATABASE_URL=database_url, NATS_URL=nats_server.url, ASSET_STORAGE=str(tmp_path / "assets"),
        GAIA_DEVELOPER=tmp_path.name, BREAKER_OPEN="60s",
    )  # fmt: skip
    with process("auth", environ) as auth:
        environ["AUTH_URL"] = auth.url
        await answers(http, f"{auth.url}/readyz")
        async with serving("asset", environ, tmp_path) as asset:
            environ["ASSET_URL"] = asset.url
            async with serving("gateway", environ, tmp_path) as gateway:
                for one in (asset, gateway):
                    await answers(http, f"{one.url}/readyz")
                user = await sign_in(http, gateway.url)
                where = {"upstream": "auth", "server_address": auth.url.removeprefix("http://")}
                got: Counter[int] = Counter()
                retry_after: set[str] = set()

                async def ask() -> None:
                    async with http.get(f"{gateway.url}/api/v1/auth/me", headers=user.headers) as response:
                        got[response.status] += 1
                        if response.status == 503:
                            retry_after.add(response.headers.get("Retry-After", ""))

                async def load() -> None:
                    start_s = time.monotonic()
                    for number in range(100_000):
                        # Open loop: fifty a second whatever becomes of them.
                        await asyncio.sleep(max(0.0, start_s + number / RATE - time.monotonic()))
                        calls.create_task(ask())

                async with asyncio.TaskGroup() as calls:
                    loading = calls.create_task(load())
                    await until(lambda: got[200] > 50)
                    auth.kill()
                    await until(lambda: gateway.sample("circuit_breaker_state", where) == 2)
                    await until(lambda: got[503] > 50)
                    loading.cancel()
                failed = sum(
                    gateway.sample(
                        "http_client_request_duration_seconds_count",
                        {
                            "http_request_method": "GET", "server_address": where["server_address"],
                            "http_response_status_code": "", "error_type": kind,
                        },
                    )
                    for kind in ("connect_failed", "connection_broken")
                )  # fmt: skip
                # A call that was under way when it died may count before the refused ones.
                assert BreakerPolicy().min_calls <= failed <= BreakerPolicy().min_calls + 2
                assert set(got) == {200, 503}
                assert all(1 <= int(value) <= 75 for value in retry_after)
                quick = [
                    line["duration_ms"]
                    for line in gateway.lines()
                    if line["logger"] == "access" and line["status"] == 503
                ]
                assert statistics.median(quick[-50:]) < 50
                async with http.get(f"{gateway.url}/api/v1/assets", headers=user.headers) as response:
                    assert response.status == 200
