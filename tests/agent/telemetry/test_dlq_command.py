from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from agent.cli import main
from agent.telemetry.dead_letters import DeadLetters, Label
from agent.telemetry.signals import Signal
from tests.agent.telemetry.backend import ACCEPT, Verdict, backend
from tests.agent.telemetry.otlp import logs, messages_of, post, running
from tests.agent.telemetry.test_forwarder import options_for
from tests.waiting import until


def label(at_s: float = 1.0) -> Label:
    return Label(
        destination="tempo", signal=Signal.LOGS, reason="rejected_by_backend", items=1, at_s=at_s, status=400,
        answer="bad password=hunter22",
    )  # fmt: skip


@pytest.fixture
def letters(tmp_path: Path) -> DeadLetters:
    return DeadLetters(tmp_path / "telemetry" / "dead")


def gaia(tmp_path: Path, *words: str) -> int:
    return main(["dlq", "--data", str(tmp_path), *words])


def test_nothing_put_aside_is_exit_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gaia(tmp_path, "ls") == 0
    assert capsys.readouterr().out == "nothing is put aside\n"


def test_each_is_one_line_without_its_secrets_and_exit_1(
    tmp_path: Path, letters: DeadLetters, capsys: pytest.CaptureFixture[str]
) -> None:
    name = letters.add(label(), logs("x"))
    assert gaia(tmp_path, "ls") == 1
    assert capsys.readouterr().out == (
        f"{name}  1970-01-01 00:00:01Z  tempo  1 items of logs  rejected_by_backend"
        "  HTTP 400 bad password=***\n"
    )
    assert gaia(tmp_path, "ls", "--json") == 1
    [row] = msgspec.json.decode(capsys.readouterr().out)
    assert (row["id"], row["reason"], row["waiting"]) == (name, "rejected_by_backend", False)


def test_show_prints_the_content_redacted(
    tmp_path: Path, letters: DeadLetters, capsys: pytest.CaptureFixture[str]
) -> None:
    name = letters.add(label(), logs("login failed for postgres://gaia:hunter22@db/x"))
    assert gaia(tmp_path, "show", name) == 0
    out = capsys.readouterr().out
    assert "postgres://gaia:***@db/x" in out
    assert "hunter22" not in out


def test_drop_removes_and_replay_marks(tmp_path: Path, letters: DeadLetters) -> None:
    first, second = letters.add(label(1), logs("a")), letters.add(label(2), logs("b"))
    assert gaia(tmp_path, "drop", first) == 0
    assert gaia(tmp_path, "replay", "--all") == 0
    assert [(letter.id, letter.waiting) for letter in letters.letters()] == [(second, True)]


@pytest.mark.parametrize(
    "words", [("drop", "nothing"), ("show", "../../etc/passwd"), ("replay",), ("drop", "../x")]
)
def test_what_is_not_there_is_exit_3(
    tmp_path: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert gaia(tmp_path, *words) == 3
    assert capsys.readouterr().err.startswith("gaia dlq")


def test_the_oldest_make_room(tmp_path: Path) -> None:
    few = DeadLetters(tmp_path, max_letters=3)
    names = [few.add(label(at_s), logs(str(at_s))) for at_s in range(1, 6)]
    assert [letter.id for letter in few.letters()] == names[2:]


def test_a_damaged_letter_is_said_and_does_not_hide_the_others(
    tmp_path: Path, letters: DeadLetters, capsys: pytest.CaptureFixture[str]
) -> None:
    name = letters.add(label(), logs("a"))
    path = tmp_path / "telemetry" / "dead" / f"{name}.dead"
    path.write_bytes(path.read_bytes()[:-3])
    (path.parent / "00000000000000000001-00000000.dead").write_bytes(b"garbage")
    assert gaia(tmp_path, "ls") == 1
    assert gaia(tmp_path, "show", name) == 3
    assert "damaged" in capsys.readouterr().err


async def test_what_is_marked_is_sent_again_by_the_running_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.telemetry.forwarder._RETRY_LETTERS_S", 0.05)
    async with backend() as tempo:
        mended = False
        tempo.decide = lambda _path, _body: ACCEPT if mended else Verdict(400)
        async with running(tmp_path / "telemetry", options_for(tempo)) as intake:
            assert (await post(intake.port, "/v1/logs", logs("poison"))).status == 200
            letters = DeadLetters(tmp_path / "telemetry" / "dead")
            await until(lambda: list(letters.letters()))
            mended = True
            assert await asyncio.to_thread(gaia, tmp_path, "replay", "--all") == 0
            await until(lambda: not list(letters.letters()))
            assert messages_of(tempo.bodies("/v1/logs")) == ["poison"]
            assert intake.forwarders["tempo"].replayed == 1
