"""`gaia check`: one look now, told in lines, and an exit code like a Nagios plug-in's."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.cli import main


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        path = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1]
        status, body = {
            "/warn": ("200 OK", '{"status": "warn", "output": "queue \\u202elong"}'),
            "/lost": ("404 Not Found", "no \x1b[2J"),
        }.get(path, ("200 OK", '{"status": "pass"}'))
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()
    writer.close()


@pytest.fixture
async def file(tmp_path: Path) -> AsyncIterator[str]:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    path = tmp_path / "gaia.yaml"
    path.write_text(
        "platform: shop\n"
        "environments: {production: {}}\n"
        "services:\n"
        f"  fine: {{url: {url}, internal_url: {url}, probe: [public, internal]}}\n"
        f"  strained: {{url: {url}, health: /warn}}\n"
        f"  lost: {{url: {url}, health: /lost}}\n"
        f"  unasked: {{url: {url}, http: {{auth: {{bearer_file: /nonexistent/token}}}}}}\n"
    )
    yield str(path)
    server.close()


async def check(file: str, *words: str) -> int:
    return await asyncio.to_thread(main, ["check", "--config", file, *words])


@pytest.mark.parametrize(
    ("target", "code"), [("fine", 0), ("strained", 1), ("lost", 2), ("unasked", 3), ("production/*", 2)]
)
async def test_the_exit_code_is_the_worst_state(file: str, target: str, code: int) -> None:
    assert await check(file, target) == code


async def test_a_line_for_each_target_and_the_evidence_where_it_is_not_well(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await check(file, "fine", "lost/http") == 2
    first, phases, second, _, third, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("ok    production/fine/http@public    http://127.0.0.1:")
    assert phases.strip().startswith("connect ")
    assert second.startswith("ok    production/fine/http@internal  http://127.0.0.1:")
    assert third.startswith("DOWN  production/lost/http           http://127.0.0.1:")
    assert third.endswith("/lost answers 404 Not Found, expected 2xx  (status)")
    assert [line.strip() for line in rest if "body" in line or "status" in line] == [
        "status: 404",
        "body: no  [2J",
    ]


async def test_one_of_several_ways_can_be_chosen(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert await check(file, "fine@internal", "--json") == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["target"]["key"]["vantage"] == "internal"


async def test_nothing_from_a_target_reorders_the_terminal(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await check(file, "strained") == 1
    assert "\u202e" not in capsys.readouterr().out


async def test_no_target_of_that_name_is_said_with_those_there_are(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await check(file, "moon") == 3
    assert capsys.readouterr().err == (
        "gaia check: no target matches moon; there is fine, strained, lost, unasked\n"
    )
