"""A table value by value: slower than converting it whole, but every mistake is told with its place."""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from enum import Enum
from typing import Any, Final

import msgspec

from agent.platform import describe
from agent.platform.expand import Expanded, expand
from agent.platform.problem import Position, Problems, Severity, nearest
from agent.platform.scalars import has_password, hook, resolve
from agent.platform.tree import Mapping, Node, Scalar, Sequence, is_null
from checks.secret import Secret


class _Missing(Enum):
    """The mark of a value that could not be had; the problem has been noted."""

    MISSING = 0


MISSING: Final = _Missing.MISSING


class Unset(msgspec.Struct, frozen=True):
    """A variable without a value, and where it is needed."""

    name: str
    at: Position
    key: str
    environment: str
    width: int = 1


class Careful:
    """Walks a table along its type; what cannot be had is MISSING, its problem noted."""

    def __init__(
        self, environment: str, alias: str, environ: MappingType[str, str], problems: Problems
    ) -> None:
        self._environment = environment
        self._alias = alias
        self._environ = environ
        self._problems = problems
        self.unset: list[Unset] = []

    def struct(
        self,
        node: Node,
        told: msgspec.inspect.StructType,
        *,
        key: str,
        fixed: MappingType[str, object] | None = None,
        defaults: MappingType[str, object] | None = None,
        also: tuple[str, ...] = (),
    ) -> Any:
        fixed, defaults = fixed or {}, defaults or {}
        if not isinstance(node, Mapping):
            self._problem(node, f"expected a table of keys, not {describe.written(node)}", key)
            return MISSING
        fields = {field.encode_name: field for field in told.fields}
        values: dict[str, object] = {}
        sound = True
        for name, entry in node.entries.items():
            if name == told.tag_field:
                continue
            field = fields.get(name)
            if field is None or name in fixed:
                valid = [known for known in (*fields, *also) if known not in fixed]
                self._unknown_key(entry.at, name, valid, key)
                sound = False
                continue
            if is_null(entry.value) and not _takes_none(field.type):
                self._problems.add(
                    entry.at,
                    f'"{name}" has no value; expected {describe.told(field.type)}',
                    key=f"{key}.{name}",
                    width=len(name),
                )
                sound = False
                continue
            value = self.value(entry.value, field.type, f"{key}.{name}")
            if value is MISSING:
                sound = False
            else:
                values[field.name] = value
        for name, value in {**defaults, **fixed}.items():
            if name in fields:
                values.setdefault(fields[name].name, value)
        for name, field in fields.items():
            if field.required and field.name not in values and name not in node.entries:
                self._problems.add(
                    node.at,
                    f'{_last(key)} needs "{name}": {describe.told(field.type)}',
                    key=f"{key}.{name}",
                )
                sound = False
        if not sound:
            return MISSING
        try:
            return told.cls(**values)
        except (ValueError, TypeError) as error:
            self._problem(node, f"{_last(key)}: {error}", key)
            return MISSING

    def value(self, node: Node, told: msgspec.inspect.Type, key: str) -> Any:
        match told:
            case msgspec.inspect.UnionType():
                return self._union(node, told, key)
            case msgspec.inspect.StructType():
                if told.tag_field is not None:
                    return self._tagged(node, (told,), key)
                return self.struct(node, told, key=key)
            case msgspec.inspect.DictType():
                return self._dict(node, told, key)
            case msgspec.inspect.VarTupleType() | msgspec.inspect.ListType():
                return self._sequence(node, told, key)
            case msgspec.inspect.AnyType():
                return self._any(node, key)
            case _:
                return self._leaf(node, told, key)

    def _union(self, node: Node, told: msgspec.inspect.UnionType, key: str) -> Any:
        options = [option for option in told.types if not isinstance(option, msgspec.inspect.NoneType)]
        if is_null(node) and len(options) < len(told.types):
            return None
        tables = tuple(option for option in options if isinstance(option, msgspec.inspect.StructType))
        if len(options) == 1:
            return self.value(node, options[0], key)
        if tables and len(tables) == len(options):
            return self._tagged(node, tables, key)
        fitting = [option for option in options if describe.fits(node, option)]
        for option in fitting or options:
            trial = Careful(self._environment, self._alias, self._environ, Problems())
            value = trial.value(node, option, key)
            if value is not MISSING and not trial._problems.all():
                self.unset.extend(trial.unset)
                return value
        if len(fitting) == 1:
            return self.value(node, fitting[0], key)
        self._problem(node, f"{describe.written(node)} is not {describe.told(told)}", key)
        return MISSING

    def _tagged(self, node: Node, tables: tuple[msgspec.inspect.StructType, ...], key: str) -> Any:
        field = tables[0].tag_field or "type"
        tags = {str(table.tag): table for table in tables}
        if not isinstance(node, Mapping):
            self._problem(node, f"expected a table of keys, not {describe.written(node)}", key)
            return MISSING
        entry = node.entries.get(field)
        if entry is None:
            self._problem(node, f'{_last(key)} needs "{field}": one of {describe.listed(tags)}', key)
            return MISSING
        written = entry.value.text if isinstance(entry.value, Scalar) else ""
        if written not in tags:
            near = nearest(written, tags)
            hint = "" if near else f"; valid: {describe.listed(tags)}"
            self._problem(
                entry.value,
                f"{describe.written(entry.value)} is no {field}{hint}",
                f"{key}.{field}",
                near=near,
            )
            return MISSING
        return self.struct(node, tags[written], key=key)

    def _dict(self, node: Node, told: msgspec.inspect.DictType, key: str) -> Any:
        if not isinstance(node, Mapping):
            self._problem(node, f"expected a table of keys, not {describe.written(node)}", key)
            return MISSING
        values = {
            name: self.value(entry.value, told.value_type, f"{key}.{name}")
            for name, entry in node.entries.items()
        }
        return MISSING if any(value is MISSING for value in values.values()) else values

    def _sequence(
        self, node: Node, told: msgspec.inspect.VarTupleType | msgspec.inspect.ListType, key: str
    ) -> Any:
        if not isinstance(node, Sequence):
            hint = f": write [{node.text}]" if isinstance(node, Scalar) and not is_null(node) else ""
            self._problem(node, f"expected a list, not {describe.written(node)}{hint}", key)
            return MISSING
        values = [
            self.value(item, told.item_type, f"{key}[{index}]") for index, item in enumerate(node.items)
        ]
        if any(value is MISSING for value in values):
            return MISSING
        return tuple(values) if isinstance(told, msgspec.inspect.VarTupleType) else values

    def _any(self, node: Node, key: str) -> Any:
        if isinstance(node, Sequence):
            return [self._any(item, f"{key}[{index}]") for index, item in enumerate(node.items)]
        if isinstance(node, Mapping):
            return {name: self._any(entry.value, f"{key}.{name}") for name, entry in node.entries.items()}
        expanded = self._expand(node, key)
        return resolve(node) if expanded.text == node.text else expanded.text

    def _leaf(self, node: Node, told: msgspec.inspect.Type, key: str) -> Any:
        if not isinstance(node, Scalar):
            self._problem(node, f"expected {describe.told(told)}, not {describe.written(node)}", key)
            return MISSING
        expanded = self._expand(node, key)
        if expanded.broken:
            return MISSING
        is_secret = isinstance(told, msgspec.inspect.CustomType) and told.cls is Secret
        if expanded.unset:
            if is_secret:
                return Secret(expanded.text)
            return expanded.text if isinstance(told, msgspec.inspect.StrType) else MISSING
        if is_secret and has_password(node.text) and not expanded.from_environment:
            self._problem(
                node,
                'a password is written in the file; put it in a variable and write "${NAME}"',
                key,
                severity=Severity.WARNING,
            )
        value = expanded.text if expanded.from_environment else resolve(node, expanded.text)
        try:
            return describe.leaf(value, told, hook, lax=expanded.from_environment)
        except (ValueError, TypeError) as error:
            self._bad_leaf(node, told, expanded, str(error), key)
            return MISSING

    def _bad_leaf(
        self, node: Scalar, told: msgspec.inspect.Type, expanded: Expanded, message: str, key: str
    ) -> None:
        if expanded.from_environment:
            # What a variable holds may be a secret: say what was expected, never what is there.
            self._problem(node, f"the value of {node.text} is not {describe.told(told)}", key)
            return
        self._problem(node, message, key, near=describe.near(node.text, told))

    def _expand(self, node: Scalar, key: str) -> Expanded:
        expanded = expand(node.text, alias=self._alias, environ=self._environ)
        if expanded.broken:
            self._problem(
                node,
                f'"{node.text}" has a variable that cannot be read: write ${{NAME}} or ${{NAME:-default}}',
                key,
            )
        for name in expanded.unset:
            self.unset.append(Unset(name, node.at, key, self._environment, node.width))
        return expanded

    def _unknown_key(self, at: Position, name: str, valid: list[str], key: str) -> None:
        near = nearest(name, valid)
        hint = "" if near else f"; valid here: {describe.listed(valid)}"
        self._problems.add(
            at, f'unknown key "{name}"{hint}', key=f"{key}.{name}", nearest=near, width=len(name)
        )

    def _problem(
        self,
        node: Node,
        message: str,
        key: str,
        *,
        near: str = "",
        severity: Severity = Severity.ERROR,
    ) -> None:
        width = node.width if isinstance(node, Scalar) else 1
        self._problems.add(node.at, message, key=key, nearest=near, width=width, severity=severity)


def _takes_none(told: msgspec.inspect.Type) -> bool:
    if isinstance(told, msgspec.inspect.UnionType):
        return any(isinstance(option, msgspec.inspect.NoneType) for option in told.types)
    return isinstance(told, msgspec.inspect.AnyType | msgspec.inspect.NoneType)


def _last(key: str) -> str:
    return f'"{key.rpartition(".")[2]}"'
