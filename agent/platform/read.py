"""YAML text to a tree with positions, within limits: a hostile file costs little and crashes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec
import yaml
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    ScalarEvent,
    StreamEndEvent,
)

from agent.platform.problem import PlatformError, Position, Problems
from agent.platform.tree import Entry, Mapping, Node, Scalar, Sequence, is_null

MAX_BYTES: Final = 4 << 20
MAX_DEPTH: Final = 32
MAX_VALUES: Final = 200_000
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")


def read(content: bytes, file: str) -> Mapping:
    """The tree of one YAML document whose root is a mapping. Raises PlatformError."""
    start = Position(file, 1, 1)
    problems = Problems()
    if len(content) > MAX_BYTES:
        raise _refused(start, f"the file is longer than {MAX_BYTES >> 20} MB")
    _check_text(content, file)
    try:
        root = _Composer(file, problems).compose(content)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, content, file) from error
    except yaml.YAMLError as error:
        raise _refused(start, f"not YAML: {' '.join(str(error).split())}") from error
    if root is None or is_null(root):
        raise _refused(start, "the file is empty; it must at least name a platform and its environments")
    if not isinstance(root, Mapping):
        raise _refused(
            root.at, "the file must be a table of keys such as platform, environments and services"
        )
    if problems.errors():
        raise PlatformError(problems.all())
    return root


class _Open(msgspec.Struct):
    """A collection whose end has not been read yet."""

    at: Position
    anchor: str | None
    is_mapping: bool
    values_before: int
    entries: dict[str, Entry] = {}
    items: list[Node] = []
    key: Scalar | None = None

    def node(self) -> Mapping | Sequence:
        """The finished collection."""
        return Mapping(self.at, self.entries) if self.is_mapping else Sequence(self.at, tuple(self.items))


class _Composer:
    """Builds the tree with a stack of its own.

    PyYAML's C composer recurses without a limit and crashes the interpreter on deep nesting; here depth
    and number of values, aliases counted at every use, are bounded while reading.
    """

    def __init__(self, file: str, problems: Problems) -> None:
        self._file = file
        self._problems = problems
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._values = 0
        self._documents = 0

    def compose(self, content: bytes) -> Node | None:
        """The root of the only document, or None when there is none."""
        root: Node | None = None
        for event in _events(content):
            node = self._take(event)
            if node is None:
                continue
            if self._values > MAX_VALUES:
                raise _refused(node.at, f"more than {MAX_VALUES} values, aliases counted at each use")
            if self._stack:
                self._place(self._stack[-1], node)
            else:
                root = node
        return root

    def _take(self, event: Event) -> Node | None:
        """The value that `event` completes, if it completes one."""
        mark = event.start_mark
        at = Position(self._file, mark.line + 1, mark.column + 1) if mark else Position(self._file, 1, 1)
        if isinstance(event, ScalarEvent):
            self._values += 1
            self._refuse_tag(event.tag, at)
            scalar = Scalar(at, event.value, not event.style)
            if event.anchor is not None:
                self._anchors[event.anchor] = (scalar, 1)
            return scalar
        if isinstance(event, CollectionStartEvent):
            self._values += 1
            self._refuse_tag(event.tag, at)
            is_mapping = isinstance(event, MappingStartEvent)
            self._stack.append(_Open(at, event.anchor, is_mapping, self._values))
            if len(self._stack) > MAX_DEPTH:
                raise _refused(at, f"nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, CollectionEndEvent):
            opened = self._stack.pop()
            node = opened.node()
            if opened.anchor is not None:
                self._anchors[opened.anchor] = (node, self._values - opened.values_before + 1)
            return node
        elif isinstance(event, AliasEvent):
            if event.anchor not in self._anchors:
                raise _refused(at, f'"*{event.anchor}" refers to nothing that is complete above it')
            aliased, values = self._anchors[event.anchor]
            self._values += values
            return aliased
        elif isinstance(event, DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise _refused(at, "a second YAML document begins here; the file holds one")
        return None

    def _place(self, parent: _Open, node: Node) -> None:
        if not parent.is_mapping:
            parent.items.append(node)
        elif parent.key is not None:
            key, parent.key = parent.key, None
            self._enter(parent.entries, key, node)
        elif isinstance(node, Scalar):
            parent.key = node
        else:
            self._problems.add(node.at, "a key must be a word, not a list or a table")
            parent.key = Scalar(node.at, f"?{len(parent.entries)}", plain=True)

    def _enter(self, entries: dict[str, Entry], key: Scalar, node: Node) -> None:
        first = entries.get(key.text)
        if first is not None:
            self._problems.add(
                key.at,
                f'duplicate key "{key.text}": first written in line {first.at.line}',
                key=key.text,
                width=key.width,
            )
        elif key.text == "<<" and key.plain:
            self._problems.add(
                key.at,
                "merge keys (<<) are not read: write what differs under environments:",
                key=key.text,
                width=2,
            )
        else:
            entries[key.text] = Entry(key.at, key.text, node)

    def _refuse_tag(self, tag: str | None, at: Position) -> None:
        if tag is not None and tag != "!":
            self._problems.add(at, f"tags are not read: remove {tag.replace('tag:yaml.org,2002:', '!!')}")


def _events(content: bytes) -> Iterator[Event]:
    if not yaml.__with_libyaml__:  # Ten times slower, otherwise the same.
        yield from yaml.parse(content, Loader=yaml.SafeLoader)
        return
    from yaml.cyaml import CParser  # type: ignore[attr-defined]  # The stubs forget it.

    parser = CParser(content)
    while True:
        event = parser.get_event()
        assert event is not None
        yield event
        if isinstance(event, StreamEndEvent):
            return


def _check_text(content: bytes, file: str) -> None:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        at = _place_of(content[: error.start].decode("utf-8"), file)
        raise _refused(at, f"byte 0x{content[error.start]:02x} is not UTF-8 text") from error
    control = _CONTROL.search(text)
    if control is not None:
        at = _place_of(text[: control.start()], file)
        raise _refused(at, f"control character U+{ord(control[0]):04X} is not allowed in YAML")


def _place_of(before: str, file: str) -> Position:
    return Position(file, before.count("\n") + 1, len(before) - before.rfind("\n"))


def _refused(at: Position, message: str) -> PlatformError:
    problems = Problems()
    problems.add(at, message)
    return PlatformError(problems.all())


def _syntax_error(error: yaml.MarkedYAMLError, content: bytes, file: str) -> PlatformError:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    lines = content.decode("utf-8").splitlines()
    near = lines[line - 1] if line <= len(lines) else ""
    indent = near[: len(near) - len(near.lstrip())]
    what = " ".join(part for part in (error.context, error.problem) if part) or "it cannot be read"
    hint = ""
    if "\t" in indent:
        column = indent.index("\t") + 1
        what, hint = "a tab indents this line", ": YAML indents with spaces"
    elif "{" in near and ("${" in near or "{env}" in near):
        hint = ': inside { } a value with ${VAR} or {env} needs quotes, such as "${VAR}"'
    return _refused(Position(file, line, column), f"not YAML: {what}{hint}")
