"""The API over a real server: what it answers, what it refuses, and what is never on it."""

from __future__ import annotations

import aiohttp
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.exposition.negotiation import Format
from agent.web.answers import ChecksAnswer, HistoryAnswer, StatusAnswer
from agent.web.routes import ROUTES
from agent.web.source import AgentPart, Change
from checks.finding import State
from tests.agent.web.conftest import TOKEN, client_of
from tests.agent.web.platform import START_S, Platform, database_down, up

BEARER = {"Authorization": f"Bearer {TOKEN}"}


async def test_status_says_that_all_is_well(client: aiohttp.ClientSession) -> None:
    async with client.get("/api/v1/status") as response:
        status = msgspec.json.decode(await response.read(), type=StatusAnswer)
    assert (response.status, status.ok, status.state) == (200, True, State.UP)
    assert status.headline == "Production is healthy"
    assert status.detail == "Production: 4 of 4 up. No alert is active."
    assert [(part.service, part.state) for part in status.environments[0].components] == [
        ("gateway", State.UP),
        ("auth", State.UP),
        ("chat", State.UP),
        ("postgres", State.UP),
    ]


async def test_status_names_the_cause_before_what_follows_from_it() -> None:
    async with client_of(database_down()) as client, client.get("/api/v1/status") as response:
        status = msgspec.json.decode(await response.read(), type=StatusAnswer)
    assert (status.ok, status.state) == (False, State.DOWN)
    assert status.headline == "postgres is down in production"
    assert status.detail == (
        "db.example:5432 refuses connections: nobody listens there, for 20 s. "
        "Auth and chat depend on it and suffer too. Gateway is up."
    )
    assert [part.service for part in status.environments[0].components] == [
        "postgres",
        "auth",
        "chat",
        "gateway",
    ]


@pytest.mark.parametrize(("fail_on", "code"), [("down", 503), ("degraded", 503), ("", 400), ("up", 400)])
async def test_status_can_answer_with_its_code(fail_on: str, code: int) -> None:
    async with (
        client_of(database_down()) as client,
        client.get(f"/api/v1/status?fail_on={fail_on}") as response,
    ):
        assert response.status == code


async def test_checks_are_filtered_and_paged(client: aiohttp.ClientSession) -> None:
    async with client.get("/api/v1/checks?limit=1&after=1&check=http&state=up") as response:
        page = msgspec.json.decode(await response.read(), type=ChecksAnswer)
    assert (page.total, page.next, [check.service for check in page.checks]) == (3, 2, ["auth"])
    assert page.checks[0].message == "answered 200 in 21 ms, threshold 2 s"
    async with client.get("/api/v1/checks?limit=none") as response:
        assert (response.status, await response.json(content_type=None)) == (
            400,
            {
                "type": "about:blank",
                "title": "Bad Request",
                "status": 400,
                "detail": "limit must be a number from 1 to 1000",
            },
        )


async def test_a_result_that_is_too_old_is_not_shown_as_up(platform: Platform) -> None:
    platform.wait(60)
    async with client_of(platform) as client, client.get("/api/v1/status") as response:
        status = msgspec.json.decode(await response.read(), type=StatusAnswer)
    assert (status.ok, status.state) == (False, State.UNKNOWN)
    assert {part.state for part in status.environments[0].components} == {State.UNKNOWN}
    assert status.environments[0].components[0].message == "last look 65 s ago, due every 10 s; it was up"
    assert status.environments[0].components[0].latency_s is None


async def test_history_has_looks_failures_and_days() -> None:
    platform = database_down()
    async with client_of(platform) as client:
        async with client.get("/api/v1/history?service=postgres&since_s=0&limit=5") as response:
            past = msgspec.json.decode(await response.read(), type=HistoryAnswer)
        async with client.get("/api/v1/history?service=nats") as response:
            assert response.status == 404
    assert [look.state for look in past.looks] == [State.UP] + [State.DOWN] * 4
    assert len(past.failures) == 4
    assert past.failures[0].finding.reason == "connection_refused"
    assert [(day.day, sum(day.looks.values())) for day in past.days] == [("2026-11-23", 7)]


async def test_the_agents_own_health() -> None:
    platform = Platform(
        parts=(
            AgentPart(name="history", state=State.UP, text="writing"),
            AgentPart(name="receiver:on_call", state=State.DEGRADED, text="two messages wait"),
        ),
        ready=False,
    )
    async with client_of(platform) as client:
        async with client.get("/livez") as response:
            assert (response.status, await response.text()) == (200, "ok\n")
        async with client.get("/readyz") as response:
            assert (response.status, await response.text()) == (
                503,
                "not ready\nreceiver:on_call: two messages wait\n",
            )
        async with client.get("/health") as response:
            document = await response.json(content_type="application/health+json")
    assert (response.status, document["status"]) == (200, "warn")
    assert document["checks"]["receiver:on_call"] == [
        {"status": "warn", "output": "two messages wait", "time": "2026-11-23T14:00:00.000+00:00"}
    ]


@pytest.mark.parametrize(
    ("accept", "form"),
    [("*/*", Format.TEXT), ("application/openmetrics-text;version=1.0.0;q=0.5", Format.OPEN_METRICS)],
)
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_metrics_are_negotiated(
    client: aiohttp.ClientSession, accept: str, form: Format, encoding: str
) -> None:
    async with client.get("/metrics", headers={"Accept": accept, "Accept-Encoding": encoding}) as response:
        text = await response.text()
    assert response.headers["Content-Type"] == form.value
    assert response.headers.get("Content-Encoding", "identity") == encoding
    assert [sample.value for family in text_string_to_metric_families(text) for sample in family.samples] == [
        1.0
    ]


async def test_a_change_is_recorded_only_with_the_token(
    platform: Platform, client: aiohttp.ClientSession
) -> None:
    body = {"env": "production", "service": "auth", "text": "v2 → v3", "author": "mira"}
    for headers, code in (
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": f"Basic {TOKEN}"}, 401),
        (BEARER, 201),
    ):
        async with client.post("/api/v1/changes", json=body, headers=headers) as response:
            assert response.status == code
    recorded = Change(
        at_s=platform.time_s, env="production", service="auth", kind="deploy", text="v2 → v3", author="mira"
    )
    assert platform.changed == [recorded]


async def test_without_a_token_nothing_is_written(platform: Platform) -> None:
    from agent.web.server import WebOptions, serving

    async with (
        serving(platform, WebOptions(port=0)) as port,
        aiohttp.ClientSession() as client,
        client.post(f"http://127.0.0.1:{port}/api/v1/changes", headers=BEARER, json={}) as response,
    ):
        assert response.status == 403
    assert platform.changed == []


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{", "the body is no change: Input data was truncated"),
        (b'{"env":"production"}', "the body is no change: Object missing required field `service`"),
        (b'{"env":"moon","service":"a","text":"b"}', "no environment 'moon' is watched here"),
        (b"\xff", "the body is no change: JSON is malformed: invalid character (byte 0)"),
    ],
)
async def test_a_wrong_change_is_refused_with_the_reason(
    client: aiohttp.ClientSession, body: bytes, detail: str
) -> None:
    async with client.post("/api/v1/changes", data=body, headers=BEARER) as response:
        assert (response.status, (await response.json(content_type=None))["detail"]) == (400, detail)


async def test_what_is_not_there_or_not_allowed_is_told_in_the_same_form(
    client: aiohttp.ClientSession,
) -> None:
    async with client.get("/nowhere") as response:
        assert (response.status, response.content_type) == (404, "application/problem+json")
    async with client.delete("/api/v1/changes") as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD, POST")
    async with client.post("/api/v1/changes", data=b"x" * 300_000, headers=BEARER) as response:
        assert response.status == 413
    async with client.get("/livez", headers={"X-Long": "x" * 9000}) as response:
        assert response.status == 431


async def test_every_answer_carries_the_protecting_headers(client: aiohttp.ClientSession) -> None:
    for path in ("/", "/livez", "/metrics", "/api/v1/status", "/nowhere", "/api/v1/openapi.json"):
        async with client.get(path) as response:
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Referrer-Policy"] == "no-referrer"
            assert "Access-Control-Allow-Origin" not in response.headers
            assert response.headers["Server"] == "gaia"


async def test_openapi_describes_every_address_of_the_api(client: aiohttp.ClientSession) -> None:
    async with client.get("/api/v1/openapi.json") as response:
        document = await response.json()
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(route.method, route.path) for route in ROUTES}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], (path, method)
    assert "TargetAnswer" in document["components"]["schemas"]


async def test_large_answers_are_packed(platform: Platform, client: aiohttp.ClientSession) -> None:
    for _ in range(3):
        for row in platform.board.rows():
            platform.look(row.target.key, up())
    async with client.get("/api/v1/checks") as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert (await response.json())["total"] == 4
    async with client.get("/api/v1/checks", headers={"Accept-Encoding": "identity"}) as response:
        assert "Content-Encoding" not in response.headers


async def test_head_answers_without_a_body(client: aiohttp.ClientSession) -> None:
    for path in ("/livez", "/metrics", "/api/v1/events"):
        async with client.head(path) as response:
            assert (response.status, await response.read()) == (200, b"")


async def test_a_handler_that_breaks_is_told_without_its_traceback(platform: Platform) -> None:
    class Broken(Platform):
        def silences(self) -> tuple[()]:
            raise RuntimeError("secret detail")

    async with client_of(Broken()) as client, client.get("/api/v1/silences") as response:
        assert response.status == 500
        assert "secret detail" not in await response.text()


async def test_the_configuration_is_shown_masked(client: aiohttp.ClientSession) -> None:
    async with client.get("/api/v1/config") as response:
        assert (await response.json())["receivers"] == {"on_call": {"notify": ["***"]}}


async def test_times_are_seconds_since_1970(client: aiohttp.ClientSession) -> None:
    async with client.get("/api/v1/checks?limit=1") as response:
        (check,) = (await response.json())["checks"]
    assert (check["since_s"], check["looked_s"]) == (START_S, START_S + 20)
