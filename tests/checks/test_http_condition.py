"""Conditions on JSON answers."""

from __future__ import annotations

import pytest

from checks.http.condition import parse_condition

TREE = {"status": "ok", "on": True, "n": 3, "items": [{"name": "a"}], "deep": {"x": None}}


@pytest.mark.parametrize(
    "text",
    [
        'status == "ok"',
        '$.status != "down"',
        "on == true",
        "n >= 3",
        "n<4",
        'items[0].name ~ "^a$"',
        "len(items) == 1",
        "deep.x == null",
        "deep.x exists",
        'status > "oa"',
    ],
)
def test_what_holds_has_no_failure(text: str) -> None:
    assert parse_condition(text).failure(TREE) is None  # type: ignore[arg-type] # a literal is no Json to mypy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("n == 4", "n == 4 fails: it is 3"),
        ("n == true", "n == true fails: it is 3"),
        ("on == 1", "on == 1 fails: it is true"),
        ("absent exists", "absent exists fails: there is no such value"),
        ("items[1] exists", "items[1] exists fails: there is no such value"),
        ("len(n) > 1", "len(n) > 1 fails: it has no length"),
        ('n < "x"', 'n < "x" fails: it is 3'),
    ],
)
def test_what_does_not_hold_says_what_it_is(text: str, words: str) -> None:
    assert parse_condition(text).failure(TREE) == words  # type: ignore[arg-type] # a literal is no Json to mypy


@pytest.mark.parametrize(
    "text", ["", "status", "status = 1", "status == ok", "a[x] == 1", 'a ~ "("', "a exists 1"]
)
def test_what_is_no_condition_is_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_condition(text)
