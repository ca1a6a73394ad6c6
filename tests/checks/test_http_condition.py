"""Conditions on JSON answers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


JSON: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abn"), inner, max_size=3),
    max_leaves=10,
)
CONDITIONS = st.builds(
    "{}{}{} {} {}".format,
    st.sampled_from(["", "len("]),
    st.sampled_from(["a", "a.b", "a[0].n", "$.n", "b[1][0]", "[0]", "a..b", "a[", "."]),
    st.sampled_from(["", ")"]),
    st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "~", "exists", "="]),
    st.sampled_from(["1", "1.5", "true", "null", '"x"', "[1]", "(", "", '{"a": 1}', "NaN"]),
) | st.text(max_size=20)


@settings(deadline=None)  # a busy machine is no finding
@given(CONDITIONS, JSON)
def test_any_condition_on_any_tree_has_an_answer_or_was_refused(text: str, tree: object) -> None:
    try:
        condition = parse_condition(text)
    except ValueError:
        return
    failure = condition.failure(tree)  # type: ignore[arg-type] # any tree of JSON is meant
    assert failure is None or failure.startswith(condition.text)
