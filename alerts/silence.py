"""Silences: whom not to call, with Alertmanager's matchers, an end, an author and a reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Final

import msgspec

_MATCHER: Final = re.compile(
    r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*("(?:[^"\\]|\\.)*"|[^\s,{}"]*)\s*'
)
_MAX_VALUE: Final = 500


class Matcher(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`name=value`, `!=`, `=~` or `!~`; regular expressions are anchored, a missing label is empty."""

    name: str
    value: str
    is_regex: bool = False
    is_equal: bool = True

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels satisfy the matcher."""
        actual = labels.get(self.name, "")
        if self.is_regex:
            return (_compiled(self.value).fullmatch(actual) is not None) == self.is_equal
        return (actual == self.value) == self.is_equal

    def __str__(self) -> str:
        operator = ("=~" if self.is_equal else "!~") if self.is_regex else ("=" if self.is_equal else "!=")
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"')
        return f'{self.name}{operator}"{escaped}"'


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """Nobody is called for alerts that match, between two wall seconds.

    A resolve still passes if its trigger was sent. `covers_dependents`: what depends on a silenced component
    keeps quiet too. `expire_on_resolve`: ends by itself when nothing that matches fires any longer.
    """

    id: str
    matchers: tuple[Matcher, ...]
    starts_at_s: float
    ends_at_s: float
    author: str
    comment: str
    created_at_s: float
    covers_dependents: bool = False
    expire_on_resolve: bool = False

    def active(self, now_s: float) -> bool:
        """Whether it is in force."""
        return self.starts_at_s <= now_s < self.ends_at_s

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether every matcher is satisfied."""
        return all(matcher.matches(labels) for matcher in self.matchers)


def parse_matchers(text: str) -> tuple[Matcher, ...]:
    """`{service="auth", alertname=~"slow.*"}`, braces optional. Raises ValueError with the remedy."""
    inner = text.strip()
    if inner.startswith("{") and inner.endswith("}"):
        inner = inner[1:-1]
    found: list[Matcher] = []
    at = 0
    while at < len(inner):
        match = _MATCHER.match(inner, at)
        if match is None:
            raise ValueError(f'"{inner[at:]}" is not a matcher: write name=value, name!=value or name=~regex')
        name, operator, raw = match.groups()
        value = re.sub(r"\\(.)", r"\1", raw[1:-1]) if raw.startswith('"') else raw
        found.append(matcher(name, value, is_regex="~" in operator, is_equal=operator[0] == "="))
        at = match.end()
        if at < len(inner):
            if inner[at] != ",":
                raise ValueError(f'"{inner[at:]}": put a comma between matchers')
            at += 1
    return tuple(found)


def matcher(name: str, value: str, *, is_regex: bool = False, is_equal: bool = True) -> Matcher:
    """A checked matcher. Raises ValueError for a bad or endless regular expression."""
    if len(value) > _MAX_VALUE:
        raise ValueError(f"the value for {name} has more than {_MAX_VALUE} characters")
    if is_regex:
        try:
            _compiled(value)
        except re.error as error:
            raise ValueError(f'"{value}" is not a regular expression: {error}') from None
    return Matcher(name=name, value=value, is_regex=is_regex, is_equal=is_equal)


def validated(silence: Silence, now_s: float) -> Silence:
    """The same silence. Raises ValueError when it lacks an end, an author, a comment or a real matcher."""
    if not silence.author.strip() or not silence.comment.strip():
        raise ValueError("a silence needs an author and a comment: say who and why")
    if silence.ends_at_s <= max(silence.starts_at_s, now_s):
        raise ValueError("a silence must end in the future, after its start")
    if all(item.matches({}) for item in silence.matchers):
        raise ValueError("a silence needs at least one matcher that does not match the empty label set")
    return silence


def silencing(silences: Iterable[Silence], labels: Mapping[str, str], now_s: float) -> Silence | None:
    """The first silence in force for these labels."""
    return next((one for one in silences if one.active(now_s) and one.matches(labels)), None)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
