"""An OTLP request taken apart and put together again without decoding its items.

All three requests have one shape: request { 1: resource group { 1: resource, 2: scope group { 1: scope,
2: item } } }. Items are moved as bytes, so that
unknown fields survive, and each part keeps its resource and scope.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from agent.telemetry.answers import varint

_ITEMS: Final = 2
_LENGTH_DELIMITED: Final = 2
_FIXED: Final = {1: 8, 5: 4}


class SplitError(ValueError):
    """The bytes are not a protobuf message of this shape."""


class Leaf(Struct, frozen=True):
    """One item with the resource and scope it belongs to; groups are equal by identity of their frame."""

    resource: bytes
    scope: bytes
    item: bytes


def leaves(body: bytes) -> Iterator[Leaf]:
    """Every item of a request, in order. Raises SplitError."""
    for number, start, end in _fields(body, 0, len(body)):
        if number != 1:
            continue
        resource, groups = _frame(body, start, end)
        for scope_start, scope_end in groups:
            scope, items = _frame(body, scope_start, scope_end)
            for item_start, item_end in items:
                yield Leaf(resource, scope, body[item_start:item_end])


def join(items: list[Leaf]) -> bytes:
    """A request of these items; neighbours of one resource and scope share its group again."""
    resources: list[tuple[bytes, list[tuple[bytes, list[bytes]]]]] = []
    for leaf in items:
        if not resources or resources[-1][0] != leaf.resource:
            resources.append((leaf.resource, []))
        scopes = resources[-1][1]
        if not scopes or scopes[-1][0] != leaf.scope:
            scopes.append((leaf.scope, []))
        scopes[-1][1].append(_tagged(_ITEMS, leaf.item))
    return b"".join(
        _tagged(
            1,
            resource + b"".join(_tagged(_ITEMS, scope + b"".join(contents)) for scope, contents in scopes),
        )
        for resource, scopes in resources
    )


def pieces(body: bytes, *, max_bytes: int, max_items: int) -> Iterator[bytes]:
    """The request as several smaller ones, each a bounded amount of work. Raises SplitError."""
    group: list[Leaf] = []
    size = 0
    for leaf in leaves(body):
        group.append(leaf)
        size += len(leaf.item)
        if size >= max_bytes or len(group) >= max_items:
            yield join(group)
            group, size = [], 0
    if group:
        yield join(group)


def halves(body: bytes) -> tuple[bytes, bytes] | None:
    """The request as two; None when it holds a single item. Raises SplitError."""
    items = list(leaves(body))
    if len(items) < 2:
        return None
    middle = len(items) // 2
    return join(items[:middle]), join(items[middle:])


def shares(parts: tuple[bytes, bytes], items: int) -> tuple[int, int]:
    """`items` over two halves by their leaves: a metric is one leaf and may hold several points."""
    first, second = (sum(1 for _ in leaves(part)) for part in parts)
    mine = round(items * first / (first + second))
    return mine, items - mine


def _frame(body: bytes, start: int, end: int) -> tuple[bytes, list[tuple[int, int]]]:
    """A group without its members, and where its members' contents are."""
    members: list[tuple[int, int]] = []
    rest: list[bytes] = []
    at = start
    for number, content_start, content_end in _fields(body, start, end):
        if number == _ITEMS:
            members.append((content_start, content_end))
        else:
            rest.append(body[at:content_end])
        at = content_end
    return b"".join(rest), members


def _fields(body: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Each field's number and where its content is; a field that is not length-delimited has number 0."""
    at = start
    while at < end:
        tag, at = _varint(body, at, end)
        wire = tag & 7
        if wire == _LENGTH_DELIMITED:
            length, at = _varint(body, at, end)
            stop, number = at + length, tag >> 3
        elif wire in _FIXED:
            stop, number = at + _FIXED[wire], 0
        elif wire == 0:
            _, stop = _varint(body, at, end)
            number = 0
        else:
            raise SplitError(f"wire type {wire}")
        if stop > end:
            raise SplitError("field ends beyond its message")
        yield number, at, stop
        at = stop


def _varint(body: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise SplitError("bad number")


def _tagged(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | _LENGTH_DELIMITED]) + varint(len(content)) + content
