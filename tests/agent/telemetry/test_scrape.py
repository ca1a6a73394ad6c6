from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from math import inf

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from agent.telemetry.red import RequestTotals, RouteCounts
from agent.telemetry.scrape import Scraper
from checks.clock import SystemClock

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/metrics", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/metrics"
    finally:
        await runner.cleanup()


def answering(*bodies: bytes, headers: dict[str, str] | None = None) -> AbstractAsyncContextManager[str]:
    left = list(bodies)

    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=left.pop(0) if len(left) > 1 else left[0], headers=headers)

    return serving(handler)


def scraper(url: str) -> Scraper:
    return Scraper(env="production", service="auth", source="auth-1", url=url, clock=SystemClock())


def service_metrics() -> bytes:
    registry = CollectorRegistry()
    Gauge("process_start_time_seconds", "Start.", registry=registry).set(1700000000.5)
    durations = Histogram(
        "http_server_request_duration_seconds",
        "Duration.",
        ["http_request_method", "http_route", "http_response_status_code", "error_type"],
        buckets=(0.5, 2.0, 5.0),
        registry=registry,
    )
    durations.labels("GET", "/login", "200", "").observe(0.1)
    durations.labels("POST", "/login", "200", "").observe(3)
    durations.labels("POST", "/login", "503", "503").observe(9)
    durations.labels("GET", "/me", "404", "404").observe(0.1)
    durations.labels("GET", "/me", "", "ValueError").observe(0.1)
    for route in ("/health", "/livez", "/readyz", "/startupz", "/metrics"):
        durations.labels("GET", route, "503", "503").observe(60)
    return generate_latest(registry)


async def totals_of(body: bytes, headers: dict[str, str] | None = None) -> RequestTotals:
    async with answering(body, headers=headers) as url:
        scraped = await scraper(url).scrape()
    assert scraped.totals is not None, scraped.error
    return scraped.totals


async def test_a_service_s_histogram_becomes_counters_per_route_without_probes_and_scrapes() -> None:
    totals = await totals_of(service_metrics())
    assert totals == RequestTotals(
        at_s=totals.at_s,
        incarnation="1700000000.5#0",
        born_s=1700000000.5,
        routes={
            "/login": RouteCounts(total=3, errors=1, buckets=((0.5, 1), (2.0, 1), (5.0, 2), (inf, 3))),
            "/me": RouteCounts(total=2, errors=1, buckets=((0.5, 2), (2.0, 2), (5.0, 2), (inf, 2))),
        },
    )


async def test_the_older_counter_and_histogram_are_understood_and_not_added_twice() -> None:
    registry = CollectorRegistry()
    requests = Counter("http_requests", "Requests.", ["handler", "status"], registry=registry)
    durations = Histogram(
        "http_request_duration_seconds", "D.", ["handler"], buckets=(2.0,), registry=registry
    )
    for status in ("2xx", "2xx", "5xx"):
        requests.labels("/x", status).inc()
        durations.labels("/x").observe(0.1)
    totals = await totals_of(generate_latest(registry))
    assert totals.routes == {"/x": RouteCounts(total=3, errors=1, buckets=((2.0, 3), (inf, 3)))}


async def test_milliseconds_become_seconds() -> None:
    body = b"".join(
        b'http_server_duration_milliseconds_%s{http_status_code="500",http_route="/a"%s} %d\n' % line
        for line in [(b"bucket", b',le="2000.0"', 1), (b"bucket", b',le="+Inf"', 4), (b"count", b"", 4)]
    )
    totals = await totals_of(body)
    assert totals.routes == {"/a": RouteCounts(total=4, errors=4, buckets=((2.0, 1), (inf, 4)))}


async def test_a_service_nobody_has_asked_yet_counts_zero_requests() -> None:
    registry = CollectorRegistry()
    Histogram("http_server_request_duration_seconds", "Duration.", ["http_route"], registry=registry)
    assert (await totals_of(generate_latest(registry))).routes == {}


async def test_gzip_is_understood() -> None:
    async def handler(_: web.Request) -> web.Response:
        response = web.Response(body=service_metrics())
        response.enable_compression(web.ContentCoding.gzip)
        return response

    async with serving(handler) as url:
        scraped = await scraper(url).scrape()
    assert scraped.totals
    assert len(scraped.totals.routes) == 2


async def test_counters_that_fall_without_a_start_time_are_a_new_incarnation() -> None:
    bodies = [b'http_requests_total{status="200"} %d\n' % value for value in (5, 7, 2)]
    async with answering(*bodies) as url:
        one = scraper(url)
        seen = [(await one.scrape()).totals for _ in bodies]
    assert [totals and totals.incarnation for totals in seen] == ["#0", "#0", "#1"]


async def test_ten_thousand_routes_fold_into_one_row_above_the_cap() -> None:
    body = b"".join(b'http_requests_total{route="/%d",status="200"} 1\n' % number for number in range(10_000))
    totals = await totals_of(body)
    assert len(totals.routes) == 501
    assert sum(counts.total for counts in totals.routes.values()) == 10_000


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, b"up 1\n", "exposes no request series"),
        (200, b"http_requests_total{ 1\n", "not a sample"),
        (503, b"", "HTTP 503"),
        (200, b"x" * 9_000_000, "larger than"),
    ],
)
async def test_what_cannot_be_read_is_said_and_never_raised(status: int, body: bytes, error: str) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body)

    async with serving(handler) as url:
        scraped = await scraper(url).scrape()
    assert scraped.totals is None
    assert error in scraped.error


async def test_a_target_that_hangs_is_given_up_at_the_deadline() -> None:
    release = asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    async with serving(handler) as url:
        scraped = await scraper(url).scrape(deadline_s=0.1)
        release.set()
    assert scraped.error == "no answer within 0.1 s"


async def test_a_refused_connection_is_said() -> None:
    async with answering(b"") as url:
        pass
    scraped = await scraper(url).scrape()
    assert scraped.error == "refuses connections: nobody listens there"


async def test_reading_a_large_body_leaves_the_loop_free() -> None:
    line = b'http_requests_total{route="/%d",status="200",pad="' + b"x" * 100 + b'"} 1\n'
    body = b"".join(line % number for number in range(12_000))
    longest_s, last_s = 0.0, time.thread_time()
    done = asyncio.Event()

    async def beat() -> None:
        nonlocal longest_s, last_s
        while not done.is_set():
            await asyncio.sleep(0)
            # The loop's own CPU time: another busy process must not fail this.
            now_s = time.thread_time()
            longest_s, last_s = max(longest_s, now_s - last_s), now_s

    async with answering(body) as url:
        one = scraper(url)
        beating = asyncio.create_task(beat())
        scraped = await one.scrape()
        done.set()
        await beating
    assert scraped.totals
    assert longest_s < 0.25
