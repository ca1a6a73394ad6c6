from __future__ import annotations

import re
from pathlib import Path

from agent.telemetry.options import IntakeOptions
from agent.telemetry.pace import PAUSING, RETRYABLE, SPLITTING
from agent.telemetry.signals import Signal

PAGE = (Path(__file__).parents[3] / "docs" / "telemetry.md").read_text()


def test_every_option_the_page_names_is_one() -> None:
    assert set(re.findall(r"`telemetry\.(\w+)`", PAGE)) <= set(IntakeOptions.__struct_fields__)


def test_every_path_is_on_the_page() -> None:
    assert all(f"/v1/{signal.value}" in PAGE for signal in Signal)


def test_what_the_page_says_of_a_backend_s_answers_is_what_is_done() -> None:
    def codes(after: str) -> set[int]:
        row = next(line for line in PAGE.splitlines() if line.startswith("| ") and after in line)
        return {int(code) for code in re.findall(r"\b[45]\d\d\b", row.split("|")[1])}

    assert codes("again, for ever") == RETRYABLE - {0}
    assert codes("halved until") == SPLITTING
    assert codes("sending pauses") == PAUSING
