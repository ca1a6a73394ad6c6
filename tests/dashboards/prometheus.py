"""A real Prometheus on a free port, and the panels' queries asked of it."""

from __future__ import annotations

import json
import math
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

from dashboards.export import DASHBOARDS

PROMETHEUS = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")


def free_port() -> int:
    """A port Prometheus can have: it cannot tell which one it chose itself."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def prometheus(folder: Path, jobs: list[Mapping[str, object]], *, every: str) -> Iterator[str]:
    """One that scrapes `jobs` (each a target with its labels); gives its address."""
    assert PROMETHEUS is not None
    port = free_port()
    config = {
        "global": {"scrape_interval": every, "scrape_timeout": every},
        # JSON is YAML.
        "scrape_configs": [{"job_name": "gaia", "honor_labels": True, "static_configs": jobs}],
    }
    (folder / "prometheus.yaml").write_text(json.dumps(config))
    process = subprocess.Popen(
        [
            PROMETHEUS,
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=error",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def without_data(
    address: str, *, window: str, within_s: float, known: frozenset[str] = frozenset()
) -> set[str]:
    """Panels (`dashboard: title`) of which a query shows no number; left early when only `known` are left."""
    waiting = {
        (f"{dashboard.uid}: {panel.title}", query.expr)
        for dashboard in DASHBOARDS
        for panel in dashboard.panels
        for query in panel.queries
    }
    end = time.monotonic() + within_s
    while {title for title, _ in waiting} - known and time.monotonic() < end:
        for title, expr in tuple(waiting):
            values = _answer(address, expr, window)
            if not all(math.isnan(value) for value in values):
                waiting.remove((title, expr))
    return {title for title, _ in waiting}


def _answer(address: str, expr: str, window: str) -> list[float]:
    for name in ("$__rate_interval", "$__range", "7d", "5m"):
        expr = expr.replace(f"[{name}]", f"[{window}]")
    expr = expr.replace("$env", ".*").replace("$service", ".*")
    query = urllib.parse.urlencode({"query": expr}).encode()
    try:
        with urllib.request.urlopen(f"{address}/api/v1/query", query, timeout=10) as response:
            reply = json.load(response)
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.SERVICE_UNAVAILABLE:  # Still starting.
            return []
        raise AssertionError(expr, error.read()) from error
    except OSError:
        return []
    return [float(sample["value"][1]) for sample in reply["data"]["result"]]
