"""Types of the file in words, for messages: what was expected and what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
from msgspec import inspect

from agent.platform.problem import nearest
from agent.platform.tree import Mapping, Node, Scalar, Sequence, is_null
from checks.secret import Secret
from checks.units import Duration, Ratio, Size

_CUSTOM: Final[dict[type, str]] = {
    Duration: "a duration such as 10s or 5m",
    Size: "a size such as 512MB",
    Ratio: "a ratio such as 5%",
    Secret: 'a text, usually "${VARIABLE}"',
}
# Words of Fly.io's, the strategy's and other tools' for what is called otherwise here.
_SYNONYMS: Final = {
    "dedicated": "performance", "true": "stop", "false": "off", "warn": "WARNING", "replica": "standby",
    "master": "primary", "cluster": "clustered",
}  # fmt: skip
_BOOLEAN_WORDS: Final = {
    "yes": "true",
    "on": "true",
    "y": "true",
    "no": "false",
    "off": "false",
    "n": "false",
}


def expected(wanted: type) -> str:
    """A custom type in words."""
    return _CUSTOM.get(wanted, wanted.__name__.lower())


def listed(words: Iterable[str]) -> str:
    """`a, b, c`, cut where it would fill the screen."""
    all_words = list(words)
    shown_words = ", ".join(all_words[:24])
    return shown_words + (f" and {len(all_words) - 24} more" if len(all_words) > 24 else "")


def shown(value: object) -> str:
    """A value as people write it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # A line end in a message would look like a second message.
        return f'"{value}"' if value.isprintable() else f'"{repr(value)[1:-1]}"'
    return str(value)


def written(node: Node) -> str:
    """What is there, in words."""
    if isinstance(node, Scalar):
        return "nothing" if is_null(node) else (shown(node.text) if len(node.text) <= 60 else "a long text")
    return "a list" if isinstance(node, Sequence) else "a table of keys"


def told(kind: inspect.Type) -> str:
    """An expected type in words."""
    match kind:
        case inspect.CustomType():
            return expected(kind.cls)
        case inspect.LiteralType():
            return f"one of {listed(str(value) for value in kind.values)}"
        case inspect.EnumType():
            return f"one of {listed(str(member.value) for member in kind.cls)}"
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return "a whole number" + _bounds(kind.ge, kind.le)
        case inspect.FloatType():
            return "a number" + _bounds(kind.ge, kind.le)
        case inspect.StrType():
            return "a text"
        case inspect.StructType() | inspect.DictType():
            return "a table of keys"
        case inspect.VarTupleType() | inspect.ListType():
            return "a list"
        case inspect.UnionType():
            parts = [told(option) for option in kind.types if not isinstance(option, inspect.NoneType)]
            return " or ".join(dict.fromkeys(parts))
        case _:
            return "a value"


def fits(node: Node, kind: inspect.Type) -> bool:
    """Whether `node` has the shape of `kind`: table, list or single value."""
    if isinstance(kind, inspect.StructType | inspect.DictType):
        return isinstance(node, Mapping)
    if isinstance(kind, inspect.VarTupleType | inspect.ListType):
        return isinstance(node, Sequence)
    return isinstance(node, Scalar)


def near(text: str, kind: inspect.Type) -> str:
    """The valid word that was probably meant."""
    match kind:
        case inspect.LiteralType():
            return _word(text, [str(value) for value in kind.values])
        case inspect.EnumType():
            return _word(text, [str(member.value) for member in kind.cls])
        case inspect.BoolType():
            return _BOOLEAN_WORDS.get(text.lower(), "")
        case _:
            return ""


def _word(text: str, valid: list[str]) -> str:
    if text in valid:
        return ""
    synonym = _SYNONYMS.get(text.lower(), "")
    return synonym if synonym in valid else nearest(text, valid)


def leaf(value: object, kind: inspect.Type, hook: Callable[[type[Any], object], Any], *, lax: bool) -> Any:
    """`value` as `kind`. Raises ValueError or TypeError with what was expected.

    `lax` reads numbers and booleans out of text, for values that came from a variable.
    """
    match kind:
        case inspect.CustomType():
            return hook(kind.cls, value)
        case inspect.LiteralType():
            if value in kind.values and not isinstance(value, bool):
                return value
            if not isinstance(value, str) and shown(value) in kind.values:
                raise ValueError(f'expected a text: write "{shown(value)}" in quotes')
        case inspect.EnumType():
            if value in {member.value for member in kind.cls}:
                return kind.cls(value)
        case inspect.BoolType():
            if isinstance(value, bool):
                return value
            if lax and value in {"true", "false"}:
                return value == "true"
        case inspect.IntType() | inspect.FloatType():
            return _number(value, kind, lax=lax)
        case inspect.StrType():
            if isinstance(value, str):
                if len(value) >= (kind.min_length or 0):
                    return value
                raise ValueError("is empty; expected a text")
            if value is not None:
                raise ValueError(f'expected a text: write "{shown(value)}" in quotes')
        case _:
            return msgspec.convert(value, Any)
    raise ValueError(f"{shown(value)} is not {told(kind)}")


def _number(value: object, kind: inspect.IntType | inspect.FloatType, *, lax: bool) -> int | float:
    wanted = int if isinstance(kind, inspect.IntType) else float
    number: int | float
    if lax and isinstance(value, str):
        number = wanted(value)
    elif isinstance(value, bool) or not isinstance(value, int | float) or wanted(value) != value:
        raise ValueError(f"{shown(value)} is not {told(kind)}")
    else:
        number = wanted(value)
    if (kind.ge is not None and number < kind.ge) or (kind.le is not None and number > kind.le):
        raise ValueError(f"{shown(value)} is not {told(kind)}")
    return number


def _bounds(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}"
    return f" of at least {low:g}" if low is not None else f" of at most {high:g}" if high is not None else ""
