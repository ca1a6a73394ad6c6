"""Services as processes: any start order, kill and return, drain without a lost request."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import pytest

from tests.servers import NatsServer, private_nats, private_postgres
from tests.services.running import PLATFORM_KEY, answers, environment, process
from tests.waiting import until

KEY = {"X-API-Key": PLATFORM_KEY}


async def health(http: aiohttp.ClientSession, url: str) -> tuple[int, dict[str, str]]:
    """Status code and the status of each check."""
    async with http.get(f"{url}/health") as response:
        document = await response.json(content_type="application/health+json")
        return response.status, {name: entries[0]["status"] for name, entries in document["checks"].items()}


async def test_scenario_07_a_service_starts_before_its_servers_and_survives_their_death(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with private_postgres(tmp_path) as postgres, private_nats(tmp_path) as nats:
        environ = environment(
            DATABASE_URL=postgres.url, NATS_URL=nats.url, ASSET_STORAGE=str(tmp_path / "assets")
        )
        postgres.kill()
        nats.kill()
        with (
            process("asset", environ) as asset,
            process("gateway", {**environ, "ASSET_URL": asset.url}) as gateway,
        ):
            await answers(http, f"{asset.url}/livez")
            await answers(http, f"{asset.url}/readyz", status=503)
            await answers(http, f"{asset.url}/startupz", status=503)
            # The gateway needs neither to pass requests on.
            await answers(http, f"{gateway.url}/readyz")
            code, checks = await health(http, asset.url)
            assert code == 503
            assert checks == {
                "postgresql:responseTime": "fail",
                "nats:responseTime": "fail",
                "storage:access": "pass",
            }
            await postgres.start_async()
            await nats.start_async()
            await answers(http, f"{asset.url}/readyz")
            await answers(http, f"{asset.url}/startupz")
            await answers(http, f"{asset.url}/health")
            postgres.kill()
            # Known at once, from the connection that ended, not at the next round of checks.
            start_s = time.monotonic()
            await answers(http, f"{asset.url}/readyz", status=503)
            assert time.monotonic() - start_s < 1.0
            async with http.get(f"{asset.url}/api/v1/assets", headers=KEY) as response:
                assert response.status == 503
                assert response.content_type == "application/problem+json"
            await answers(http, f"{asset.url}/livez")
            await postgres.start_async()
            await answers(http, f"{asset.url}/readyz")
            async with http.get(f"{asset.url}/api/v1/assets", headers=KEY) as response:
                assert response.status == 200
            asset.signal(signal.SIGTERM)
            assert asset.wait() == 0
            assert asset.errors == []


async def test_scenario_16_a_stream_ends_with_an_event_when_its_instance_leaves(
    database_url: str, nats_server: NatsServer, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    environ = environment(DATABASE_URL=database_url, NATS_URL=nats_server.url, GAIA_DEVELOPER=tmp_path.name)
    with process("chat", environ) as chat:
        await answers(http, f"{chat.url}/readyz")
        async with http.get(f"{chat.url}/api/v1/chat/rooms/lobby/events", headers=KEY) as response:
            assert await response.content.readline() == b"retry: 1000\n"
            chat.signal(signal.SIGTERM)
            rest = await response.content.read()
        assert rest == b'\nevent: goodbye\ndata: {"reconnect":true}\n\n'
        assert await asyncio.to_thread(chat.wait) == 0


async def test_scenario_18_at_log_level_warning_stdout_is_json_with_access_lines_and_without_secrets(
    database_url: str, nats_server: NatsServer, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    environ = environment(
        DATABASE_URL=database_url, NATS_URL=nats_server.url, LOG_LEVEL="WARNING",
        GAIA_DEVELOPER=tmp_path.name, SIGNING_SECRET="a very secret signing secret",
    )  # fmt: skip
    with process("auth", environ) as auth:
        await answers(http, f"{auth.url}/readyz")
        async with http.get(f"{auth.url}/api/v1/auth/me", headers=KEY) as response:
            assert response.status == 200
        async with http.get(
            f"{auth.url}/api/v1/auth/me?{PLATFORM_KEY}", headers={"X-API-Key": "nonsense"}
        ) as response:
            assert response.status == 401
        auth.signal(signal.SIGTERM)
        assert await asyncio.to_thread(auth.wait) == 0
        await until(lambda: len([line for line in auth.lines() if line["logger"] == "access"]) == 2)
    lines = [line for line in auth.lines() if line["logger"] == "access"]
    assert [
        (line["auth_type"], line["auth_subject"], line["auth_result"], line["auth_reason"]) for line in lines
    ] == [
        ("service", "platform", "allowed", ""),
        ("anonymous", "", "denied", "api_key"),
    ]
    assert all(line["level"] in {"WARNING", "ERROR"} for line in auth.lines() if line["logger"] != "access")
    text = b"".join(auth.output + auth.errors).decode()
    for secret in (PLATFORM_KEY, environ["SIGNING_SECRET"], "postgres:postgres@"):
        assert secret not in text


def test_a_service_imports_only_what_it_needs_to_listen() -> None:
    script = (
        "import sys; import services.gateway.service, services.instrumentation.launch; "
        "print([m for m in ('asyncpg', 'nats', 'opentelemetry', 'agent', 'checks') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == "[]\n"


async def test_a_stuck_event_loop_ends_the_process(tmp_path: Path) -> None:
    script = (
        "import asyncio, os, sys, time\n"
        "from aiohttp import web\n"
        "from services.instrumentation.kit import Instrumentation\n"
        "kit = Instrumentation.from_environment('shop', os.environ)\n"
        "app = web.Application()\n"
        "async def stuck():\n    await asyncio.sleep(0.1)\n    time.sleep(60)\n"
        "kit.in_background('stuck', stuck)\n"
        "kit.attach(app)\n"
        "sys.exit(kit.run(app))\n"
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, env={**environment(LOOP_LAG_LIMIT="1s"), "PATH": os.environ["PATH"]},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    async with asyncio.timeout(20):
        out, err = await child.communicate()
    assert child.returncode == 70
    events = [json.loads(line)["event"] for line in out.splitlines()]
    assert events[-1] == "loop.stuck"
    assert b"time.sleep" in err or b"stuck" in err


@pytest.mark.parametrize("service", ["gateway", "auth", "asset", "chat"])
def test_each_service_describes_its_api(service: str, tmp_path: Path) -> None:
    from services.instrumentation.kit import Instrumentation
    from services.instrumentation.settings import Settings
    from tests.services.running import BUILDERS

    kit = Instrumentation(Settings.from_environment(service, environment(ASSET_STORAGE=str(tmp_path))))
    app = BUILDERS[service](kit)
    document = json.loads(kit.description)
    assert document["openapi"] == "3.1.0"
    described = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    if service != "gateway":
        routed = {
            (route.resource.canonical, route.method)
            for route in app.router.routes()
            if route.resource is not None and route.resource.canonical.startswith("/api/")
        }
        assert described == routed
