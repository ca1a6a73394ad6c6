"""Go's regular expressions in Python: the same where they look the same, refused where they cannot be."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.go_pattern import python_pattern

# Pattern, text, and whether Go finds it there.
FOUND = (
    ("hello$", "hello\n", False),
    ("hello$", "hello", True),
    ("(?m)hello$", "hello\n", True),
    (r"hello\z", "hello", True),
    (r"^\d+$", "12", True),
    (r"^\d+$", "\u0661\u0662", False),
    (r"\w", "\u00e9", False),
    (r"^\s$", "\v", False),
    (r"^[\s]$", "\v", False),
    (r"^\S$", "\v", True),
    ("[[:alpha:]_]+", "a_b", True),
    ("[[:digit:]]", "x", False),
    ("^[^[:space:]]+$", "ab", True),
    ("(?i)HELLO", "hello", True),
    ("(?is)a.b", "A\nB", True),
    ("a.b", "a\nb", False),
    ("(?i:A)b", "ab", True),
    (r"\Qa.b\E$", "a.b", True),
    (r"\Qa.b", "axb", False),
    (r"\x{1F600}", "\U0001f600", True),
    (r"[\x{61}-c]", "b", True),
    ("[]a]", "]", True),
    ("[^]a]", "]", False),
    ("[a&&b]", "&", True),
    ("(?P<who>a)", "a", True),
    ("(?<who>a)", "a", True),
    (r"\.", ".", True),
)


@pytest.mark.parametrize(
    ("pattern", "text", "found"), FOUND, ids=[f"{case[0]} {case[1]!r}" for case in FOUND]
)
def test_a_pattern_finds_what_go_finds(pattern: str, text: str, *, found: bool) -> None:
    assert (re.search(python_pattern(pattern), text) is not None) is found


@pytest.mark.parametrize(
    "pattern",
    ["(", "[a", r"\pL", r"\1", "(?=a)", "(?!a)", "(?<!a)b", "a(?i)b", "(?U)a", "(?m:a$)", "[[:odd:]]", "a**",
     "[[:^alpha:]]", r"[\S]", r"\x{110000}", r"\Z", r"\G", "\\"],
)  # fmt: skip
def test_what_cannot_mean_the_same_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f'"{pattern}"')):
        python_pattern(pattern)


@given(st.text(alphabet="ab[]()^$\\.*+?{}|:-dDsSwWbBAzZQExpLimU<>P=!#&~1, \n", max_size=40))
def test_whatever_is_written_is_translated_or_refused(pattern: str) -> None:
    try:
        translated = python_pattern(pattern)
    except ValueError:
        return
    re.compile(translated)
