"""No bytes make the loader crash, hang or eat memory; all it ever raises is a PlatformError."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.platform.load import resolve
from agent.platform.problem import PlatformError
from agent.platform.read import MAX_BYTES, read
from tests.agent.platform.files import ROOT_FILE, VARIABLES

ROOT_LINES = ROOT_FILE.read_text().splitlines(keepends=True)
WORDS = st.sampled_from(
    [
        "platform", "environments", "services", "databases", "brokers", "alerts", "rules", "policies", "url",
        "checks", "kind", "http", "signal", "depends_on", "resources", "machines", "receivers", "timeout",
        "${X}", "${", "{env}", "10s", "5%", "1GB", "true", "off", "~", "error_ratio", "a", "",
    ]
)  # fmt: skip
VALUES = st.recursive(
    WORDS | st.integers() | st.floats() | st.none() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=25,
)


def survives(content: bytes) -> None:
    try:
        resolve(read(content, "f"), files=("f",), environ=VARIABLES)
    except PlatformError as error:
        problems = error.problems
    else:
        return
    assert problems
    assert all(problem.line >= 1 and problem.column >= 1 for problem in problems)
    assert not any("\n" in problem.message for problem in problems)


@given(st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_random_bytes(content: bytes) -> None:
    survives(content)


@given(st.text(alphabet=":-{}[]&*!|>'\"%@`#, \n\tab${}", max_size=120))
@settings(max_examples=200, deadline=None)
def test_random_yaml_like_text(text: str) -> None:
    survives(text.encode())


@given(VALUES)
@example({"environments": {"platform": "\n"}})
@settings(max_examples=200, deadline=None)
def test_random_documents_of_our_own_words(value: object) -> None:
    import yaml

    survives(
        yaml.safe_dump(
            {"platform": "p", "environments": {"e": {}}, "services": value, "alerts": value}
        ).encode()
    )
    survives(yaml.safe_dump(value).encode())


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_the_root_file_with_a_few_changes(data: st.DataObject) -> None:
    lines = list(ROOT_LINES)
    for _ in range(data.draw(st.integers(1, 3))):
        index = data.draw(st.integers(0, len(lines) - 1))
        change = data.draw(st.sampled_from(["drop", "double", "cut", "word", "indent"]))
        if change == "drop":
            del lines[index]
        elif change == "double":
            lines.insert(index, lines[index])
        elif change == "cut":
            lines[index] = lines[index][: data.draw(st.integers(0, len(lines[index])))] + "\n"
        elif change == "word":
            lines[index] = lines[index].replace(":", f": {data.draw(WORDS)}", 1)
        else:
            lines[index] = "  " + lines[index]
    survives("".join(lines).encode())


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"[" * 500_000, "nested deeper than 32 levels"),
        (b"- " * 300_000, "nested deeper than 32 levels"),
        (b"{a: " * 100_000, "nested deeper than 32 levels"),
        (BOMB.encode(), "more than 200000 values, aliases counted at each use"),
        (b"x: [" + b"a," * 250_000 + b"]", "more than 200000 values, aliases counted at each use"),
        (b"a: " + b"x" * MAX_BYTES, "the file is longer than 4 MB"),
    ],
    ids=["brackets", "dashes", "braces", "billion laughs", "many values", "long"],
)
def test_a_bomb_is_refused_at_once(content: bytes, sentence: str) -> None:
    started = time.process_time()
    with pytest.raises(PlatformError) as caught:
        read(content, "f")
    assert [problem.message for problem in caught.value.problems] == [sentence]
    assert time.process_time() - started < 20


def test_a_file_that_grows_while_it_is_read_is_read_to_its_limit_only() -> None:
    with Path("/dev/zero").open("rb") as endless:
        content = endless.read(MAX_BYTES + 1)
    with pytest.raises(PlatformError, match="longer than 4 MB"):
        read(content, "f")
