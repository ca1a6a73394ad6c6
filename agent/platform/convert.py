"""From the tree to typed tables: at once when all is right, value by value when something is not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from collections.abc import Mapping as MappingType
from functools import cache
from typing import Any, TypeVar

import msgspec

from agent.platform.careful import MISSING, Careful, Unset
from agent.platform.expand import expand
from agent.platform.problem import Problems
from agent.platform.scalars import has_password, hook, resolve
from agent.platform.tree import Mapping, Node, Scalar, Sequence

T = TypeVar("T", bound=msgspec.Struct)


class Reader:
    """Converts tables for one environment and notes every mistake and every unset variable."""

    def __init__(
        self, environment: str, alias: str, environ: MappingType[str, str], problems: Problems
    ) -> None:
        self._alias = alias
        self._environ = environ
        self._careful = Careful(environment, alias, environ, problems)

    @property
    def unset(self) -> list[Unset]:
        """The variables without a value that were met."""
        return self._careful.unset

    def table(
        self,
        node: Node,
        wanted: type[T],
        *,
        key: str,
        fixed: MappingType[str, object] | None = None,
        defaults: MappingType[str, object] | None = None,
        also: Iterable[str] = (),
    ) -> T | None:
        """The table `node` as `wanted`, or None with its problems noted.

        `fixed` values may not be written in the file; `defaults` may. `also` are keys that are valid in
        this table but belong to somebody else (they are only suggested here).
        """
        fixed, defaults = fixed or {}, defaults or {}
        if isinstance(node, Mapping) and fixed.keys().isdisjoint(node.entries):
            with contextlib.suppress(msgspec.ValidationError, _NotPlainError):
                plain = self._plain(node)
                return msgspec.convert({**defaults, **plain, **fixed}, wanted, dec_hook=hook)
        told = _told(wanted)
        assert isinstance(told, msgspec.inspect.StructType)
        found = self._careful.struct(node, told, key=key, fixed=fixed, defaults=defaults, also=tuple(also))
        return found if isinstance(found, wanted) else None

    def text(self, node: Node, *, key: str) -> str | None:
        """One text."""
        value = self._careful.value(node, msgspec.inspect.StrType(min_length=1), key)
        return value if isinstance(value, str) else None

    def value(self, node: Node, wanted: Any, *, key: str) -> Any:
        """A value of any type msgspec knows, or None with its problems noted."""
        with contextlib.suppress(msgspec.ValidationError, _NotPlainError):
            return msgspec.convert(self._plain(node), wanted, dec_hook=hook)
        found = self._careful.value(node, _told(wanted), key)
        return None if found is MISSING else found

    def peek(self, node: Scalar) -> str | None:
        """The text after expansion, or None when a variable is unset; nothing is noted."""
        expanded = expand(node.text, alias=self._alias, environ=self._environ)
        return None if expanded.unset or expanded.broken else expanded.text

    def is_unset(self, node: Scalar) -> bool:
        """Whether a variable in it has no value."""
        return bool(expand(node.text, alias=self._alias, environ=self._environ).unset)

    def _plain(self, node: Node) -> Any:
        if isinstance(node, Scalar):
            expanded = expand(node.text, alias=self._alias, environ=self._environ)
            # Whatever needs a remark or a look at the wanted type goes the slow way.
            if expanded.unset or expanded.broken or has_password(node.text):
                raise _NotPlainError
            return resolve(node) if expanded.text == node.text else expanded.text
        if isinstance(node, Sequence):
            return [self._plain(item) for item in node.items]
        return {key: self._plain(entry.value) for key, entry in node.entries.items()}


class _NotPlainError(Exception):
    """The quick way does not do for this table."""


@cache
def _told(wanted: Any) -> msgspec.inspect.Type:
    """The library's description of a type, which takes milliseconds to make."""
    return msgspec.inspect.type_info(wanted)
