"""`gaia status` and `gaia dashboards` as commands against a served platform."""

from __future__ import annotations

import asyncio
import html
import json
import re
from pathlib import Path

import aiohttp
import pytest

from agent.cli import main
from agent.web.server import WebOptions, serving
from checks.finding import Evidence, Finding, Phase, PhaseTime, State
from checks.reason import Reason
from dashboards.export import documents
from tests.agent.web.platform import Platform, database_down, refused, scaled, small, target, up


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


async def test_one_instance_down_exits_1_and_says_of_how_many(capsys: pytest.CaptureFixture[str]) -> None:
    assert await status(scaled(State.UP, State.UP, State.DOWN)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "chat is degraded in production"
    assert lines[4].startswith("  poor  chat        1 of 3 instances does not answer: 10.0.0.3:8003 refuses")
    assert await status(scaled(State.DOWN, State.DOWN)) == 2


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


async def explain(platform: Platform, *words: str) -> int:
    async with serving(platform, WebOptions(port=0)) as port:
        return await asyncio.to_thread(main, ["explain", *words, "--url", f"http://127.0.0.1:{port}"])


async def test_a_target_is_explained_with_its_last_failures_and_their_evidence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    platform = small()
    key = target("auth").key
    failing = Finding(
        state=State.DOWN,
        reason=Reason.STATUS,
        message="auth:80 answers 503, expected 2xx",
        phases=(
            PhaseTime(phase=Phase.CONNECT, duration_s=0.0012),
            PhaseTime(phase=Phase.PROCESSING, duration_s=0.3),
        ),
        evidence=(
            Evidence(name="trace_id", value="4bf92f3577b34da6a3ce929d0e0e4736"),
            Evidence(name="ip", value="10.0.0.7"),
            Evidence(name="body", value="no \x1b[2Jdatabase"),
        ),
    )
    platform.look(key, failing)
    platform.look(key, up())
    assert await explain(platform, "auth/http") == 0
    out = capsys.readouterr().out
    assert out.startswith("production/auth/http@local: up (ok)")
    assert "  last failures, newest first:\n" in out
    assert out.endswith(
        ": down (status)\n"
        "    auth:80 answers 503, expected 2xx\n"
        "    phases    connect 1.2ms · processing 300ms\n"
        "    trace_id  4bf92f3577b34da6a3ce929d0e0e4736\n"
        "    ip        10.0.0.7\n"
        "    body      no ?[2Jdatabase\n"
    )
    assert await explain(platform, "production/*", "--failures", "0", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["target"]["service"] for one in told["targets"]] == ["gateway", "auth", "chat", "postgres"]


async def test_the_page_and_the_api_tell_the_same_failures(capsys: pytest.CaptureFixture[str]) -> None:
    platform = database_down()
    async with serving(platform, WebOptions(port=0)) as port:
        base = f"http://127.0.0.1:{port}"
        assert await asyncio.to_thread(main, ["explain", "postgres", "--url", base, "--json"]) == 0
        async with aiohttp.ClientSession(base) as client:
            async with client.get("/") as response:
                link = re.search(r'href="(/failures\?[^"]*service=postgres[^"]*)"', await response.text())
            assert link is not None
            async with client.get(html.unescape(link[1])) as response:
                page = await response.text()
            async with client.get("/api/v1/history", params={"service": "postgres"}) as response:
                history = await response.json()
            async with client.get("/failures", params={"service": "moon"}) as response:
                assert response.status == 404
    (told,) = json.loads(capsys.readouterr().out)["targets"]
    assert told["failures"] == history["failures"][:5]
    assert told["failures"]
    for failure in history["failures"]:
        assert html.escape(failure["finding"]["message"]) in page
        for fact in failure["finding"]["evidence"]:
            assert html.escape(fact["value"]) in page


async def test_what_is_not_there_is_not_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert await explain(small(), "moon") == 3
    assert capsys.readouterr().err.startswith(
        'gaia explain: there is no alert, target or episode called "moon"; watched: gateway, auth, chat,'
    )
