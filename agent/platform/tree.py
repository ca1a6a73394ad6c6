"""What was written and where: the tree of a YAML file before it means anything."""

from __future__ import annotations

import msgspec

from agent.platform.problem import Position


class Scalar(msgspec.Struct, frozen=True):
    """One value as written. `plain` when unquoted: only then may it be a number, true, false or null."""

    at: Position
    text: str
    plain: bool

    @property
    def width(self) -> int:
        """Characters to underline."""
        return max(1, len(self.text) + (0 if self.plain else 2))


class Sequence(msgspec.Struct, frozen=True):
    """A list."""

    at: Position
    items: tuple[Node, ...]


class Entry(msgspec.Struct, frozen=True):
    """One `key: value` of a mapping."""

    at: Position
    key: str
    value: Node


class Mapping(msgspec.Struct, frozen=True):
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


def overlay(below: Mapping, above: Mapping) -> Mapping:
    """`above` merged key by key over `below`; lists and values replace, null takes a key away."""
    return _merged(below, above, depth=0, keep_null=False)


def _merged(below: Mapping, above: Mapping, *, depth: int, keep_null: bool) -> Mapping:
    entries = dict(below.entries)
    for key, entry in above.entries.items():
        old = entries.get(key)
        if is_null(entry.value):
            entries.pop(key, None)
            if keep_null:
                # Inside an override null still has to take away what is said for all environments.
                entries[key] = entry
        elif isinstance(entry.value, Mapping):
            replaced = old if old is not None and isinstance(old.value, Mapping) else None
            base = replaced.value if replaced is not None else Mapping(entry.value.at, {})
            assert isinstance(base, Mapping)
            # At the top `environments` defines them, further down it overrides for them.
            keep = keep_null or (key == "environments" and depth > 0)
            merged = _merged(_settled(base, entry.value), entry.value, depth=depth + 1, keep_null=keep)
            entries[key] = Entry((replaced or entry).at, key, merged)
        else:
            entries[key] = entry
    return Mapping(below.at if below.entries else above.at, entries)


def _settled(below: Mapping, above: Mapping) -> Mapping:
    """`below` where what `above` says for all environments is no longer overridden for one of them."""
    overrides = below.get("environments")
    if not isinstance(overrides, Mapping) or "environments" in above.entries:
        return below
    rest = {
        name: Entry(entry.at, name, without(entry.value, *above.entries))
        if isinstance(entry.value, Mapping)
        else entry
        for name, entry in overrides.entries.items()
    }
    own = Entry(below.entries["environments"].at, "environments", Mapping(overrides.at, rest))
    return Mapping(below.at, {**below.entries, "environments": own})


def without(table: Mapping, *keys: str) -> Mapping:
    """`table` less some keys."""
    return Mapping(table.at, {key: entry for key, entry in table.entries.items() if key not in keys})


def only(table: Mapping, *keys: str) -> Mapping:
    """Of `table` just some keys."""
    return Mapping(table.at, {key: entry for key, entry in table.entries.items() if key in keys})


def find(node: Node, *path: str) -> Node | None:
    """The value under a path of keys."""
    found: Node | None = node
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found
