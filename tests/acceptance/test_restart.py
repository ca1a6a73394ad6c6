"""`kill -9` of the agent, of `gaia up` itself, and Ctrl-C: nothing forgotten, repeated or left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from agent.local.child import wait_gone
from tests.acceptance.platform import REPOSITORY, RunningPlatform, platform_file, running
from tests.acceptance.webhook import Webhook, webhook
from tests.waiting import until_sync

_QUICK = ("check_interval: 10s", "check_interval: 3s")


def test_agent_and_platform_can_be_killed_and_stopped_at_any_time(tmp_path: Path) -> None:
    config = str(platform_file(tmp_path, _QUICK))
    with webhook() as received, running(tmp_path, "--config", config, notify=received.url) as first:
        until_sync(first.all_up, within_s=20, what="everything up")
        _agent_killed_while_an_alert_fires(first, received)
        ports = {part: first.address(part) for part in ("postgres", "nats", "gateway")}
        family = first.family()
        assert len(family) > 8
        _ctrl_c_leaves_nothing(first, family)
    with running(tmp_path, "--config", config) as second:
        assert {part: second.address(part) for part in ports} == ports
        until_sync(second.all_up, within_s=20, what="everything up again")
        _drill_measures_a_freeze(second)
        family = second.family()
        second.process.kill()
        second.process.wait(5)
        assert wait_gone(family, within_s=3), "kill -9 of gaia up must leave no orphans"


def _agent_killed_while_an_alert_fires(platform: RunningPlatform, received: Webhook) -> None:
    os.kill(platform.pid("chat"), signal.SIGSTOP)
    try:
        until_sync(lambda: received.of("chat", "firing"), within_s=15, what="a page for frozen chat")
        until_sync(lambda: "notify/notify-1" in platform.notified("chat"), what="the delivery on record")
        before = platform.pid("agent")
        platform.kill("agent")
        until_sync(lambda: platform.pid("agent") != before, within_s=15, what="the agent runs again")
        assert ("chat", "service_down") in platform.alerts("firing"), "forgotten over the restart"
        until_sync(lambda: platform.states().get("chat") == "down", within_s=15, what="chat down again")
    finally:
        os.kill(platform.pid("chat"), signal.SIGCONT)
    until_sync(lambda: received.of("chat", "resolved"), within_s=20, what="its resolve")
    assert [each.status for each in received.deliveries if each.service == "chat"] == ["firing", "resolved"]


def _drill_measures_a_freeze(platform: RunningPlatform) -> None:
    command = [sys.executable, "-m", "agent.cli", "drill", "--freeze", "--json", "asset"]
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        command, cwd=platform.folder, env=environ, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    (measured,) = json.loads(done.stdout)
    assert (measured["part"], measured["broken_by"], measured["affected"]) == ("asset", "freeze", ["gateway"])
    assert 0 < measured["seen_s"] <= measured["called_s"] < 10
    assert measured["called_s"] < measured["back_s"] <= measured["resolved_s"]


def _ctrl_c_leaves_nothing(platform: RunningPlatform, family: tuple[int, ...]) -> None:
    started = time.monotonic()
    assert platform.interrupt() == 0
    assert time.monotonic() - started < 10
    assert wait_gone(family, within_s=0.5)
    data = platform.folder / ".gaia"
    assert not (data / "lock").exists()
    assert not list(data.rglob(".s.PGSQL*"))
    assert platform.lines[-1] == "stopped; the data stays in .gaia"
