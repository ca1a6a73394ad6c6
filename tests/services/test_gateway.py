"""The gateway in front of services that fail, hang, vanish and return."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web

from services.gateway.service import GatewayService
from services.instrumentation.breaker import BreakerState
from services.instrumentation.context import Identity
from services.instrumentation.kit import Instrumentation
from services.instrumentation.tokens import SigningKey, jwks
from tests.services.running import PLATFORM_KEY, Running, answers, environment, free_port, serving
from tests.waiting import until

KEY = SigningKey.generate("k1")
# Made when the tests are collected: it must outlive the longest run.
TOKEN = KEY.sign(
    Identity("user", "ada"), issuer="gaia-auth-dev", audience="gaia", lifetime_s=86_400, token_id="t1"
)
BEARER = {"Authorization": f"Bearer {TOKEN}"}
Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Upstream:
    """A service behind the gateway that does as told and remembers what it got."""

    port: int = field(default_factory=free_port)
    behaviour: Behaviour | None = None
    health: str = "pass"
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)
    runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port, backlog=1024).start()

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()
            self.runner = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.path in {"/readyz", "/health"}:
            if self.health == "hang":
                await asyncio.Event().wait()
            return web.json_response({"status": self.health}, status=503 if self.health == "fail" else 200)
        if request.path.endswith("jwks.json"):
            self.counted["jwks"] += 1
            return web.Response(body=msgspec.json.encode(jwks([KEY])))
        self.counted["calls"] += 1
        self.seen.append((request.raw_path, dict(request.headers)))
        if self.behaviour is not None:
            return await self.behaviour(request)
        return web.json_response({"path": request.raw_path, "body": (await request.read()).decode("latin-1")})


@dataclass(slots=True)
class Setup:
    gateway: Running
    auth: Upstream
    asset: Upstream
    chat: Upstream
    http: aiohttp.ClientSession
    service: GatewayService

    @property
    def url(self) -> str:
        return self.gateway.url

    async def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        async with self.http.get(f"{self.url}{path}", headers={**BEARER, **headers}) as response:
            return response.status, dict(response.headers), await response.read()

    def state(self, upstream: Upstream, name: str) -> float:
        where = {"upstream": name, "server_address": f"127.0.0.1:{upstream.port}"}
        return self.gateway.sample("circuit_breaker_state", where)


@asynccontextmanager
async def gateway_before(
    environ: dict[str, str], tmp_path: Path
) -> AsyncIterator[tuple[Running, GatewayService]]:
    made: list[GatewayService] = []

    def build(kit: Instrumentation) -> web.Application:
        made.append(GatewayService(kit))
        return made[0].application()

    async with serving("gateway", environ, tmp_path, build) as running:
        yield running, made[0]


@asynccontextmanager
async def setup(tmp_path: Path, http: aiohttp.ClientSession, **changes: str) -> AsyncIterator[Setup]:
    auth, asset, chat = Upstream(), Upstream(), Upstream()
    for upstream in (auth, asset, chat):
        await upstream.start()
    environ = environment(AUTH_URL=auth.url, ASSET_URL=asset.url, CHAT_URL=chat.url, **changes)
    try:
        async with gateway_before(environ, tmp_path) as (gateway, service):
            await answers(http, f"{gateway.url}/readyz")
            await until(lambda: auth.counted["jwks"] > 0)
            s = Setup(gateway, auth, asset, chat, http, service)
            await until(lambda: all(healthy(s, name) for name in service.pools))
            yield s
    finally:
        for upstream in (auth, asset, chat):
            await upstream.stop()


async def test_scenario_01_a_dead_service_opens_its_breaker_and_leaves_the_others_alone(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with setup(tmp_path, http) as s:
        await s.auth.stop()
        statuses = [(await s.get("/api/v1/auth/me"))[0] for _ in range(12)]
        assert set(statuses) == {503}
        assert s.state(s.auth, "auth") == 2
        start_s = time.monotonic()
        status, headers, body = await s.get("/api/v1/auth/me")
        assert time.monotonic() - start_s < 0.05
        assert (status, json.loads(body)["type"]) == (503, "urn:gaia:problem:upstream_breaker_open")
        assert 1 <= int(headers["Retry-After"]) <= 13
        # Its keys are in the cache: whoever is signed in still gets assets.
        assert (await s.get("/api/v1/assets"))[0] == 200


async def test_scenario_02_when_a_service_returns_three_probes_close_its_breaker_and_nobody_stampedes(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with setup(tmp_path, http, BREAKER_OPEN="100ms") as s:
        await s.asset.stop()
        for _ in range(12):
            await s.get("/api/v1/assets")
        (instance,) = s.service.pools["asset"].instances
        breaker = instance.upstream.breaker
        assert breaker.state is BreakerState.OPEN
        gate = asyncio.Event()

        async def wait(_request: web.Request) -> web.Response:
            await gate.wait()
            return web.Response()

        s.asset.behaviour = wait
        await s.asset.start()
        await until(lambda: breaker.retry_after_s(time.monotonic()) == 0)
        tasks = [asyncio.create_task(s.get("/api/v1/assets")) for _ in range(200)]
        await until(lambda: sum(task.done() for task in tasks) == 197)
        await until(lambda: s.asset.counted["calls"] == 3)
        gate.set()
        results = Counter([(await task)[0] for task in tasks])
        assert results == {200: 3, 503: 197}
        assert s.state(s.asset, "asset") == 0


async def test_scenario_03_a_thousand_clients_that_leave_open_no_breaker_and_keep_no_permit(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with setup(tmp_path, http) as s:

        async def never(_request: web.Request) -> web.Response:
            await asyncio.Event().wait()
            return web.Response()

        s.chat.behaviour = never
        for _ in range(20):
            tasks = [asyncio.create_task(s.get("/api/v1/chat/rooms")) for _ in range(50)]
            await until(lambda: s.chat.counted["calls"] == 50)
            s.chat.counted.clear()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        active = {"http_request_method": "GET"}
        await until(lambda: s.gateway.sample("http_server_active_requests", active) == 0, within_s=20)
        s.chat.behaviour = None
        assert s.state(s.chat, "chat") == 0
        assert (await s.get("/api/v1/chat/rooms"))[0] == 200


async def test_scenario_04_every_second_answer_failing_opens_the_breaker(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with setup(tmp_path, http) as s:

        async def alternate(_request: web.Request) -> web.Response:
            return web.Response(status=500 if s.asset.counted["calls"] % 2 else 200)

        s.asset.behaviour = alternate
        for _ in range(10):
            await s.get("/api/v1/assets")
        assert s.state(s.asset, "asset") == 2


@pytest.mark.parametrize(
    ("service", "expected"), [("asset", ("warn", 200)), ("chat", ("warn", 200)), ("auth", ("fail", 503))]
)
async def test_scenario_05_the_aggregate_is_as_bad_as_what_is_down_is_important(
    service: str, expected: tuple[str, int], tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with setup(tmp_path, http) as s:
        await {"asset": s.asset, "chat": s.chat, "auth": s.auth}[service].stop()
        await until(lambda: not healthy(s, service))
        async with http.get(f"{s.url}/health") as response:
            document = await response.json(content_type="application/health+json")
        assert (document["status"], response.status) == expected
        assert f"{service}:status" in document["output"]
        async with http.get(f"{s.url}/readyz") as response:
            assert response.status == 200


async def test_scenario_06_a_service_that_hangs_does_not_slow_the_aggregate(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with setup(tmp_path, http) as s:
        s.chat.health = "hang"
        await until(lambda: not healthy(s, "chat"))
        start_s = time.monotonic()
        async with http.get(f"{s.url}/health") as response:
            document = await response.json(content_type="application/health+json")
        assert time.monotonic() - start_s < 0.2
        assert document["checks"]["chat:status"][0]["status"] == "fail"
        assert document["checks"]["asset:status"][0]["status"] == "pass"


async def test_a_body_that_says_fail_behind_200_is_believed(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with setup(tmp_path, http) as s:
        s.asset.health = "warn"
        await until(lambda: not healthy(s, "asset"))
        async with http.get(f"{s.url}/health") as response:
            assert (await response.json(content_type="application/health+json"))["status"] == "warn"


TRICKS = (
    "/api/v1/auth/%2e%2e/%2e%2e/internal", "/api/v1/auth/../../internal", "/api/v1/auth/..%2finternal",
    "/api/v1/auth/..\\internal", "/api/v1/auth//internal", "/api/v1/assets/%252e%252e/x", "//internal",
)  # fmt: skip


@pytest.mark.parametrize("path", TRICKS)
async def test_scenario_11_path_tricks_never_reach_an_upstream(
    path: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with setup(tmp_path, http) as s:
        answer = await raw(s, f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400"), answer
        assert b"application/problem+json" in answer
        assert s.auth.seen + s.asset.seen + s.chat.seen == []


async def test_an_absolute_request_target_chooses_no_other_host(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with setup(tmp_path, http) as s:
        target = "http://evil.example/api/v1/assets"
        answer = await raw(s, f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n")
        assert b" 400 " in answer or b" 404 " in answer
        assert s.asset.seen == []


async def test_scenario_12_what_clients_say_about_themselves_is_dropped(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with setup(tmp_path, http) as s:
        lies = {
            "X-Auth-Subject": "admin", "X-Auth-Scopes": "admin", "X-Forwarded-For": "10.0.0.1",
            "X-Real-IP": "10.0.0.1",
            "Fly-Client-IP": "10.0.0.1", "Forwarded": "for=10.0.0.1", "X-Original-URL": "/internal",
            "Connection": "keep-alive, X-Drop-Me", "X-Drop-Me": "1", "TE": "trailers", "X-Kept": "yes",
        }  # fmt: skip
        assert (await s.get("/api/v1/assets", **lies))[0] == 200
        (_, headers) = s.asset.seen[0]
        for name in (
            "X-Auth-Subject",
            "X-Auth-Scopes",
            "X-Real-IP",
            "Fly-Client-IP",
            "Forwarded",
            "X-Original-URL",
        ):
            assert name not in headers
        assert not {"X-Drop-Me", "TE", "Keep-Alive"} & set(headers)
        assert (headers["X-Forwarded-For"], headers["X-Kept"]) == ("127.0.0.1", "yes")


async def test_bodies_and_compressed_answers_pass_byte_for_byte(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with setup(tmp_path, http) as s:
        body = bytes(range(256)) * 4096

        async def echo(request: web.Request) -> web.Response:
            response = web.Response(body=await request.read())
            response.enable_compression(web.ContentCoding.gzip)
            return response

        s.asset.behaviour = echo
        async with http.post(
            f"{s.url}/api/v1/assets", data=body, headers={**BEARER, "Accept-Encoding": "gzip"}
        ) as response:
            assert response.headers["Content-Encoding"] == "gzip"
            assert await response.read() == body


async def test_repeated_headers_stay_repeated_both_ways(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with setup(tmp_path, http) as s:
        got: list[list[str]] = []

        async def twice(request: web.Request) -> web.Response:
            got.append(request.headers.getall("X-Kept"))
            response = web.Response()
            for value in ("a=1", "b=2"):
                response.headers.add("Set-Cookie", value)
            return response

        s.asset.behaviour = twice
        lines = "X-Kept: 1\r\nX-Kept: 2\r\nConnection: keep-alive\r\nConnection: X-Drop-Me\r\nX-Drop-Me: 1"
        answer = await raw(
            s,
            f"GET /api/v1/assets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n{lines}\r\n\r\n",
        )
        assert got == [["1", "2"]]
        assert "X-Drop-Me" not in s.asset.seen[0][1]
        assert (answer.count(b"a=1"), answer.count(b"b=2")) == (1, 1)


async def test_a_stream_of_events_ends_with_one_when_the_gateway_leaves(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with setup(tmp_path, http) as s:
        second_half = asyncio.Event()

        async def events(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
            await response.prepare(request)
            await response.write(b"data: 1\n\ndata: half of ")
            await second_half.wait()
            await response.write(b"two\n\n")
            await asyncio.Event().wait()
            return response

        s.chat.behaviour = events
        async with http.get(f"{s.url}/api/v1/chat/rooms/x/events", headers=BEARER) as response:
            assert await response.content.readexactly(22) == b"data: 1\n\ndata: half of "[:22]
            stopping = asyncio.create_task(s.gateway.stop())
            # Not before the event in hand is whole.
            await until(lambda: not s.gateway.server.is_serving())
            second_half.set()
            rest = await response.content.read()
            await stopping
        assert rest == b' two\n\nevent: goodbye\ndata: {"reconnect":true}\n\n'


async def test_an_upstream_that_stops_in_the_middle_of_its_answer_is_cut_off(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with setup(tmp_path, http, UPSTREAM_IDLE="100ms") as s:

        async def stall(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            if "short" in request.path:
                response.content_length = 8
            await response.prepare(request)
            await response.write(b"half")
            await asyncio.Event().wait()
            return response

        s.asset.behaviour = stall
        with pytest.raises(aiohttp.ClientPayloadError):
            await s.get("/api/v1/assets/long")
        # A short answer is held back until it is whole: it can still become an error.
        status, _, body = await s.get("/api/v1/assets/short")
        assert (status, json.loads(body)["type"]) == (502, "urn:gaia:problem:upstream_broken")


async def test_a_client_that_stalls_in_the_middle_of_an_upload_is_told_so_and_no_instance_is_blamed(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with setup(tmp_path, http, BODY_TIMEOUT="100ms") as s:

        async def take(request: web.Request) -> web.Response:
            return web.Response(text=str(len(await request.read())))

        s.asset.behaviour = take
        head = (
            f"POST /api/v1/assets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 9"
        )
        answer = await raw(s, f"{head}\r\n\r\nab")
        assert b"urn:gaia:problem:slow_body" in answer, answer
        (instance,) = s.service.pools["asset"].instances
        assert (instance.failures, instance.upstream.breaker.state) == (0, BreakerState.CLOSED)


async def test_scenario_17_each_subject_has_its_own_rate_limit(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with setup(tmp_path, http, RATE_LIMIT="2/s") as s:
        statuses = [(await s.get("/api/v1/assets"))[0] for _ in range(6)]
        assert statuses[:4] == [200] * 4
        assert statuses[-1] == 429
        _, headers, body = await s.get("/api/v1/assets")
        assert (headers["Retry-After"], json.loads(body)["type"]) == ("1", "urn:gaia:problem:rate_limited")
        async with http.get(f"{s.url}/api/v1/assets", headers={"X-API-Key": PLATFORM_KEY}) as response:
            assert response.status == 200


async def test_traffic_moves_to_the_instance_that_is_ready(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    first, second = Upstream(), Upstream()
    await first.start()
    await second.start()
    auth = Upstream()
    await auth.start()
    urls = f"{first.url},{second.url}"
    environ = environment(AUTH_URL=auth.url, ASSET_URL=urls, CHAT_URL=urls)
    async with gateway_before(environ, tmp_path) as (gateway, service):
        s = Setup(gateway, auth, first, second, http, service)
        instances = service.pools["asset"].instances
        await until(lambda: all(instance.ready for instance in instances))
        assert [(await s.get("/api/v1/assets"))[0] for _ in range(10)] == [200] * 10
        assert first.counted["calls"] == second.counted["calls"] == 5
        first.health = "fail"
        await until(lambda: instances[0].ready is False)
        assert [(await s.get("/api/v1/assets"))[0] for _ in range(10)] == [200] * 10
        assert first.counted["calls"] == 5
        # Gone without a word: the connection is refused, the call is made again at the other.
        first.health = "pass"
        await until(lambda: instances[0].ready is True)
        await first.stop()
        assert [(await s.get("/api/v1/assets"))[0] for _ in range(4)] == [200] * 4
    await second.stop()
    await auth.stop()


async def test_nobody_gets_in_without_credentials(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with setup(tmp_path, http) as s:
        for headers, reason in (
            ({}, "missing"),
            ({"Authorization": "Basic YTpi"}, "missing"),
            ({"Authorization": f"Bearer {TOKEN[:-4]}AAAA"}, "signature"),
            ({"X-API-Key": "gaia_prod_abcdefabcdef_" + "0" * 38}, "api_key"),
        ):
            async with http.get(f"{s.url}/api/v1/assets", headers=headers) as response:
                problem = await response.json(content_type="application/problem+json")
            assert (response.status, problem["type"]) == (401, f"urn:gaia:problem:unauthorized_{reason}")
        assert s.asset.seen == []
        assert s.gateway.sample("auth_refusals_total", {"reason": "missing"}) == 2
        await until(lambda: s.gateway.log.read_text().count('"auth_result":"denied"') == 4)
        assert TOKEN[:40] not in s.gateway.log.read_text()


def healthy(s: Setup, service: str) -> bool:
    return s.gateway.sample("service_dependency_health", {"dependency": f"{service}:status"}) == 1


async def raw(s: Setup, request: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(s.url.rpartition(":")[2]))
    writer.write(request.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").encode())
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    return answer
