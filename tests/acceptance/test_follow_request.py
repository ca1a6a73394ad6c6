"""One failing request, followed: from the page to its trace, its log lines and its route's numbers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.acceptance.platform import REPOSITORY, RunningPlatform, platform_file, running
from tests.acceptance.test_policies import fault
from tests.acceptance.webhook import webhook
from tests.waiting import until_sync

_TRACE = re.compile(r"trace ([0-9a-f]{32})")


def test_a_failing_request_is_followed_from_the_page_to_its_lines_and_its_route_s_numbers(
    tmp_path: Path,
) -> None:
    config = platform_file(
        tmp_path,
        ("check_interval: 10s", "check_interval: 1s"),
        (
            "above: 5%, over: 5m, and_over: 1m, min_requests: 20, min_bad: 3, for: 1m",
            # Spans arrive in batches some seconds after their requests: the page waits for them.
            "above: 5%, and_over: null, over: 30s, for: 8s, keep_firing_for: 1s",
        ),
    )
    words = ("--config", str(config), "--faults", "--rate", "40")
    with webhook() as received, running(tmp_path, *words, notify=received.url) as platform:
        until_sync(platform.all_up, within_s=20, what="everything up")
        fault(platform, "asset", mode="error", ratio=0.1)
        until_sync(lambda: named(platform), within_s=40, what="an alert that names a trace and its lines")
        until_sync(lambda: received.of("asset", "firing"), within_s=10, what="the page")

        [trace_id] = _TRACE.findall(received.of("asset", "firing")[0].body)[:1]
        until_sync(lambda: "asset" in services(followed(platform, trace_id)), what="its span of asset")

        path = named(platform)
        [request] = [one for one in path["requests"] if one["service"] == "asset"]
        assert (request["status"], request["failed"]) == ("500", True)
        assert request["route"].startswith("/api/v1/assets")
        [route] = [one for one in path["routes"] if one["route"] == request["route"]]
        assert route["errors"] > 0
        assert route["requests"] > route["errors"]
        assert {line["service"] for line in path["lines"]} >= {"asset"}

        told = gaia(platform, "explain", path["trace_id"])
        assert f"asset {request['method']} {request['route']} 500" in told
        assert re.search(rf"asset {re.escape(request['route'])}: \d+ requests in 5 min, \S+ % failed", told)
        assert re.search(r"asset INFO request .*status=500", told)
        assert _TRACE.search(gaia(platform, "explain", "high_error_rate"))
        assert "for example" in platform.get("/", accept="text/html").decode()
        metrics = platform.get("/metrics", accept="application/openmetrics-text").decode()
        buckets = [
            line
            for line in metrics.splitlines()
            if line.startswith("gaia_request_duration_seconds_bucket") and 'status="500"' in line
        ]
        assert any('# {trace_id="' in line for line in buckets)


def named(platform: RunningPlatform) -> Any:
    """The path of the trace that the alert about asset names now, once its lines are in; else None."""
    alerts = (platform.get_json("/api/v1/alerts") or {}).get("alerts", ())
    for alert in alerts:
        if (alert["name"], alert["service"]) == ("high_error_rate", "asset"):
            facts = {fact["name"]: fact["value"] for fact in alert["evidence"]}
            found = _TRACE.search(facts.get("for example", ""))
            path = followed(platform, found[1]) if found else None
            if path and path["lines"] and path["routes"]:
                return path
    return None


def followed(platform: RunningPlatform, trace_id: str) -> Any:
    path = platform.get_json(f"/api/v1/trace?id={trace_id}")
    return path if "requests" in path else None


def services(path: Any) -> set[str]:
    return {request["service"] for request in path["requests"]} if path else set()


def gaia(platform: RunningPlatform, *words: str) -> str:
    command = [sys.executable, "-m", "agent.cli", *words, "--url", f"http://127.0.0.1:{platform.port}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=30)
    return done.stdout
