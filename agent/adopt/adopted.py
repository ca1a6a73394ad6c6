"""What came of a file: tables, variables to set, and what has no equivalent, each with its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeAlias

import msgspec
from msgspec import Struct, field

from agent.platform.problem import Position
from agent.platform.tree import Mapping, Node, Scalar, Sequence

Table: TypeAlias = dict[str, "Value"]
Value: TypeAlias = "str | bool | int | list[str] | list[Table] | Table"


class Left(Struct, frozen=True, kw_only=True):
    """One thing that is not carried over: where it stands, what it is, and what to do instead."""

    at: Position
    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.at}: {self.key}: {self.message}"


class Variable(Struct, frozen=True, kw_only=True):
    """A secret that stays out of gaia.yaml: the variable to set, and where its value stands now."""

    name: str
    at: Position


class Adopted(Struct, kw_only=True):
    """Filled by the readers of each part."""

    left: list[Left] = field(default_factory=list)
    variables: list[Variable] = field(default_factory=list)

    def leave(self, at: Position, key: str, message: str) -> None:
        """Note what is not carried over."""
        self.left.append(Left(at=at, key=key, message=message))

    def secret(self, at: Position, *words: str) -> str:
        """`${NAME}` for a secret; its value is not copied."""
        name = re.sub(r"[^A-Z0-9]+", "_", "_".join(words).upper()).strip("_")
        name = f"RECEIVER_{name}" if name[:1].isdigit() else name
        taken = {variable.name for variable in self.variables if variable.at != at}
        number = 2
        while name in taken:
            name = f"{name.rstrip('0123456789').rstrip('_')}_{number}"
            number += 1
        if all(variable.name != name for variable in self.variables):
            self.variables.append(Variable(name=name, at=at))
        return f"${{{name}}}"


def text_of(node: Node | None, default: str = "") -> str:
    """A scalar's text."""
    return node.text if isinstance(node, Scalar) else default


def items_of(node: Node | None) -> tuple[Node, ...]:
    """A list's items; a single value is a list of one."""
    if isinstance(node, Sequence):
        return node.items
    return () if node is None else (node,)


def entries_of(node: Node | None) -> dict[str, Node]:
    """A table's values."""
    return {key: entry.value for key, entry in node.entries.items()} if isinstance(node, Mapping) else {}


def written(table: Table) -> str:
    """The table as YAML that a person goes on with: blocks for tables, one line for what is small."""
    return "\n".join(_lines(table, 0)) + "\n"


def _lines(table: Table, depth: int) -> Iterator[str]:
    pad = "  " * depth
    for key, value in table.items():
        if isinstance(value, dict) and value and (depth < 3 or _large(value)):
            yield f"{pad}{key}:"
            yield from _lines(value, depth + 1)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield f"{pad}{key}:"
            yield from (f"{pad}  - {_flow(item)}" for item in value)
        else:
            yield f"{pad}{key}: {_flow(value)}"


def _large(table: Table) -> bool:
    return any(isinstance(value, dict) for value in table.values())


def _flow(value: Value | str | Table) -> str:
    """JSON, which is YAML, with bare keys and words where they cannot be mistaken."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(one) for one in value) + "]"
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.@/-]*|\d+[smhd]", value):
        return (
            value
            if value.lower() not in {"true", "false", "null", "yes", "no", "on", "off"}
            else f'"{value}"'
        )
    return msgspec.json.encode(value).decode()
