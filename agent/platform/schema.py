"""The JSON Schema (draft 2020-12) of gaia.yaml, made from the tables the loader uses."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import inspect

from agent.platform.describe import told
from agent.platform.meanings import MEANINGS
from agent.platform.model import (
    DEFAULT_KINDS,
    Agent,
    Broker,
    CheckSpec,
    Database,
    Environment,
    Host,
    Resources,
    Security,
    Service,
    Variable,
)
from agent.platform.sections import SECTIONS
from agent.telemetry.options import LISTENS, IntakeOptions
from alerts.receiver import Receiver
from alerts.rule import Rule
from alerts.section import AlertsSection
from checks.catalog import kind as check_kind
from checks.catalog import names as check_names
from checks.http.options import HttpOptions
from checks.secret import Secret
from checks.units import Duration, Ratio, Size

Json = dict[str, Any]

# What the loader fills in; nobody writes it.
_FILLED_IN: Final = ("name", "vantages", "options")
_VARIABLE: Final[Json] = {"type": "string", "pattern": r"\$\{"}
_PATTERNS: Final[dict[type, str]] = {
    Duration: r"^(\d+(\.\d+)?(ms|s|m|h|d|w))+$",
    Size: r"^\d+(\.\d+)? ?(B|kB|KB|KiB|MB|MiB|GB|GiB|TB|TiB)$",
    Ratio: r"^(100|\d{1,2}(\.\d+)?) ?%$",
}


def schema() -> Json:
    """The whole document's schema."""
    writer = _Writer()
    properties: Json = {
        "platform": {"type": "string", "minLength": 1},
        "environments": _named(_or_null(writer.environment()), least=1),
        "services": _named(writer.service()),
        "databases": _named(writer.component(Database)),
        "brokers": _named(writer.component(Broker)),
        "hosts": _named(_or_null(writer.component(Host))),
        "alerts": writer.alerts(),
        "variables": _named(_or_null(writer.overridable(writer.table(Variable), "variable"))),
        "security": writer.overridable(writer.table(Security), "security"),
        "agent": writer.overridable(writer.table(Agent), "agent"),
        "telemetry": writer.overridable(writer.table(IntakeOptions, leave_out=LISTENS), "telemetry"),
        "latency_edges": writer.type_of(tuple[Duration, ...]),
        "probe_targets": writer.type_of(tuple[str, ...]),
        "probe_modules": {"type": "object"},
        "probe_modules_file": {"type": "string"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "gaia.yaml",
        "description": "A platform: what is watched, when to worry, whom to call.",
        "type": "object",
        "properties": {key: {"description": line, **properties[key]} for key, line in SECTIONS.items()},
        "required": ["platform", "environments"],
        "additionalProperties": False,
        "$defs": writer.definitions,
    }


class _Writer:
    """Collects every table once under `$defs`."""

    def __init__(self) -> None:
        self.definitions: Json = {"variable_mark": _VARIABLE}

    def type_of(self, wanted: Any) -> Json:
        return self._type(inspect.type_info(wanted))

    def table(self, wanted: type[msgspec.Struct], *, leave_out: tuple[str, ...] = ()) -> Json:
        """The keys of one table, written out in place so that more can be added."""
        struct = inspect.type_info(wanted)
        assert isinstance(struct, inspect.StructType)
        return self._struct(struct, leave_out=(*_FILLED_IN, *leave_out))

    def environment(self) -> Json:
        """An environment; without an alias its name is one."""
        table = self.table(Environment)
        return {**table, "required": []}

    def service(self) -> Json:
        table = self.table(Service, leave_out=("interval", "timeout"))
        size = self.table(Resources)
        table["properties"] |= {
            **self._timing(),
            "resources": {"anyOf": [size, _named(size)]},
            "http": self.table(HttpOptions, leave_out=("url",)),
            "checks": self._checks(),
        }
        table["required"] = []
        return self.overridable(table, "service")

    def component(self, wanted: type[Database | Broker | Host]) -> Json:
        """A component's own keys and those of every kind of check it may be."""
        table = self.table(wanted, leave_out=("interval", "timeout"))
        theirs = self.table(check_kind(DEFAULT_KINDS[wanted.__name__]).options)
        table["properties"] = {
            **theirs["properties"],
            **table["properties"],
            **self._timing(),
            "kind": {"enum": list(check_names())},
            "checks": self._checks(),
        }
        table["required"] = []
        return self.overridable(table, wanted.__name__.lower())

    def alerts(self) -> Json:
        table = self.table(AlertsSection)
        rules = [
            self.overridable(self._struct(option), f"rule.{option.tag}")
            for option in _options(inspect.type_info(Rule))
        ]
        table["properties"] |= {
            "rules": _named({"anyOf": rules}),
            "receivers": _named(self.table(Receiver)),
        }
        return table

    def overridable(self, table: Json, name: str) -> Json:
        """`table`, kept as `name`, whose keys may also be written per environment."""
        place = f"#/$defs/{name}/properties/"
        keys = [key for key in table["properties"] if key != "environments"]
        own: Json = {
            "type": "object",
            "properties": {key: {"$ref": place + key} for key in keys},
            "additionalProperties": False,
        }
        self.definitions[name] = {
            **table,
            "properties": {**table["properties"], "environments": _named(_or_null(own))},
        }
        return {"$ref": f"#/$defs/{name}"}

    def _timing(self) -> Json:
        duration = self.type_of(Duration)
        return {"interval": duration, "timeout": duration}

    def _checks(self) -> Json:
        if "checks" not in self.definitions:
            common = self.table(CheckSpec, leave_out=("kind", "interval", "timeout"))["properties"]
            kinds = []
            for name in check_names():
                table = self.table(check_kind(name).options)
                table["properties"] |= {**common, **self._timing(), "kind": {"const": name}}
                table["required"] = ["kind", *(key for key in table["required"] if key != "kind")]
                kinds.append(table)
            self.definitions["checks"] = _named({"anyOf": kinds})
        return {"$ref": "#/$defs/checks"}

    def _struct(self, struct: inspect.StructType, *, leave_out: tuple[str, ...] = ()) -> Json:
        properties: Json = {}
        required = []
        if struct.tag_field is not None:
            properties[struct.tag_field] = {"const": struct.tag}
            required.append(struct.tag_field)
        for field in struct.fields:
            if field.encode_name in leave_out:
                continue
            meaning = MEANINGS.get(struct.cls.__name__, {}).get(field.encode_name)
            properties[field.encode_name] = {
                **({"description": meaning} if meaning else {}),
                **self._type(field.type),
            }
            if field.required:
                required.append(field.encode_name)
        # A value that comes as YAML anchor or by override is still checked by `gaia validate`.
        return {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
            **({"description": text} if (text := _first_sentence(struct.cls)) else {}),
        }

    def _type(self, kind: inspect.Type) -> Json:
        match kind:
            case inspect.UnionType():
                return {"anyOf": [self._type(option) for option in _options(kind, with_null=True)]}
            case inspect.NoneType():
                return {"type": "null"}
            case inspect.StructType():
                return self._reference(kind)
            case inspect.DictType():
                return {"type": "object", "additionalProperties": self._type(kind.value_type)}
            case inspect.VarTupleType() | inspect.ListType():
                return {"type": "array", "items": self._type(kind.item_type)}
            case inspect.AnyType():
                return {}
            case _:
                return self._leaf(kind)

    def _leaf(self, kind: inspect.Type) -> Json:
        match kind:
            case inspect.CustomType() if kind.cls is Secret:
                return {"type": "string", "description": told(kind)}
            case inspect.CustomType():
                return self._quantity(kind)
            case inspect.LiteralType():
                return {"anyOf": [{"enum": list(kind.values)}, {"$ref": "#/$defs/variable_mark"}]}
            case inspect.EnumType():
                return {
                    "anyOf": [
                        {"enum": [member.value for member in kind.cls]},
                        {"$ref": "#/$defs/variable_mark"},
                    ]
                }
            case inspect.BoolType():
                return {"anyOf": [{"type": "boolean"}, {"$ref": "#/$defs/variable_mark"}]}
            case inspect.IntType() | inspect.FloatType():
                number: Json = {"type": "integer" if isinstance(kind, inspect.IntType) else "number"}
                number |= {"minimum": kind.ge} if kind.ge is not None else {}
                number |= {"maximum": kind.le} if kind.le is not None else {}
                return {"anyOf": [number, {"$ref": "#/$defs/variable_mark"}]}
            case inspect.StrType():
                return {"type": "string", **({"minLength": kind.min_length} if kind.min_length else {})}
            case _:
                return {}

    def _quantity(self, kind: inspect.CustomType) -> Json:
        name = kind.cls.__name__.lower()
        text = {"type": "string", "pattern": _PATTERNS[kind.cls]}
        self.definitions[name] = {
            "description": told(kind),
            "anyOf": [text, {"$ref": "#/$defs/variable_mark"}],
        }
        return {"$ref": f"#/$defs/{name}"}

    def _reference(self, struct: inspect.StructType) -> Json:
        name = f"{struct.cls.__module__}.{struct.cls.__name__}"
        if name not in self.definitions:
            self.definitions[name] = {}
            self.definitions[name] = self._struct(struct)
        return {"$ref": f"#/$defs/{name}"}


def _named(item: Json, *, least: int = 0) -> Json:
    table: Json = {"type": "object", "additionalProperties": item}
    return {**table, "minProperties": least} if least else table


def _or_null(item: Json) -> Json:
    return {"anyOf": [item, {"type": "null"}]}


def _options(kind: inspect.Type, *, with_null: bool = False) -> list[Any]:
    if not isinstance(kind, inspect.UnionType):
        return [kind]
    return [option for option in kind.types if with_null or not isinstance(option, inspect.NoneType)]


def _first_sentence(wanted: type) -> str:
    return (wanted.__doc__ or "").strip().split("\n\n", 1)[0].replace("\n", " ").strip()
