"""`gaia backtest` and `gaia rules export`: over what was really kept, and in Prometheus' own words."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from agent.cli import main
from agent.history import History
from checks.clock import SystemClock
from checks.finding import Finding, State
from checks.observation import Observation
from checks.reason import Reason
from checks.target import Target

PROMTOOL = shutil.which("promtool")
FILE = """\
platform: shop
environments:
  production: {alias: prod, check_interval: 10s}
services:
  web: {url: "https://shop.example"}
alerts:
  policies: {comprehensive: [service_down, high_error_rate]}
  receivers: {me: {console: {}, environments: [production]}}
"""
STRICTER = """\
alerts:
  rules:
    service_down: {signal: target_state, kinds: [service], for: 10m}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "gaia.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture
def data(config: Path, tmp_path: Path) -> Path:
    """An hour of looks: two minutes down half an hour ago, and again five minutes later."""
    folder = tmp_path / "data"
    folder.mkdir()
    asyncio.run(_lived(folder, config))
    return folder


async def _lived(folder: Path, config: Path) -> None:
    from agent.platform.load import load
    from agent.watches import watches
    from checks.catalog import ProbeKit
    from checks.resolver import CachingResolver

    scope = load(config, environ={}).scopes["production"]
    kit = ProbeKit(clock=SystemClock(), resolver=CachingResolver())
    (target,) = [one.target for one in watches(scope, kit) if one.target.key.service == "web"][:1]
    now_s = time.time()
    history = History(folder / "history.db", SystemClock())
    running = asyncio.create_task(history.run())
    for number in range(360):
        ago_s = 3600 - number * 10
        down = 1680 < ago_s <= 1800 or 1260 < ago_s <= 1380
        history.add(_look(target, now_s - ago_s, down=down))
    await history.looks(target.key, since_s=0, limit=1)
    running.cancel()
    await asyncio.wait([running])


def _look(target: Target, at_s: float, *, down: bool) -> Observation:
    reason = Reason.CONNECTION_REFUSED if down else Reason.OK
    state = State.DOWN if down else State.UP
    finding = Finding(state=state, reason=reason, message="m", hard=down, latency_s=0.01)
    return Observation(target=target, at_s=at_s, duration_s=0.01, finding=finding)


def _backtest(config: Path, data: Path, *words: str) -> int:
    return main(["backtest", "--config", str(config), "--data", str(data), *words])


def test_it_says_when_a_rule_would_have_fired_how_late_and_how_it_flapped(
    config: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _backtest(config, data, "--rule", "service_down", "--last", "2h") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("production: 1 rules over 360 looks and 0 counter samples of ")
    assert len(lines) == 4
    assert all("service_down web: " in line and "resolved after 2 min" in line for line in lines[1:3])
    assert lines[3].startswith("2 would have fired, 1 of them soon after the one before, ")
    assert lines[3].endswith(" after it began (median)")


def test_a_new_rule_is_tried_on_the_same_past(
    config: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new.yaml").write_text(STRICTER)
    words = ("--rule", "service_down", "--rules", str(tmp_path / "new.yaml"))
    assert _backtest(config, data, *words) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("0 would have fired")


def test_json_has_one_object_for_each_time(
    config: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _backtest(config, data, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 2
    assert set(rows[0]) == {"alertname", "service", "began_s", "fired_s", "resolved_s", "text"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rule", "service_don"), 'there is no rule "service_don"; there are: '),
        (("--last", "a week"), '"a week" is not a duration'),
        (("--env", "moon"), 'there is no environment "moon"; defined: production'),
        (("--rules", "nowhere.yaml"), "nowhere.yaml"),
    ],
    ids=["rule", "last", "env", "rules"],
)
def test_what_cannot_be_replayed_says_why(
    words: tuple[str, ...], said: str, config: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _backtest(config, data, *words) == 3
    assert said in capsys.readouterr().err


def test_without_a_past_it_says_where_it_looked(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _backtest(config, tmp_path / "nothing") == 3
    said = capsys.readouterr().err
    assert str(tmp_path / "nothing" / "history.db") in said
    assert "--data names its directory" in said


def test_rules_go_to_standard_output_and_are_the_same_in_a_folder(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rules", "export", "--config", str(config)]) == 0
    shown = json.loads(capsys.readouterr().out)
    out = tmp_path / "rules"
    assert main(["rules", "export", "--config", str(config), "--out", str(out)]) == 0
    assert f"promtool test rules {out}/gaia-production.tests.yml" in capsys.readouterr().out
    assert json.loads((out / "gaia-production.rules.yml").read_text()) == shown
    assert main(["rules", "export", "--config", str(config), "--out", str(out), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"rules", "tests"}
    names = {rule["alert"] for group in shown["groups"] for rule in group["rules"]}
    assert names == {"service_down", "high_error_rate"}


@pytest.mark.skipif(PROMTOOL is None, reason="promtool (Debian: prometheus) is not installed")
def test_promtool_finds_the_exported_rules_right_and_their_tests_pass(config: Path, tmp_path: Path) -> None:
    assert PROMTOOL is not None
    assert main(["rules", "export", "--config", str(config), "--out", str(tmp_path / "out")]) == 0
    for words in (
        ("check", "rules", "gaia-production.rules.yml"),
        ("test", "rules", "gaia-production.tests.yml"),
    ):
        done = subprocess.run(
            [PROMTOOL, *words], cwd=tmp_path / "out", capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--env", "moon"), 'there is no environment "moon"; defined: production'),
        (("--config", "nowhere.yaml"), "nowhere.yaml:1:1: error: cannot be read"),
    ],
    ids=["env", "config"],
)
def test_rules_of_what_is_not_there_are_refused(
    words: tuple[str, ...], said: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rules", "export", "--config", str(config), *words]) == 3
    assert said in capsys.readouterr().err


def test_names_that_lead_nowhere_do_not_break_the_past(
    config: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(FILE.replace("  web:", "  other:"))
    assert _backtest(config, data) == 0
    assert "over 0 looks" in capsys.readouterr().out
