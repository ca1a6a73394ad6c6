"""`gaia up` scraped by a real Prometheus: each panel shows data, save what such a platform does not have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.acceptance.platform import platform_file, running
from tests.dashboards.prometheus import PROMETHEUS, prometheus, without_data
from tests.waiting import until_sync

# There is no TLS, Fly machine, standby, backup, CPU quota or telemetry destination.
NOT_HERE = frozenset(
    {
        "gaia-agent: Telemetry put aside or dropped",
        "gaia-agent: Telemetry waiting",
        "gaia-machines: CPU withheld by its quota",
        "gaia-machines: Exits within a day",
        "gaia-machines: Machines missing",
        "gaia-machines: Machines started",
        "gaia-postgres: Furthest standby behind",
        "gaia-postgres: Newest backup's age",
        "gaia-probes: First certificate expires in",
    }
)
# Empty while nothing fails, which a busy machine may not grant.
MAYBE = frozenset(
    {
        "gaia-alerts: Active now",
        "gaia-alerts: Began to fire",
        "gaia-alerts: Noisiest of seven days",
        "gaia-alerts: The latest message took",
        "gaia-probes: Reasons, in the time shown",
        "gaia-service: Failing routes, errors per second",
    }
)


@pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed (apt-get install prometheus)")
def test_each_panel_shows_what_runs(tmp_path: Path) -> None:
    config = platform_file(tmp_path, ("check_interval: 10s", "check_interval: 2s"))
    with running(tmp_path, "--config", str(config)) as platform:
        until_sync(platform.all_up, within_s=30, what="everything up")
        jobs: list[Mapping[str, object]] = [{"targets": [f"127.0.0.1:{platform.port}"]}]
        jobs += [
            {
                "targets": [platform.address(service)],
                "labels": {"env": "production", "service": service},
            }
            for service in ("gateway", "auth", "asset", "chat")
        ]
        (tmp_path / "prometheus").mkdir()
        with prometheus(tmp_path / "prometheus", jobs, every="1s") as address:
            empty = without_data(address, window="10s", within_s=90, known=NOT_HERE | MAYBE)
    assert sorted(empty - MAYBE) == sorted(NOT_HERE - MAYBE)
