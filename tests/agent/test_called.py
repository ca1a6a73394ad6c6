"""A real agent calls somebody: the link in the message takes it, and a channel that refuses is told of."""

from __future__ import annotations

import json
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.local.ports import free_ports
from tests.acceptance.webhook import Delivery, Webhook, webhook
from tests.agent.test_process import Running
from tests.alerts.receivers import Mood, http_receiver
from tests.waiting import until_sync

FILE = """\
platform: foreign
environments:
  production: {{alias: prod, check_interval: 1s}}
services:
  web: {{url: "http://127.0.0.1:{web}", health: /}}
agent: {{listen: "127.0.0.1:{port}", otlp_listen: null, token: "${{GAIA_TOKEN}}"}}
alerts:
  external_url: http://127.0.0.1:{port}
  receivers:
    desk: {{webhook: {{url: "{webhook}"}}}}
    broken: {{webhook: {{url: "{broken}"}}}}
"""
TOKEN = "a token for this test"


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as receiver:
        yield receiver


def _links(delivery: Delivery) -> dict[str, str]:
    return dict(json.loads(delivery.body)["gaia"]["links"])


def _read(url: str, form: dict[str, str] | None = None) -> str:
    data = None if form is None else urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(url, data=data, timeout=10) as answer:
        return str(answer.read().decode())


def test_the_link_in_a_page_takes_it_and_what_refuses_is_said_through_the_other(
    tmp_path: Path, hook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAIA_TOKEN", TOKEN)
    port, web = free_ports(2)
    with http_receiver(Mood.REFUSES) as broken:
        text = FILE.format(web=web, port=port, webhook=hook.url, broken=broken.url)
        agent = Running(tmp_path, text, port)
        try:
            until_sync(lambda: hook.of("web", "firing"), within_s=20, what="a page")
            until_sync(agent.status, within_s=20, what="the page of the incident")
            page = hook.of("web", "firing")[0]
            link = _links(page)["Acknowledge"]
            shown = _read(link)
            assert "does not answer" in shown
            given = re.findall(r'name="pass" value="([^"]+)"', shown)[0]
            action = re.findall(r'action="(/i/[^"]+/ack)"', shown)[0]
            said = _read(f"http://127.0.0.1:{port}{action}", {"pass": given, "author": "mira", "lasts": "1h"})
            assert "mira has taken it until" in said
            url = ("--url", f"http://127.0.0.1:{port}", "--json")
            alerts = json.loads(agent.gaia("alerts", *url).stdout)
            assert [one["acknowledged_by"] for one in alerts if one["service"] == "web"] == ["mira"]
            (report,) = json.loads(agent.gaia("report", "--last", "1h", *url).stdout)
            acted = {one["alertname"]: one["acted"] for one in report["rules"]}
            assert acted["service_down"] == 1

            def failing() -> list[Delivery]:
                return [one for one in hook.deliveries if one.rule == "channel_failing"]

            until_sync(failing, within_s=30, what="word of the channel that refuses")
            told = failing()[0]
            assert "cannot reach broken through webhook" in told.annotations["summary"]
            assert "400: no such key" in told.annotations["description"]
            assert TOKEN not in agent.log()
            assert given not in agent.log()
        finally:
            agent.process.kill()
            agent.process.wait()
