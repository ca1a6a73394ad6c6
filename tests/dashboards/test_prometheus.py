"""A real Prometheus scrapes every series we declare, and each panel's query answers with data."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from agent.exposition.document import Document
from agent.exposition.family import Family, Line, Shape, Type, histogram_shape, label_text
from agent.exposition.metrics import LATENCY_EDGES_S, METRICS, TARGET, Metric
from agent.exposition.negotiation import choose_format
from checks.catalog import MODULES, kind
from dashboards.export import DASHBOARDS

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")
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


def free_port() -> int:
    """A port Prometheus can have: it cannot tell which one it chose itself."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


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
async def scraped(folder: Path) -> AsyncIterator[str]:
    """A Prometheus that scrapes the document each 300 ms; gives its address."""
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
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port, own_port = runner.addresses[0][1], free_port()
    (folder / "prometheus.yaml").write_text(
        "global: {scrape_interval: 300ms, scrape_timeout: 300ms}\n"
        "scrape_configs: [{job_name: gaia, honor_labels: true, "
        f'static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]\n'
    )
    assert PROMETHEUS is not None
    process = await asyncio.create_subprocess_exec(
        PROMETHEUS,
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{own_port}",
        "--log.level=error",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{own_port}"
    finally:
        process.terminate()
        await process.wait()
        await runner.cleanup()


async def answer(client: aiohttp.ClientSession, expr: str) -> list[float]:
    for name, value in (("$__rate_interval", "3s"), ("$__range", "5s"), ("[7d]", "[5s]"), ("[5m]", "[5s]")):
        expr = expr.replace(name, value)
    expr = expr.replace("$env", ".*").replace("$service", ".*")
    try:
        async with client.post("/api/v1/query", data={"query": expr}) as response:
            if response.status == 503:  # Still starting.
                return []
            reply = await response.json()
    except aiohttp.ClientConnectionError:
        return []
    assert reply["status"] == "success", (expr, json.dumps(reply))
    return [float(sample["value"][1]) for sample in reply["data"]["result"]]


@pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed (apt-get install prometheus)")
async def test_every_panel_of_every_dashboard_shows_data(tmp_path: Path) -> None:
    waiting = {
        f"{dashboard.uid}: {panel.title}: {query.expr}": query.expr
        for dashboard in DASHBOARDS
        for panel in dashboard.panels
        for query in panel.queries
    }
    asked = len(waiting)
    async with scraped(tmp_path) as address, aiohttp.ClientSession(address) as client:
        end = time.monotonic() + 40
        while waiting and time.monotonic() < end:
            for title, expr in tuple(waiting.items()):
                values = await answer(client, expr)
                if values and not any(math.isnan(value) for value in values):
                    del waiting[title]
    assert list(waiting) == []
    assert asked > 80


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
