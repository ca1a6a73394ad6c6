"""A value that must not be shown."""

from __future__ import annotations

from typing import Final

_MASK: Final = "***"


class Secret:
    """Wraps a secret string. Not a `str` subclass: such a subclass leaks through `json.dumps` and `%s`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself, for the one call that needs it."""
        return self._value

    def __repr__(self) -> str:
        return _MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)
