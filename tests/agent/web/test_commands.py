"""`gaia status` and `gaia dashboards` as commands against a served platform."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from agent.cli import main
from agent.web.server import WebOptions, serving
from dashboards.export import documents
from tests.agent.web.platform import Platform, database_down, refused, small, target


async def status(platform: Platform, *words: str) -> int:
    async with serving(platform, WebOptions(port=0)) as port:
        return await asyncio.to_thread(main, ["status", "--url", f"http://127.0.0.1:{port}", *words])


async def test_all_well_exits_0_and_lists_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert await status(small()) == 0
    assert capsys.readouterr().out == (
        "Production is healthy\n"
        "Production: 4 of 4 up. No alert is active.\n"
        "\n"
        "production   up        4 of 4 up   as of 14:00:25Z\n"
        "  ok    gateway auth chat postgres\n"
        "\n"
        "agent        0.1.0, 4 checks, none late, nothing undelivered, config 9f3c1a\n"
    )


async def test_a_failure_exits_2_and_stands_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert await status(database_down()) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "postgres is down in production"
    assert lines[4] == "  DOWN  postgres    db.example:5432 refuses connections: nobody listens there   20 s"
    assert lines[7] == "  ok    gateway"


async def test_json_is_the_answer_of_the_api(capsys: pytest.CaptureFixture[str]) -> None:
    assert await status(small(), "--json") == 0
    assert json.loads(capsys.readouterr().out)["headline"] == "Production is healthy"


async def test_nothing_seen_yet_and_no_agent_exit_3(capsys: pytest.CaptureFixture[str]) -> None:
    platform = Platform()
    platform.place((target("auth"), ()))
    assert await status(platform) == 3
    assert await status(platform, "--env", "moon") == 3
    assert await asyncio.to_thread(main, ["status", "--url", "http://127.0.0.1:1"]) == 3
    assert "no environment 'moon' is watched; there are production" in capsys.readouterr().err


async def test_a_targets_words_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    platform = Platform()
    platform.place((target("auth"), ()))
    for _ in range(2):
        platform.look(target("auth").key, refused("\x1b[2Jgone\u202e\n"))
    assert await status(platform) == 2
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out


def test_dashboards_are_exported_as_committed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboards", "export", "--to", str(tmp_path / "new")]) == 0
    assert {path.name: path.read_text() for path in (tmp_path / "new").iterdir()} == documents()
    assert main(["dashboards", "list"]) == 0
    assert "gaia-overview.json" in capsys.readouterr().out
    (tmp_path / "file").write_text("")
    assert main(["dashboards", "export", "--to", str(tmp_path / "file" / "x")]) == 3
