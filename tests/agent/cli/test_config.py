"""`gaia config show`: what is in effect, and where it is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.cli import main
from tests.agent.platform.files import ROOT_FILE, VARIABLES

TEXT = """\
platform: shop
environments:
  staging: {check_interval: 20s}
  production:
    machines: {min: 2, max: 4}
services:
  web:
    url: https://shop.example
    environments:
      production: {slower_than: 1s}
databases:
  main:
    url: ${DATABASE_URL}
    heartbeat: 2s
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:sw0rdfish@h/d")
    path = tmp_path / "gaia.yaml"
    path.write_text(TEXT)
    return str(path)


def shown(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads(capsys.readouterr().out)
    return found


def test_each_value_has_its_place(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", "--config", file, "--env", "production", "--json"]) == 0
    found = shown(capsys)
    wanted = [
        *(f"services.web.{key}" for key in ("url", "slower_than", "machines.min", "health")),
        "databases.main.heartbeat",
        "databases.main.url",
    ]
    assert {key: (found[key]["value"], found[key]["origin"]) for key in wanted} == {
        "services.web.url": ("https://shop.example", f"{file}:8"),
        "services.web.slower_than": ("1s", f"{file}:10"),
        "services.web.machines.min": ("2", f"{file}:5"),
        "services.web.health": ("/health", "default"),
        "databases.main.heartbeat": ("2s", f"{file}:14"),
        "databases.main.url": ("***", f"{file}:13 ${{DATABASE_URL}}"),
    }


def test_a_confirmation_policy_is_laid_key_by_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "confirm.yaml"
    file.write_text(
        "platform: shop\n"
        "environments:\n"
        "  staging: {}\n"
        "  production:\n"
        "    confirm: {recoveries: 3, soft_failures: 4}\n"
        "services:\n"
        "  web:\n"
        "    url: https://shop.example\n"
        "    confirm: {soft_failures: 5}\n"
        "    environments:\n"
        "      production: {confirm: {soft_after: [500ms, 2s]}}\n"
    )
    found = {}
    for environment in ("production", "staging"):
        assert main(["config", "show", "--config", str(file), "--env", environment, "--json"]) == 0
        found[environment] = {
            key.rpartition(".")[2]: (one["value"], one["origin"].removeprefix(f"{file}:"))
            for key, one in shown(capsys).items()
            if key.startswith("services.web.confirm.")
        }
    usual = {
        "hard_failures": ("2", "default"),
        "hard_after": ("[50ms]", "default"),
        "recovery_after": ("[250ms]", "default"),
        "soft_failures": ("5", "9"),
    }
    assert found == {
        "production": usual | {"recoveries": ("3", "5"), "soft_after": ("[500ms, 2s]", "11")},
        "staging": usual | {"recoveries": ("2", "default"), "soft_after": ("[250ms, 1s]", "default")},
    }


def test_what_an_environment_lends_is_found_there(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["config", "show", "services.web.interval", "--config", file, "--env", "staging", "--origin"])
        == 0
    )
    assert capsys.readouterr().out == f"services.web.interval: 20s  # {file}:3\n"


def test_several_environments_need_a_choice_and_an_unknown_key_is_said(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "show", "--config", file]) == 3
    assert main(["config", "show", "services.wbe", "--config", file, "--env", "staging"]) == 3
    assert capsys.readouterr().err.splitlines() == [
        "gaia config: name one environment with --env: staging, production",
        'gaia config: nothing is called "services.wbe"',
    ]


@pytest.mark.parametrize("environment", ["development", "staging", "production"])
def test_no_secret_of_the_root_file_is_shown(
    environment: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    assert main(["config", "show", "--config", str(ROOT_FILE), "--env", environment, "--origin"]) == 0
    out = capsys.readouterr().out
    assert "secret@" not in out
    assert "hooks.example" not in out
    assert "databases.postgres.url: ***" in out
