"""`gaia validate` as a person, a script and CI use it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.cli import main
from tests.agent.platform.files import ROOT_FILE, VARIABLES

WRONG = """\
platform: shop
environments:
  production: {check_interval: 10s}
services:
  web:
    url: https://shop.example
    timout: 5s
    slower_than: 2mins
"""


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def written(folder: Path, text: str) -> str:
    path = folder / "gaia.yaml"
    path.write_text(text)
    return str(path)


def test_every_mistake_is_shown_with_its_line_and_a_mark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, WRONG)
    assert main(["validate", "--config", path]) == 3
    out = capsys.readouterr()
    assert (
        out.err
        == f"""\
{path}:7:5: error: unknown key "timout"; did you mean "timeout"?
    7 |     timout: 5s
      |     ^^^^^^
{path}:8:18: error: "2mins" is not a duration: write a number with ms, s, m, h, d or w, such as 10s or 5m
    8 |     slower_than: 2mins
      |                  ^^^^^
"""
    )
    assert out.out == f"{path}: 2 errors\n"


def test_a_password_in_the_shown_line_is_covered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "platform: p\nenvironments: {e: {}}\ndatabases:\n  d: {url: 'mysql://me:sw0rdfish@h/d'}\n"
    assert main(["validate", "--config", written(tmp_path, text)]) == 3
    err = capsys.readouterr().err
    assert "mysql://" in err
    assert "sw0rdfish" not in err


def test_the_root_file_needs_only_its_variables(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--config", str(ROOT_FILE)]) == 3
    err = capsys.readouterr().err
    assert "${DATABASE_URL} is not set; environments development, staging and production need it" in err
    assert "${ONCALL_URL} is not set; environments staging and production need it" in err


def test_ci_has_no_secrets_and_checks_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--config", str(ROOT_FILE), "--without-secrets", "--strict"]) == 0
    assert capsys.readouterr().out.startswith(
        f"{ROOT_FILE}: ok: 3 environments, 4 services, 1 database, 1 broker"
    )


def test_only_the_chosen_environments_variables_are_insisted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://h/d")
    monkeypatch.setenv("NATS_URL", "nats://h")
    assert main(["validate", "--config", str(ROOT_FILE), "--env", "development"]) == 0
    assert main(["validate", "--config", str(ROOT_FILE), "--env", "prod"]) == 3


def test_an_environment_that_is_not_there_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--config", str(ROOT_FILE), "--env", "prdo"]) == 3
    assert (
        'there is no environment "prdo"; defined: development, staging, production' in capsys.readouterr().err
    )


def test_a_warning_stops_only_the_strict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "platform: p\nenvironments: {e: {machines: {min: 0}}}\n")
    assert main(["validate", "--config", path]) == 0
    assert main(["validate", "--config", path, "--strict"]) == 3
    assert capsys.readouterr().out.splitlines()[0] == f"{path}: 1 warning: 1 environment, 21 rules"


def test_a_script_gets_one_json_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, WRONG)
    assert main(["validate", "--config", path, "--json"]) == 3
    out = capsys.readouterr()
    assert out.err == ""
    document = json.loads(out.out)
    assert (document["ok"], document["file"], document["environments"]) == (False, path, [])
    assert document["problems"][0] == {
        "file": path,
        "line": 7,
        "column": 5,
        "severity": "error",
        "key": "services.web.timout",
        "message": 'unknown key "timout"',
        "nearest": "timeout",
        "environment": None,
    }


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "nowhere.yaml"
    assert main(["validate", "--config", str(path)]) == 3
    assert capsys.readouterr().err == f"{path}:1:1: error: cannot be read: No such file or directory\n"
