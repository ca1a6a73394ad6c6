"""Who is called depends on the environment; what is wrong decides which rule, and for which service."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

from tests.acceptance.platform import RunningPlatform, platform_file, running
from tests.acceptance.webhook import webhook
from tests.waiting import until_sync

_SHORT = "over: 20s, for: 0s, keep_firing_for: 1s"


def test_development_records_and_calls_nobody(tmp_path: Path) -> None:
    config = platform_file(tmp_path, ("check_interval: 30s", "check_interval: 2s"))
    words = ("--env", "development", "--config", str(config), "--restart-after", "never")
    with webhook() as received, running(tmp_path, *words, notify=received.url) as platform:
        until_sync(platform.all_up, within_s=20, what="everything up")
        platform.kill("postgres")
        until_sync(lambda: platform.states().get("postgres") == "down", within_s=5, what="postgres down")
        until_sync(
            lambda: ("postgres", "database_down") in platform.alerts("firing"), within_s=5, what="recorded"
        )
        platform.kill("asset")
        until_sync(lambda: platform.states().get("asset") == "down", within_s=5, what="asset down")
        assert received.deliveries == []
        assert not any("PAGE" in line or "CHAT" in line for line in platform.lines)


def test_staging_is_called_for_the_major_failure_only(tmp_path: Path) -> None:
    config = platform_file(
        tmp_path,
        ("check_interval: 15s", "check_interval: 2s"),
        ("check_interval: 10s", "check_interval: 2s"),
        ("check_interval: 30s", "check_interval: 2s"),
        ("{staging: {for: 2m, severity: chat}}", "{staging: {for: 2s, severity: chat}}"),
        ("over: 5m, and_over: 1m", "over: 10s, and_over: 8s"),
    )
    words = (
        "--env",
        "staging",
        "--config",
        str(config),
        "--faults",
        "--rate",
        "30",
        "--restart-after",
        "never",
    )
    with webhook() as received, running(tmp_path, *words, notify=received.url) as platform:
        until_sync(platform.all_up, within_s=20, what="everything up")
        fault(platform, "chat", mode="error", ratio=0.4)
        until_sync(lambda: errors(platform, "chat") > 0.2, within_s=20, what="errors seen")
        assert received.deliveries == []
        fault(platform, "chat", mode="none")
        platform.kill("nats")
        until_sync(lambda: received.of("nats", "firing"), within_s=15, what="the major failure told")
        assert {each.rule for each in received.deliveries} == {"broker_down"}
        assert {each.labels["severity"] for each in received.deliveries} == {"chat"}


def test_errors_and_slow_answers_are_laid_at_the_service_that_has_them(tmp_path: Path) -> None:
    config = platform_file(
        tmp_path,
        ("check_interval: 10s", "check_interval: 1s"),
        (
            "above: 5%, over: 5m, and_over: 1m, min_requests: 20, min_bad: 3, for: 1m",
            f"above: 5%, and_over: null, {_SHORT}",
        ),
        ("above: 5%, over: 5m, and_over: 1m, for: 1m", f"above: 5%, and_over: null, {_SHORT}"),
        ("above: 25%, over: 1m, and_over: null, for: 0s", "above: 99%, over: 1m, and_over: null, for: 0s"),
    )
    words = ("--config", str(config), "--faults", "--rate", "40")
    with webhook() as received, running(tmp_path, *words, notify=received.url) as platform:
        until_sync(platform.all_up, within_s=20, what="everything up")
        fault(platform, "asset", mode="error", ratio=0.08)
        until_sync(lambda: received.of("asset", "firing"), within_s=40, what="a page for asset's errors")
        fault(platform, "asset", mode="none")
        fault(platform, "chat", mode="slow", delay_s=3.0)
        until_sync(lambda: received.of("chat", "firing"), within_s=40, what="a page for chat's slow answers")
        fault(platform, "chat", mode="none")
        told = {(each.service, each.rule) for each in received.deliveries if each.service != "machine"}
        assert told == {("asset", "high_error_rate"), ("chat", "slow_responses")}


def fault(platform: RunningPlatform, service: str, **what: object) -> None:
    """Set the fault switch of one service."""
    request = urllib.request.Request(
        f"http://{platform.address(service)}/_fault",
        json.dumps(what).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert answer.status == 200


def errors(platform: RunningPlatform, service: str) -> float:
    """The share of failed requests the page shows for one service."""
    for environment in platform.get_json("/api/v1/status")["environments"]:
        for component in environment["components"]:
            if component["service"] == service and component["traffic"]:
                return float(component["traffic"]["error_ratio"] or 0)
    return 0.0
