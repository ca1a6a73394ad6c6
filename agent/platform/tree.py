"""YAML text as a tree of positions, within limits: what was written and where, before it means anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from agent.platform.problem import PlatformError, Position, Problems

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 32
MAX_NODES: Final = 50_000


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value as written. `plain` when unquoted: only then may it be a number, true, false or null."""

    at: Position
    text: str
    plain: bool

    @property
    def width(self) -> int:
        """Characters to underline."""
        return max(1, len(self.text) + (0 if self.plain else 2))


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    at: Position
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One `key: value` of a mapping."""

    at: Position
    key: str
    value: Node


@dataclass(frozen=True, slots=True)
class Mapping:
    """A table, by key, in the order written."""

    at: Position
    entries: dict[str, Entry]

    def get(self, key: str) -> Node | None:
        """The value under `key`."""
        entry = self.entries.get(key)
        return None if entry is None else entry.value


Node = Scalar | Sequence | Mapping


def is_null(node: Node) -> bool:
    """Whether nothing was written, or null: the default is meant."""
    return isinstance(node, Scalar) and node.plain and node.text in {"", "~", "null"}


def read(content: bytes, file: str) -> Mapping:
    """The tree of one YAML document whose root is a mapping. Raises PlatformError."""
    start = Position(file, 1, 1)
    problems = Problems()
    if len(content) > MAX_BYTES:
        problems.add(start, f"the file has {len(content)} bytes; at most {MAX_BYTES} are read")
        raise PlatformError(problems.all())
    _decode(content, file)
    try:
        root = _compose(content, file, problems)
    except yaml.MarkedYAMLError as error:
        _syntax_error(error, content, file, problems)
        raise PlatformError(problems.all()) from error
    except yaml.YAMLError as error:
        problems.add(start, f"not YAML: {error}")
        raise PlatformError(problems.all()) from error
    if root is None or is_null(root):
        problems.add(start, "the file is empty; it must at least name a platform and its environments")
    elif not isinstance(root, Mapping):
        problems.add(root.at, "the file must be a mapping of keys such as platform, environments, services")
    if problems.errors() or not isinstance(root, Mapping):
        raise PlatformError(problems.all())
    return root


def overlay(below: Mapping, above: Mapping) -> Mapping:
    """`above` merged key by key over `below`; lists and values replace, null takes a key away."""
    entries = dict(below.entries)
    for key, entry in above.entries.items():
        old = entries.get(key)
        if is_null(entry.value):
            entries.pop(key, None)
        elif old is not None and isinstance(old.value, Mapping) and isinstance(entry.value, Mapping):
            entries[key] = Entry(entry.at, key, overlay(old.value, entry.value))
        else:
            entries[key] = entry
    return Mapping(above.at if not below.entries else below.at, entries)


def without(table: Mapping, *keys: str) -> Mapping:
    """`table` less some keys."""
    return Mapping(table.at, {key: entry for key, entry in table.entries.items() if key not in keys})


def scalars(node: Node) -> Iterator[Scalar]:
    """Every value below `node`."""
    if isinstance(node, Scalar):
        yield node
    elif isinstance(node, Sequence):
        for item in node.items:
            yield from scalars(item)
    else:
        for entry in node.entries.values():
            yield from scalars(entry.value)


def _decode(content: bytes, file: str) -> None:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8")) + 1
        problems = Problems()
        problems.add(Position(file, line, column), f"byte 0x{content[error.start]:02x} is not UTF-8 text")
        raise PlatformError(problems.all()) from error


def _parser(content: bytes) -> Iterator[Event]:
    try:
        from yaml.cyaml import CParser
    except ImportError:  # A PyYAML built without libyaml: ten times slower, otherwise the same.
        yield from yaml.parse(content, Loader=yaml.SafeLoader)
        return
    parser = CParser(content)
    while True:
        event: Event = parser.get_event()
        yield event
        if type(event) is StreamEndEvent:
            return


@dataclass(slots=True)
class _Open:
    """A collection whose end has not been read yet."""

    at: Position
    anchor: str | None
    is_mapping: bool
    entries: dict[str, Entry]
    items: list[Node]
    count: int
    key: Scalar | None = None


def _compose(content: bytes, file: str, problems: Problems) -> Node | None:
    """Build the tree with a stack of our own.

    PyYAML's C composer recurses without a limit and crashes the interpreter on deep nesting; here depth
    and number of values, aliases counted at every use, are bounded while reading.
    """
    stack: list[_Open] = []
    anchors: dict[str, tuple[Node, int]] = {}
    root: Node | None = None
    documents = count = 0
    for event in _parser(content):
        kind = type(event)
        mark = event.start_mark
        at = Position(file, mark.line + 1, mark.column + 1)
        done: Node
        if kind is ScalarEvent:
            done = Scalar(at, event.value, not event.style)
            count += 1
            _no_tag(event, at, problems)
            if event.anchor is not None:
                anchors[event.anchor] = (done, 1)
        elif kind is MappingStartEvent or kind is SequenceStartEvent:
            count += 1
            _no_tag(event, at, problems)
            stack.append(_Open(at, event.anchor, kind is MappingStartEvent, {}, [], count))
            if len(stack) > MAX_DEPTH:
                problems.add(at, f"nested deeper than {MAX_DEPTH} levels")
                raise PlatformError(problems.all())
            continue
        elif kind is MappingEndEvent or kind is SequenceEndEvent:
            opened = stack.pop()
            done = (
                Mapping(opened.at, opened.entries)
                if opened.is_mapping
                else Sequence(opened.at, tuple(opened.items))
            )
            if opened.anchor is not None:
                anchors[opened.anchor] = (done, count - opened.count + 1)
        elif kind is AliasEvent:
            if event.anchor not in anchors:
                problems.add(at, f'"*{event.anchor}" refers to nothing above it')
                raise PlatformError(problems.all())
            done, size = anchors[event.anchor]
            count += size
        elif kind is DocumentStartEvent:
            documents += 1
            if documents > 1:
                problems.add(at, "a second YAML document begins here; the file must hold one")
                raise PlatformError(problems.all())
            continue
        else:
            continue
        if count > MAX_NODES:
            problems.add(at, f"more than {MAX_NODES} values, aliases counted at each use")
            raise PlatformError(problems.all())
        if stack:
            _place(stack[-1], done, problems)
        else:
            root = done
    return root


def _place(parent: _Open, node: Node, problems: Problems) -> None:
    if not parent.is_mapping:
        parent.items.append(node)
        return
    if parent.key is None:
        if not isinstance(node, Scalar):
            problems.add(node.at, "a key must be a word, not a list or a mapping")
            node = Scalar(node.at, f"?{len(parent.entries)}", plain=True)
        parent.key = node
        return
    key, parent.key = parent.key, None
    first = parent.entries.get(key.text)
    if first is not None:
        problems.add(
            key.at,
            f'duplicate key "{key.text}": first written in line {first.at.line}',
            key=key.text,
            width=key.width,
        )
        return
    if key.text == "<<" and key.plain:
        problems.add(
            key.at,
            "merge keys (<<) are not read: write what differs under environments:",
            key=key.text,
            width=2,
        )
        return
    parent.entries[key.text] = Entry(key.at, key.text, node)


def _no_tag(event: Event, at: Position, problems: Problems) -> None:
    tag = event.tag
    if tag is not None and tag != "!":
        problems.add(at, f"tags are not read: remove {tag.replace('tag:yaml.org,2002:', '!!')}")


def _syntax_error(error: yaml.MarkedYAMLError, content: bytes, file: str, problems: Problems) -> None:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    lines = content.decode("utf-8", "replace").splitlines()
    near = lines[line - 1] if line <= len(lines) else ""
    what = " ".join(part for part in (error.context, error.problem) if part) or "it cannot be read"
    hint = ""
    if "\t" in near[: len(near) - len(near.lstrip())]:
        column = near.index("\t") + 1
        what, hint = "a tab indents this line", ": YAML indents with spaces"
    elif "{" in near and ("${" in near or "{env}" in near):
        hint = ': inside { } a value with ${VAR} or {env} needs quotes, such as "${VAR}"'
    problems.add(Position(file, line, column), f"not YAML: {what}{hint}")
