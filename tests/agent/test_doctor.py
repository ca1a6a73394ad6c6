"""The doctor's SQL works on real servers, and its bundle keeps secrets."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from agent.cli import OK, PROBLEM, UNKNOWN, main
from agent.cli.doctor import redacted
from tests.servers import PostgresServer

FILE = """\
platform: shop
environments:
  production: {alias: prod, check_interval: 10s, alerts: none}
databases:
  postgres: {url: "URL"}
"""


def test_a_role_name_that_needs_quoting_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "postgres", "--role", "x; DROP TABLE users"]) == UNKNOWN
    assert "not a plain lower-case role name" in capsys.readouterr().err


def test_a_working_platform_is_well_and_a_plain_role_is_told_what_it_misses(
    postgres_server: PostgresServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    server = postgres_server.server
    server.run_sql("DROP ROLE IF EXISTS blind; CREATE ROLE blind LOGIN PASSWORD 'p'")
    file = tmp_path / "gaia.yaml"
    file.write_text(FILE.replace("URL", server.url_of(user="blind", password="p")))
    code = main(["doctor", "--json", "--config", str(file), "--bundle", str(tmp_path / "b.tar.gz")])
    items = json.loads(capsys.readouterr().out)["items"]
    told = {item["about"]: item["message"] for item in items}
    assert code == PROBLEM
    assert (
        "GRANT" in told["production/postgres/postgres"] or "unknown" in told["production/postgres/postgres"]
    )
    with tarfile.open(tmp_path / "b.tar.gz") as bundle:
        kept = bundle.extractfile("gaia.yaml")
        assert kept is not None
        text = kept.read().decode()
    assert "blind" not in text
    assert "***@127.0.0.1" in text


def test_a_broken_file_is_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gaia.yaml"
    file.write_text("platform: [")
    assert main(["doctor", "--config", str(file)]) == UNKNOWN
    assert "bad   file" in capsys.readouterr().out


def test_doctor_postgres_prints_and_is_fine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "postgres"]) == OK
    assert "CONNECTION LIMIT 4" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("url: postgresql://a:b@h:1/d", "url: postgresql://***@h:1/d"),
        ("url: https://h/x?token=1", "url: https://h/x?***"),
        ("api_token: abc", "api_token: ***"),
        ("api_token: ${TOKEN}", "api_token: ${TOKEN}"),
        ("  password: hunter2", "  password: ***"),
    ],
)
def test_secrets_are_masked(text: str, expected: str) -> None:
    assert redacted(text) == expected
