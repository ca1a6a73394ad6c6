"""Three instances of one service: one that dies is told at work, the last one calls at night."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.platform import RunningPlatform, platform_file, running
from tests.acceptance.webhook import webhook
from tests.waiting import until_sync


def test_one_of_three_is_degraded_and_only_the_last_one_is_down(tmp_path: Path) -> None:
    config = platform_file(tmp_path, ("check_interval: 10s", "check_interval: 1s"))
    words = ("--config", str(config), "--scale", "chat=3", "--restart-after", "never")
    with webhook() as received, running(tmp_path, *words, notify=received.url) as platform:
        until_sync(platform.all_up, within_s=30, what="everything up")
        first, second, third = sorted(part for part in platform.parts() if part.startswith("chat"))
        platform.kill(second)
        until_sync(lambda: _chat(platform)["state"] == "degraded", within_s=10, what="chat degraded")
        message = _chat(platform)["message"]
        assert message.startswith("1 of 3 instances does not answer: ")
        assert platform.address(second) in message
        until_sync(
            lambda: ("chat", "component_degraded") in platform.alerts("pending"), within_s=10, what="pending"
        )
        platform.kill(first)
        until_sync(
            lambda: _chat(platform)["message"].startswith("2 of 3 instances do not answer: "),
            within_s=10,
            what="two of three said",
        )
        assert ("chat", "service_down") not in platform.alerts("pending", "firing")
        assert not any(each.rule == "service_down" for each in received.deliveries)
        platform.kill(third)
        until_sync(lambda: received.of("chat", "firing"), within_s=10, what="the page")
        (page,) = received.of("chat", "firing")
        assert page.rule == "service_down"
        assert page.labels["severity"] == "page"
        assert "3 of 3 instances do not answer: " in page.body
        assert "vantage" not in page.labels
        assert _chat(platform)["state"] == "down"


def _chat(platform: RunningPlatform) -> dict[str, str]:
    """The component as /api/v1/status tells it."""
    return next(
        component
        for environment in platform.get_json("/api/v1/status")["environments"]
        for component in environment["components"]
        if component["service"] == "chat"
    )
