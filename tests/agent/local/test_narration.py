from __future__ import annotations

import io
import os
import re

import pytest

from agent.local.narration import Narration
from tests.waiting import until_sync


class _Terminal(io.StringIO):
    encoding = "UTF-8"

    def isatty(self) -> bool:
        return True


class _Ascii(io.StringIO):
    encoding = "ascii"


class _Closed(io.StringIO):
    def write(self, _text: str, /) -> int:
        raise BrokenPipeError


def _without_clock(text: str) -> str:
    return re.sub(r"\d\d:\d\d:\d\d", "12:00:00", text)


def test_a_happening_is_one_line_without_colour_in_a_file() -> None:
    out = _Ascii()
    Narration(out).part("postgres", "down", "killed\n    last line")
    assert _without_clock(out.getvalue()) == "12:00:00  down      postgres         killed\n    last line\n"


def test_a_terminal_gets_glyph_and_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = _Terminal()
    Narration(out).part("nats", "up", "runs again")
    assert (
        _without_clock(out.getvalue()) == "12:00:00  \x1b[32m✓ up       \x1b[0m nats             runs again\n"
    )


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = _Terminal()
    Narration(out).part("nats", "up", "runs again")
    assert "\x1b[3" not in out.getvalue()


def test_progress_is_written_over_on_a_terminal_and_nowhere_else() -> None:
    terminal, file = _Terminal(), _Ascii()
    for out in (terminal, file):
        narration = Narration(out)
        narration.progress("starting")
        narration.plain("ready")
    assert terminal.getvalue() == "\r\x1b[Kstarting\r\x1b[Kready\n"
    assert file.getvalue() == "ready\n"


def test_what_the_agent_prints_is_passed_on() -> None:
    out = _Ascii()
    reader, writer = os.pipe()
    Narration(out).follow(os.fdopen(reader, "rb"))
    with os.fdopen(writer, "wb") as agent:
        agent.write("PAGE postgres down ✗\n".encode())
    until_sync(out.getvalue, what="line passed on")
    assert out.getvalue() == "PAGE postgres down ✗\n"


def test_a_reader_that_went_away_is_not_the_platforms_problem() -> None:
    narration = Narration(_Closed())
    narration.plain("one")
    narration.part("nats", "up", "two")
