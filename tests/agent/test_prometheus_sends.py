"""A real Prometheus sends its alerts to us: they get our outbox, causes, incidents and resolves."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.local.ports import free_ports
from tests.acceptance.webhook import Webhook, webhook
from tests.agent.test_cut_off import Place
from tests.agent.test_process import Running
from tests.waiting import until_sync

PROMETHEUS = shutil.which("prometheus")
pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="prometheus (Debian: prometheus) is not installed")
_TOKEN = "a-token-for-writing"


@contextmanager
def agent(folder: Path, hook: Webhook, database: Place) -> Iterator[Running]:
    """Watches `database`, and `shop` which needs it at a place that stays well: Prometheus sees otherwise."""
    port, well = free_ports(2)
    front = Place(well)
    front.mend()
    document = {
        "platform": "shop",
        "environments": {"production": {"alias": "prod", "check_interval": "1s"}},
        "services": {
            "database": {"url": f"http://127.0.0.1:{database.port}", "health": "/"},
            "shop": {"url": f"http://127.0.0.1:{well}", "health": "/", "depends_on": ["database"]},
        },
        "agent": {"listen": f"127.0.0.1:{port}", "otlp_listen": None, "token": _TOKEN},
        "alerts": {"receivers": {"desk": {"webhook": {"url": hook.url}}}, "settle": "2s"},
    }
    running = Running(folder, msgspec.json.encode(document).decode(), port)
    try:
        running.until({"database": "up"})
        yield running
    finally:
        running.process.terminate()
        running.process.wait(20)
        front.cut()


@contextmanager
def prometheus(folder: Path, watched: Place, running: Running) -> Iterator[subprocess.Popen[bytes]]:
    """Looks at one place each second and sends what its rule says to the agent."""
    assert PROMETHEUS is not None
    rule = {
        "alert": "ShopDown",
        "expr": 'up{job="shop"} == 0',
        "labels": {"severity": "critical", "service": "shop"},
        "annotations": {"summary": "Prometheus cannot reach the shop"},
    }
    target = {"targets": [f"127.0.0.1:{watched.port}"]}
    manager: dict[str, Any] = {
        "api_version": "v2",
        "static_configs": [{"targets": [f"127.0.0.1:{running.port}"]}],
        "authorization": {"credentials": _TOKEN},
    }
    folder.mkdir()
    (folder / "rules.json").write_text(json.dumps({"groups": [{"name": "g", "rules": [rule]}]}))
    (folder / "prometheus.json").write_text(
        json.dumps({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.json"],
            "alerting": {"alertmanagers": [manager]},
            "scrape_configs": [{"job_name": "shop", "metrics_path": "/", "static_configs": [target]}],
        })
    )  # fmt: skip
    (port,) = free_ports(1)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [PROMETHEUS, "--config.file=prometheus.json", f"--web.listen-address=127.0.0.1:{port}",
             "--storage.tsdb.path=tsdb", "--rules.alert.resend-delay=1s"],
            cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        until_sync(lambda: _up(port) == "1", within_s=30, what="Prometheus' first scrape")
        yield process
    finally:
        process.kill()
        process.wait(20)


def _up(port: int) -> str | None:
    with (
        suppress(OSError),
        urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?query=up", timeout=2) as answer,
    ):
        result = json.load(answer)["data"]["result"]
        return str(result[0]["value"][1]) if result else None
    return None


class Metrics(Place):
    """A place that answers a scrape."""

    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nrequests 1\n\n"


@pytest.fixture
def places() -> Iterator[tuple[Place, Metrics]]:
    database_port, shop_port = free_ports(2)
    database, shop = Place(database_port), Metrics(shop_port)
    database.mend()
    shop.mend()
    yield database, shop
    database.cut()
    shop.cut()


def test_its_alert_is_called_once_and_its_end_is_told(tmp_path: Path, places: tuple[Place, Metrics]) -> None:
    database, shop = places
    with (
        webhook() as hook,
        agent(tmp_path, hook, database) as running,
        prometheus(tmp_path / "prometheus", shop, running),
    ):
        shop.cut()
        until_sync(lambda: hook.of("shop", "firing"), within_s=30, what=running.log())
        (page,) = hook.of("shop", "firing")
        assert (page.rule, page.labels["severity"]) == ("ShopDown", "page")
        assert "Prometheus cannot reach the shop" in page.body
        incidents = json.loads(_get(running, "/api/v1/incidents"))["incidents"]
        assert [(one["service"], one["resolved_s"]) for one in incidents] == [("shop", None)]
        shop.mend()
        until_sync(lambda: hook.of("shop", "resolved"), within_s=30, what=running.log())
        assert [one.status for one in hook.deliveries] == ["firing", "resolved"]


def test_its_alert_about_a_dependent_is_listed_under_the_cause_we_see(
    tmp_path: Path, places: tuple[Place, Metrics]
) -> None:
    database, shop = places
    with (
        webhook() as hook,
        agent(tmp_path, hook, database) as running,
        prometheus(tmp_path / "prometheus", shop, running),
    ):
        database.cut()
        until_sync(lambda: hook.of("database", "firing"), within_s=30, what=running.log())
        shop.cut()
        until_sync(lambda: ("ShopDown", "shop") in _listed(running), within_s=30, what=running.log())
        assert {one.service for one in hook.deliveries} == {"database"}


def test_neither_death_of_the_agent_repeats_or_ends_what_it_sent(
    tmp_path: Path, places: tuple[Place, Metrics]
) -> None:
    database, shop = places
    with (
        webhook() as hook,
        agent(tmp_path, hook, database) as running,
        prometheus(tmp_path / "prometheus", shop, running),
    ):
        shop.cut()
        until_sync(running.has_noted_every_delivery, within_s=30, what=running.log())
        running.process.kill()
        running.process.wait(20)
        running.start()
        running.until({"database": "up"})
        until_sync(lambda: "firing" in _states(running), within_s=30, what=running.log())
        assert [one.status for one in hook.deliveries] == ["firing"]
        shop.mend()
        until_sync(lambda: hook.of("shop", "resolved"), within_s=30, what=running.log())
        assert [one.status for one in hook.deliveries] == ["firing", "resolved"]
        assert len({one.fingerprint for one in hook.deliveries}) == 1


def _states(running: Running) -> list[str]:
    status = running.status()
    return [one.state for one in status.alerts if one.name == "ShopDown"] if status is not None else []


def _listed(running: Running) -> set[tuple[str, str]]:
    """Alerts that are told only under their cause."""
    status = running.status()
    alerts = status.alerts if status is not None else ()
    return {(one.name, one.service) for one in alerts if one.muted == "listed under its cause"}


def _get(running: Running, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{running.port}{path}", timeout=5) as answer:
        return str(answer.read().decode())
