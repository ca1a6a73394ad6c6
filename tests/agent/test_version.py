"""The version the agent says is that of the installed package, which it never asks."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from agent import VERSION
from agent.cli import main


def test_it_is_the_installed_one() -> None:
    assert version("gaia-agent") == VERSION


def test_the_command_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"gaia {VERSION}\n"
