"""Conditions on a JSON answer: `status == "ok"`, `len(items) >= 1`, `queue.depth < 100`, `db exists`."""

from __future__ import annotations

import re
from typing import Final

import msgspec
from msgspec import Struct

from checks.health_document.json import Json

_CONDITION: Final = re.compile(
    r"\s*(?P<len>len\(\s*)?(?P<path>[^\s()<>=!~]+)(?(len)\s*\))\s*(?P<op>==|!=|<=|>=|<|>|~|exists)\s*(?P<value>.*?)\s*"
)
_STEP: Final = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


class Condition(Struct, frozen=True, kw_only=True):
    """One condition; `text` is how it was written."""

    text: str
    steps: tuple[str | int, ...]
    length: bool
    operator: str
    value: Json

    def failure(self, tree: Json) -> str | None:
        """Why `tree` does not meet it, as the end of a sentence; None when it does."""
        found, present = _walk(tree, self.steps)
        if not present:
            return f"{self.text} fails: there is no such value"
        if self.operator == "exists":
            return None
        if self.length:
            if not isinstance(found, (list, dict, str)):
                return f"{self.text} fails: it has no length"
            found = len(found)
        if _holds(found, self.operator, self.value):
            return None
        return f"{self.text} fails: it is {msgspec.json.encode(found).decode()[:80]}"


def parse_condition(text: str) -> Condition:
    """Raises ValueError with the remedy when `text` is no condition."""
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise ValueError(
            f'"{text}" is no condition: write a path, an operator and a value, such as status == "ok"'
        )
    operator, raw = match["op"], match["value"]
    value: Json = None
    if operator == "exists":
        if raw:
            raise ValueError(f'"{text}": exists takes no value')
    elif operator == "~":
        value = raw.strip('"')
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f'"{text}": {error}') from error
    else:
        try:
            value = msgspec.json.decode(raw)
        except msgspec.DecodeError as error:
            raise ValueError(f'"{text}": {raw or "nothing"} is no JSON value: quote texts') from error
    return Condition(
        text=text.strip(),
        steps=_steps(match["path"]),
        length=match["len"] is not None,
        operator=operator,
        value=value,
    )


def _steps(path: str) -> tuple[str | int, ...]:
    bare = path.removeprefix("$").removeprefix(".")
    steps: list[str | int] = []
    at = 0
    while at < len(bare):
        match = _STEP.match(bare, at)
        if match is None:
            raise ValueError(f'"{path}" is no path: write names and [numbers], such as items[0].name')
        steps.append(int(match[2]) if match[2] is not None else match[1])
        at = match.end()
        if at < len(bare) and bare[at] == ".":
            at += 1
    return tuple(steps)


def _walk(tree: Json, steps: tuple[str | int, ...]) -> tuple[Json, bool]:
    for step in steps:
        if isinstance(step, int):
            if not isinstance(tree, list) or step >= len(tree):
                return None, False
            tree = tree[step]
        else:
            if not isinstance(tree, dict) or step not in tree:
                return None, False
            tree = tree[step]
    return tree, True


def _holds(found: Json, operator: str, value: Json) -> bool:
    if operator in ("==", "!="):
        same = found == value and isinstance(found, bool) == isinstance(value, bool)
        return same == (operator == "==")
    if operator == "~":
        return isinstance(found, str) and re.search(str(value), found) is not None
    if isinstance(found, bool) or isinstance(value, bool):
        return False
    if isinstance(found, (int, float)) and isinstance(value, (int, float)):
        return _ordered(found < value, found > value, operator)
    if isinstance(found, str) and isinstance(value, str):
        return _ordered(found < value, found > value, operator)
    return False


def _ordered(less: bool, more: bool, operator: str) -> bool:  # noqa: FBT001 - two facts about one comparison
    match operator:
        case "<":
            return less
        case "<=":
            return not more
        case ">":
            return more
        case _:
            return not less
