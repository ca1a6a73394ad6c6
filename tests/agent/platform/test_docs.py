"""docs/gaia-yaml.md says what the loader does."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from agent.cli import COMMANDS
from agent.platform import model
from agent.platform.docs import MARK, PAGE, reference
from agent.platform.meanings import MEANINGS
from tests.agent.platform.files import loaded

BY_HAND, _, WRITTEN = PAGE.read_text().partition(MARK)
TABLES = [
    table
    for table in vars(model).values()
    if isinstance(table, type)
    and issubclass(table, msgspec.Struct)
    and table.__module__ == model.__name__
    and table.__name__ in MEANINGS
]


def test_the_reference_is_written_from_the_code_as_it_is_now() -> None:
    assert reference() == WRITTEN, "run python -m agent.platform.docs"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_every_key_of_ours_has_its_meaning(table: type[msgspec.Struct]) -> None:
    filled_in = {"name", "vantages", "options"}
    beside = {"http"} if table is model.Service else set()
    assert set(MEANINGS[table.__name__]) == set(table.__struct_encode_fields__) - filled_in | beside


def test_the_examples_work_as_they_stand(tmp_path: Path) -> None:
    least, *more = re.findall(r"```yaml\n(.*?)```", BY_HAND, re.DOTALL)
    assert len(least.splitlines()) <= 10
    for example in (least, *more):
        assert loaded(tmp_path, example).warnings == ()


def test_every_command_on_the_page_exists() -> None:
    assert set(re.findall(r"`gaia ([a-z]+)", BY_HAND)) <= set(COMMANDS)
