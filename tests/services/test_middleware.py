"""What the kit does around any aiohttp application's requests."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from unittest.mock import Mock

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from services.instrumentation.context import parse_traceparent
from services.instrumentation.deadline import remaining_s
from services.instrumentation.faults import FaultSwitch
from services.instrumentation.kit import Instrumentation
from services.instrumentation.metrics import OPENMETRICS, TEXT, prefers_openmetrics
from services.instrumentation.problem import ProblemError
from tests.services.running import Running, environment, serving
from tests.waiting import until

REQUESTS = "http_server_request_duration_seconds_count"
REFUSED = "http_server_refused_requests_total"


def shop(kit: Instrumentation) -> web.Application:
    """Anybody's application, instrumented in one line."""

    async def item(request: web.Request) -> web.Response:
        return web.json_response({"item": request.match_info["name"], "left_s": remaining_s(60.0)})

    async def broken(_request: web.Request) -> web.Response:
        raise ValueError("a secret detail")

    async def slow(_request: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        raise ValueError("broke off")

    app = web.Application()
    app.router.add_get("/items/{name}", item)
    app.router.add_get("/broken", broken)
    app.router.add_get("/slow", slow)
    app.router.add_get("/stream", stream)
    kit.attach(app)
    return app


def labels(status: int, route: str, *, error: str = "", method: str = "GET") -> dict[str, str]:
    return {
        "http_request_method": method, "http_route": route, "http_response_status_code": str(status),
        "error_type": error,
    }  # fmt: skip


async def test_scenario_13_an_unhandled_exception_is_a_500_that_all_signals_agree_on(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with serving("shop", environment(), tmp_path, shop) as running:
        async with http.get(f"{running.url}/broken") as response:
            problem = await response.json(content_type="application/problem+json")
        trace_id = problem.pop("trace_id")
        assert problem == {
            "type": "urn:gaia:problem:internal_server_error",
            "title": "Internal Server Error",
            "status": 500,
            "detail": "an unexpected error; its log carries this trace_id",
        }
        assert running.sample(REQUESTS, labels(500, "/broken", error="ValueError")) == 1
        (span,) = running.spans.spans
        assert (span.name, span.error, span.context.trace_id) == ("GET /broken", "ValueError", trace_id)
        assert span.attributes["http.response.status_code"] == 500
        await until(lambda: running.log.read_text().count("\n") >= 1)
        (line,) = [line for line in running.lines() if line["logger"] == "access"]
        assert (line["trace_id"], line["status"], line["error_type"]) == (trace_id, 500, "ValueError")


async def test_scenario_14_ten_thousand_unknown_paths_and_methods_add_one_series_each(tmp_path: Path) -> None:
    async with serving("shop", environment(), tmp_path, shop) as running:

        def everything() -> set[tuple[str, tuple[tuple[str, str], ...]]]:
            found = running.kit.metrics.registry.collect()
            return {(s.name, tuple(sorted(s.labels.items()))) for metric in found for s in metric.samples}

        await pipelined(running, [f"GET /no/{number}" for number in range(10)])
        once = everything()
        await pipelined(running, [f"GET /no/{number}/{number}" for number in range(10_000)])
        assert everything() == once
        assert running.sample(REQUESTS, labels(404, "__unmatched__")) == 10_012
        before = running.series(REQUESTS)
        methods = itertools.cycle(("PROPFIND", "MKCOL", "LOCK", "REPORT", "SUBSCRIBE", "PURGE"))
        await pipelined(running, [f"{next(methods)} /items/{number}" for number in range(10_000)])
        assert running.series(REQUESTS) == before + 1
        # Methods nobody has heard of are no HTTP to the parser: refused, and no request at all.
        for number in range(100):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rpartition(":")[2]))
            writer.write(f"NEVER{number} /items/a HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert (await reader.read()).startswith(b"HTTP/1.0 400")
            writer.close()
        assert running.sample(REFUSED, {"reason": "malformed_request"}) == 100
        assert running.series(REQUESTS) == before + 1
        assert running.sample(REQUESTS, labels(405, "__unmatched__", method="_OTHER")) == 10_000
        more = {labels for name, labels in everything() - once if name == REQUESTS}
        assert len(more) == 1
        # Nor do they stay in memory as routes, texts of the access log or answers.
        assert len(running.kit.metrics.answering) <= 2


async def pipelined(running: Running, targets: list[str]) -> None:
    """Send all on one connection without waiting for each answer; return when all are there."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rpartition(":")[2]))

    async def read() -> int:
        found = 0
        tail = b""
        while data := await reader.read(1 << 20):
            # A status line split between two reads is counted with the second.
            found += (tail + data).count(b"HTTP/1.1 4") - tail.count(b"HTTP/1.1 4")
            tail = data[-9:]
        return found

    reading = asyncio.create_task(read())
    for start in range(0, len(targets), 100):
        part = targets[start : start + 100]
        writer.write("".join(f"{target} HTTP/1.1\r\nHost: x\r\n\r\n" for target in part).encode())
        await writer.drain()
    writer.write(b"GET /no HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(60):
        assert await reading == len(targets) + 1
    writer.close()


async def test_probes_are_neither_counted_nor_logged_nor_traced(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with serving("shop", environment(), tmp_path, shop) as running:
        for path in ("livez", "readyz", "startupz", "health", "metrics"):
            async with http.get(f"{running.url}/{path}") as response:
                assert response.status == 200
        assert (running.series(REQUESTS), running.spans.spans, running.log.read_text()) == (0, [], "")


async def test_log_level_warning_still_yields_one_access_line_per_request_with_its_caller(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with serving("shop", environment(LOG_LEVEL="WARNING"), tmp_path, shop) as running:
        for _ in range(3):
            async with http.get(
                f"{running.url}/items/tea?token=SECRET", headers={"X-Request-ID": "order-17"}
            ) as response:
                assert response.headers["X-Request-ID"] == "order-17"
        await until(lambda: running.log.read_text().count("\n") == 3)
        assert "SECRET" not in running.log.read_text()
        line = running.lines()[0]
        for varying in ("timestamp", "duration_ms", "bytes_sent", "trace_id", "span_id"):
            assert line.pop(varying)
        assert line == {
            "level": "INFO", "logger": "access", "event": "request", "service": "shop",
            "environment": "development", "method": "GET", "route": "/items/{name}", "path": "/items/tea",
            "status": 200, "client": "127.0.0.1", "request_id": "order-17", "auth_type": "anonymous",
            "auth_subject": "", "auth_key_id": "", "auth_scopes": [], "auth_result": "anonymous",
            "auth_reason": "",
        }  # fmt: skip


async def test_a_callers_deadline_ends_the_work_with_504(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with serving("shop", environment(), tmp_path, shop) as running:
        async with http.get(f"{running.url}/slow", headers={"X-Request-Deadline-Ms": "50"}) as response:
            assert response.status == 504
        async with http.get(f"{running.url}/items/a", headers={"X-Request-Deadline-Ms": "5000"}) as response:
            assert 0 < (await response.json())["left_s"] <= 5
        assert running.sample(REQUESTS, labels(504, "/slow", error="deadline_exceeded")) == 1


async def test_a_client_that_leaves_cancels_the_work(tmp_path: Path) -> None:
    async with serving("shop", environment(), tmp_path, shop) as running:
        async with aiohttp.ClientSession() as session:
            task = asyncio.create_task(session.get(f"{running.url}/slow"))
            active = {"http_request_method": "GET"}
            await until(lambda: running.sample("http_server_active_requests", active) == 1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await until(lambda: running.sample("http_server_active_requests", active) == 0)
        assert running.sample(REQUESTS, labels(499, "/slow", error="cancelled")) == 1


async def test_a_stream_that_breaks_off_is_cut_not_ended(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with serving("shop", environment(), tmp_path, shop) as running:
        with pytest.raises(aiohttp.ClientError):
            async with http.get(f"{running.url}/stream") as response:
                await response.read()
        await until(lambda: running.sample(REQUESTS, labels(500, "/stream", error="ValueError")) == 1)


RAW = {
    "content length and chunked": b"POST /items/a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x",
    "two content lengths": b"POST /items/a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
    b"Content-Length: 5\r\n\r\nabcd",
    "space before the colon": b"GET /items/a HTTP/1.1\r\nHost : x\r\n\r\n",
    "folded header": b"GET /items/a HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
    "bare line feed in a value": b"GET /items/a HTTP/1.1\r\nHost: x\r\nA: b\nX-Auth-Subject: admin\r\n\r\n",
    "nonsense": b"\x16\x03\x01\x02\x00\x01\x00",
    "two hosts": b"GET /items/a HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    "length with a sign": b"POST /items/a HTTP/1.1\r\nHost: x\r\nContent-Length: +4\r\n\r\nabcd",
    "unknown coding": b"POST /items/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
    "chunked not last": b"POST /items/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
    "nul in a value": b"GET /items/a HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
    "too many headers": b"GET /items/a HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200 + b"\r\n",
}


@pytest.mark.parametrize("raw", RAW.values(), ids=RAW)
async def test_smuggling_and_malformed_requests_get_a_problem_and_the_connection_ends(
    raw: bytes, tmp_path: Path
) -> None:
    async with serving("shop", environment(), tmp_path, shop) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rpartition(":")[2]))
        writer.write(raw)
        async with asyncio.timeout(5):
            answer = await reader.read()
        writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.split(b" ")[1] == b"400", answer
        assert b"application/problem+json" in head
        assert json.loads(body)["status"] == 400
        assert running.sample("http_server_refused_requests_total", {"reason": "malformed_request"}) == 1


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
            OPENMETRICS,
        ),
        ("text/plain;q=0.9,application/openmetrics-text;q=0.1", TEXT),
        ("application/openmetrics-text;q=0,*/*", TEXT),
    ],
)
def test_the_metrics_format_is_the_one_the_client_ranks_highest(accept: str, wanted: str) -> None:
    assert (OPENMETRICS if prefers_openmetrics(accept) else TEXT) == wanted


@pytest.mark.parametrize(
    "header",
    [None, "", "00-short-01", f"ff-{'a' * 32}-{'b' * 16}-01", f"00-{'0' * 32}-{'b' * 16}-01",
     f"00-{'a' * 32}-{'0' * 16}-01", f"00-{'a' * 32}-{'b' * 16}-01-extra", f"00-{'A' * 32}-{'b' * 16}-01"],
)  # fmt: skip
def test_an_invalid_traceparent_starts_a_new_trace(header: str | None) -> None:
    assert parse_traceparent(header) is None


def test_a_traceparent_of_a_later_version_and_unknown_flags_is_understood() -> None:
    context = parse_traceparent(f"01-{'a' * 32}-{'b' * 16}-03-later")
    assert context is not None
    assert (context.trace_id, context.sampled, context.flags) == ("a" * 32, True, 3)


async def test_the_fault_switch_slows_fails_and_deafens_one_instance(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with serving("shop", environment(GAIA_FAULTS="1"), tmp_path, shop) as running:
        await set_fault(http, running, {"mode": "error"})
        async with http.get(f"{running.url}/items/a") as response:
            assert response.status == 500
        async with http.get(f"{running.url}/health") as response:
            assert response.status == 200
        await set_fault(http, running, {"mode": "slow", "delay_s": 0.05})
        async with http.get(f"{running.url}/items/a") as response:
            assert response.status == 200
        assert (
            running.sample("http_server_request_duration_seconds_sum", labels(200, "/items/{name}")) >= 0.05
        )
        await set_fault(http, running, {"mode": "deaf"})
        held = asyncio.create_task(http.get(f"{running.url}/livez"))
        async with http.get(f"{running.url}/metrics") as response:
            assert response.status == 200
        assert not held.done()
        await set_fault(http, running, {"mode": "none"})
        assert (await held).status == 200


async def test_the_fault_switch_is_off_unless_asked_for(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with (
        serving("shop", environment(), tmp_path, shop) as running,
        http.post(f"{running.url}/_fault", json={"mode": "error"}) as response,
    ):
        assert response.status == 404


@pytest.mark.parametrize(
    "headers",
    [{"X-Forwarded-For": "1.2.3.4"}, {"Via": "1.1 edge"}, {"Origin": "https://evil.example"}],
    ids=["behind a proxy", "behind an edge", "from a page"],
)
async def test_the_fault_switch_listens_to_nobody_who_is_not_here(
    headers: dict[str, str], tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with serving("shop", environment(GAIA_FAULTS="1"), tmp_path, shop) as running:
        async with http.post(f"{running.url}/_fault", json={"mode": "error"}, headers=headers) as response:
            assert response.status == 403
        async with http.get(f"{running.url}/items/a") as response:
            assert response.status == 200


@pytest.mark.parametrize("peer", ["10.0.0.5", "fdaa::5", "0.0.0.0"])
async def test_the_fault_switch_refuses_every_other_machine(peer: str) -> None:
    with pytest.raises(ProblemError, match="loopback only"):
        await FaultSwitch().handle(request_from(peer))


@pytest.mark.parametrize("peer", ["127.0.0.1", "::1"])
async def test_the_fault_switch_answers_on_loopback(peer: str) -> None:
    assert (await FaultSwitch().handle(request_from(peer))).status == 200


def request_from(peer: str) -> web.Request:
    transport = Mock()
    transport.get_extra_info.side_effect = lambda name, default=None: (
        (peer, 1) if name == "peername" else default
    )
    return make_mocked_request("GET", "/_fault", transport=transport)


async def set_fault(http: aiohttp.ClientSession, running: Running, fault: dict[str, object]) -> None:
    async with http.post(f"{running.url}/_fault", json=fault) as response:
        assert response.status == 200, await response.text()
