"""docs/alerting.md: its example is a valid file without a warning, its commands are commands."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from agent.cli import COMMANDS, main
from agent.platform.load import load

PAGE = Path(__file__).resolve().parents[3] / "docs" / "alerting.md"
TEXT = PAGE.read_text(encoding="utf-8")
VARIABLES = dict.fromkeys(re.findall(r"\$\{(\w+)\}", TEXT), "mailto://a:b@example.org")
PLATFORM = """\
platform: shop
environments:
  production: {alias: prod}
services:
  chat: {url: "https://chat.example.org"}
"""


def test_the_example_is_valid_and_nothing_in_it_is_odd(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    file = tmp_path / "gaia.yaml"
    file.write_text(PLATFORM + textwrap.dedent(block))
    platform = load(file, environ=VARIABLES)
    assert platform.warnings == ()
    assert set(platform.scope("production").receivers) == {"on_call", "duty_phone", "team"}


def test_its_commands_are_commands() -> None:
    named = set(re.findall(r"`gaia (\w+)", TEXT))
    assert named <= set(COMMANDS), named - set(COMMANDS)


@pytest.mark.parametrize("option", ["--with-dependents", "--until-resolved", "--starts"])
def test_its_options_are_options(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["silence", "add", "--help"])
    assert option in capsys.readouterr().out
    assert option in TEXT
