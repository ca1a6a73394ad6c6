"""The promises of `gaia up` under production policies, each on one real platform."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.acceptance.platform import RunningPlatform, launch, running
from tests.acceptance.webhook import Webhook, webhook
from tests.waiting import until_sync

_PAUSE_S = 6
_RESOLVED_WITHIN_S = _PAUSE_S + 30


@pytest.fixture(scope="module")
def received() -> Iterator[Webhook]:
    with webhook() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def platform(received: Webhook, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    folder = tmp_path_factory.mktemp("production")
    with running(folder, "--restart-after", f"{_PAUSE_S}s", notify=received.url) as running_platform:
        until_sync(running_platform.all_up, within_s=20, what="everything up")
        yield running_platform


def test_it_prints_the_page_first_then_what_runs_where(platform: RunningPlatform) -> None:
    assert platform.lines[0].startswith(f"status page  http://127.0.0.1:{platform.port}/")
    parts = ["postgres", "nats", "auth", "asset", "chat", "gateway", "agent", "traffic"]
    assert [line.split()[0] for line in platform.lines[1:9]] == parts
    for part in parts:
        os.kill(platform.pid(part), 0)
    assert b"<html" in platform.get("/", accept="text/html")


def test_a_second_one_in_the_same_folder_is_told_who_runs(platform: RunningPlatform) -> None:
    second = launch(platform.folder)
    assert second.process.wait(20) == 3
    second.says(f"as pid {platform.process.pid}, status page http://127.0.0.1:{platform.port}/.")


@pytest.mark.parametrize(
    ("part", "affected"),
    [
        ("postgres", {"auth", "asset", "chat", "gateway"}),
        ("nats", {"auth", "asset", "chat", "gateway"}),
        ("asset", {"gateway"}),
    ],
)
def test_a_killed_part_is_seen_called_once_with_its_cause_and_resolved(
    platform: RunningPlatform, received: Webhook, part: str, affected: set[str]
) -> None:
    until_sync(platform.all_up, within_s=30, what="everything up before")
    received.deliveries.clear()
    killed = platform.kill(part)
    until_sync(lambda: platform.states().get(part) == "down", within_s=2, what=f"{part} down on the page")
    until_sync(lambda: platform.is_down_in_metrics(part), within_s=2, what=f"{part} down in /metrics")
    assert time.monotonic() - killed < 2
    until_sync(lambda: received.of(part, "firing"), within_s=5, what=f"a page for {part}")
    assert received.of(part, "firing")[0].at_s - killed < 5
    until_sync(lambda: received.of(part, "resolved"), within_s=_RESOLVED_WITHIN_S, what="its resolve")
    platform.says(f"down      {part}")
    platform.says("runs again, pid")
    calls = [
        (each.service, each.status) for each in received.deliveries if each.labels.get("severity") == "page"
    ]
    assert calls == [(part, "firing"), (part, "resolved")], "dependents must be listed, not called for"
    named = {name for name in affected if name in received.of(part, "firing")[0].body}
    assert named == affected
