"""Where in the file a value stands, whether written for all environments or for one."""

from __future__ import annotations

from agent.platform.problem import Position, Problems, Severity
from agent.platform.tree import Mapping, Node, Scalar, Sequence, find


class Places:
    """Finds the nearest written place of a key path and notes problems there."""

    def __init__(self, root: Mapping) -> None:
        self._root = root

    def at(self, *path: str) -> tuple[Position, int]:
        """The position of the value under `path`, or of its nearest parent that is written; and a width."""
        node: Node = self._root
        position, width = self._root.at, 1
        for key in path:
            entry = node.entries.get(key) if isinstance(node, Mapping) else None
            if entry is None:
                break
            node = entry.value
            if isinstance(node, Scalar):
                position, width = node.at, node.width
            else:
                position, width = entry.at, len(key)
        return position, width

    def written(self, *path: str) -> bool:
        """Whether anything stands under `path`."""
        return find(self._root, *path) is not None

    def note(
        self,
        problems: Problems,
        path: tuple[str, ...],
        message: str,
        *,
        nearest: str = "",
        severity: Severity = Severity.ERROR,
    ) -> None:
        """Note a problem with the value under `path`."""
        position, width = self.at(*path)
        problems.add(position, message, key=".".join(path), nearest=nearest, severity=severity, width=width)

    def note_key(
        self,
        problems: Problems,
        path: tuple[str, ...],
        message: str,
        *,
        severity: Severity = Severity.ERROR,
    ) -> None:
        """Note a problem with the last key of `path` itself."""
        table = find(self._root, *path[:-1])
        entry = table.entries.get(path[-1]) if isinstance(table, Mapping) else None
        position = entry.at if entry is not None else self._root.at
        problems.add(position, message, key=".".join(path), severity=severity, width=len(path[-1]))

    def own(
        self,
        problems: Problems,
        environment: str,
        path: tuple[str, ...],
        message: str,
        *,
        severity: Severity = Severity.ERROR,
    ) -> None:
        """Note a problem with a component's key, where this environment overrides it if it does."""
        owner, field = path[:-1], path[-1]
        overridden = (*owner, "environments", environment, field)
        where = overridden if find(self._root, *overridden) is not None else path
        self.note(problems, where, message, severity=severity)

    def item(self, path: tuple[str, ...], text: str) -> tuple[Position, int]:
        """The position of `text` in the list under `path`, or the list's."""
        node = find(self._root, *path)
        if isinstance(node, Sequence):
            for item in node.items:
                if isinstance(item, Scalar) and item.text == text:
                    return item.at, item.width
        return self.at(*path)
