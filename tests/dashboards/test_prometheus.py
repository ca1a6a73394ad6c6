"""A real Prometheus scrapes every series we declare, and each panel's query answers with data."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from agent.exposition.document import Document
from agent.exposition.family import Family, Line, Shape, Type, histogram_shape, label_text
from agent.exposition.metrics import LATENCY_EDGES_S, METRICS, TARGET, Metric
from agent.exposition.negotiation import choose_format
from checks.catalog import MODULES, kind
from tests.dashboards.prometheus import PROMETHEUS, PROMTOOL, prometheus, without_data

ROOT = Path(__file__).resolve().parents[2]
# Values a label must have for some query to select it.
CHOSEN = {
    "state": "down",
    "result": "down",
    "kind": "database",
    "alertstate": "firing",
    "to": "fired",
    "http_response_status_code": "503",
    "env": "production",
    "service": "auth",
}
SERVICES = (
    Metric(
        name="http_server_request_duration_seconds",
        type=Type.HISTOGRAM,
        help="",
        labels=("env", "service", "http_request_method", "http_route", "http_response_status_code"),
    ),
    Metric(
        name="http_client_request_duration_seconds",
        type=Type.HISTOGRAM,
        help="",
        labels=("env", "service", "server_address"),
    ),
    Metric(name="http_server_active_requests", type=Type.GAUGE, help="", labels=("env", "service")),
    Metric(
        name="circuit_breaker_state", type=Type.GAUGE, help="", labels=("env", "service", "server_address")
    ),
    Metric(name="event_loop_lag_seconds", type=Type.GAUGE, help="", labels=("env", "service")),
)


def declared() -> dict[str, Metric]:
    found = {metric.name: metric for metric in (*METRICS, *SERVICES)}
    for name in MODULES:
        for info in kind(name).measures:
            labels = (*TARGET, *info.labels)
            found[info.name] = Metric(name=info.name, type=Type(info.type), help=info.help, labels=labels)
    return found


def document(scrapes: int) -> Document:
    """Every declared metric with one series of each kind; counters grow with each scrape."""
    filled = Document(
        Family(name=metric.name, type=metric.type, help=metric.help) for metric in declared().values()
    )
    for metric in declared().values():
        # A database's info lets the joins match; a broker's does as well.
        kinds = ("database", "broker") if "kind" in metric.labels else (None,)
        for sort in kinds:
            values = {label: CHOSEN.get(label, f"some_{label}") for label in metric.labels}
            if sort is not None:
                values |= {"kind": sort, "check": f"check_{sort}"}
            elif metric.name in {"probe_success", "probe_duration_seconds"}:
                values["check"] = "check_database"
            owner = label_text(tuple(values.items()))
            if metric.type is Type.HISTOGRAM:
                shape = histogram_shape(metric.name, LATENCY_EDGES_S, owned=bool(owner))
                counts = tuple(scrapes * (index + 1) for index in range(len(LATENCY_EDGES_S) + 1))
                filled.put(metric.name, owner, shape, (*counts, counts[-1], float(scrapes)))
            else:
                shape = Shape(metric.name, (Line(),), owned=bool(owner))
                filled.put(metric.name, owner, shape, (scrapes * 3 if metric.type is Type.COUNTER else 1,))
    return filled


@asynccontextmanager
async def exposed() -> AsyncIterator[int]:
    """A server of the document; gives its port."""
    count = 0

    async def metrics(request: web.Request) -> web.Response:
        nonlocal count
        count += 1
        form = choose_format(request.headers.get("Accept"))
        return web.Response(body=b"".join(document(count).render(form)), headers={"Content-Type": form.value})

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed (apt-get install prometheus)")
async def test_every_panel_of_every_dashboard_shows_data(tmp_path: Path) -> None:
    async with exposed() as port:
        with prometheus(tmp_path, [{"targets": [f"127.0.0.1:{port}"]}], every="300ms") as address:
            empty = await asyncio.to_thread(without_data, address, window="5s", within_s=40)
    assert empty == set()


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (apt-get install prometheus)")
def test_the_shipped_scrape_configuration_is_valid() -> None:
    assert PROMTOOL is not None
    checked = subprocess.run(
        [PROMTOOL, "check", "config", str(ROOT / "deploy/prometheus/prometheus.yaml")],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
