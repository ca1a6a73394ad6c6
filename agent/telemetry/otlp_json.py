"""OTLP's JSON turned into its protobuf, strictly: what the log keeps is one format.

Google's json_format cannot be used: it takes base64 ids, enum names and snake_case keys, which OTLP forbids
(opentelemetry-proto, specification.md, "JSON Protobuf Encoding"), at eight times the cost. Unknown keys are
ignored; ids are hex; 64-bit numbers are strings or numbers; enums are numbers; null is absent.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import msgspec

from agent.telemetry.schema import message_class, request_class
from agent.telemetry.signals import Rejected, Signal

_HEX: Final = frozenset({"traceId", "spanId", "parentSpanId"})
_FLOATS: Final = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
# upb refuses deeper messages anyway; this keeps Python's own recursion far from its end.
_MAX_DEPTH: Final = 90

# A value and the depth at which it stands, to what protobuf takes.
Convert = Callable[[Any, int], Any]


class _WrongError(ValueError):
    """A value that does not fit its field; the path is put in front on the way out."""


def to_message(signal: Signal, body: bytes) -> Any:
    """The Export*ServiceRequest that `body` spells. Raises Rejected 400 naming the key that is wrong."""
    try:
        content = msgspec.json.decode(body) if body else {}
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Rejected(400, f"the body is not valid JSON: {error}") from None
    try:
        return _message(request_class(signal).DESCRIPTOR)(content, 0)
    except _WrongError as error:
        raise Rejected(400, str(error)) from None


@cache
def _message(descriptor: Any) -> Convert:
    build = message_class(descriptor)
    fields: dict[str, tuple[str, Convert | None, Any]] = {
        field.json_name: (field.name, None, field) for field in descriptor.fields
    }
    unions = {
        field.json_name: field.containing_oneof.name
        for field in descriptor.fields
        if field.containing_oneof is not None and len(field.containing_oneof.fields) > 1
    }

    def convert(content: Any, depth: int) -> Any:
        if not isinstance(content, dict):
            raise _WrongError(f"expected an object for {descriptor.name}, not {_kind(content)}")
        if depth > _MAX_DEPTH:
            raise _WrongError("nested too deeply")
        values: dict[str, Any] = {}
        chosen: dict[str, str] = {}
        for key, value in content.items():
            known = fields.get(key)
            if known is None or value is None:
                continue
            name, converter, field = known
            if converter is None:
                converter = _field(field)
                fields[key] = (name, converter, field)
            union = unions.get(key)
            if union is not None and chosen.setdefault(union, key) != key:
                raise _WrongError(f"{key}: only one of {chosen[union]} and {key} may be given")
            try:
                values[name] = converter(value, depth + 1)
            except _WrongError as error:
                raise _WrongError(f"{key}: {error}") from None
        try:
            return build(**values)
        except (ValueError, TypeError) as error:
            raise _WrongError(f"{descriptor.name}: {error}") from None

    return convert


def _field(field: Any) -> Convert:
    one = _single(field)
    if not field.is_repeated:
        return one

    def many(content: Any, depth: int) -> Any:
        if not isinstance(content, list):
            raise _WrongError(f"expected an array, not {_kind(content)}")
        return [one(item, depth) for item in content]

    return many


def _single(field: Any) -> Convert:
    match field.cpp_type:
        case field.CPPTYPE_MESSAGE:
            return _message(field.message_type)
        case field.CPPTYPE_STRING if field.type == field.TYPE_BYTES:
            return _hex if field.json_name in _HEX else _base64
        case field.CPPTYPE_STRING:
            return _text
        case field.CPPTYPE_BOOL:
            return _bool
        case field.CPPTYPE_DOUBLE | field.CPPTYPE_FLOAT:
            return _float
        case field.CPPTYPE_ENUM:
            return _integer(-(2**31), 2**31)
        case field.CPPTYPE_INT32:
            return _integer(-(2**31), 2**31)
        case field.CPPTYPE_UINT32:
            return _integer(0, 2**32)
        case field.CPPTYPE_INT64:
            return _integer(-(2**63), 2**63)
        case _:
            return _integer(0, 2**64)


def _integer(low: int, end: int) -> Convert:
    def convert(value: Any, _: int) -> int:
        number = value
        if isinstance(value, str) and value.removeprefix("-").isascii() and value.removeprefix("-").isdigit():
            number = int(value) if len(value) <= 20 else end
        elif isinstance(value, float) and value.is_integer():
            number = int(value)
        if isinstance(number, bool) or not isinstance(number, int):
            raise _WrongError(f"expected a number, not {_kind(value)}")
        if not low <= number < end:
            raise _WrongError(f"{str(value)[:30]} is out of range")
        return number

    return convert


def _text(value: Any, _: int) -> str:
    if not isinstance(value, str):
        raise _WrongError(f"expected a string, not {_kind(value)}")
    return value


def _bool(value: Any, _: int) -> bool:
    if not isinstance(value, bool):
        raise _WrongError(f"expected true or false, not {_kind(value)}")
    return value


def _float(value: Any, _: int) -> float:
    if isinstance(value, str):
        if value in _FLOATS:
            return _FLOATS[value]
        try:
            return float(value)
        except ValueError:
            raise _WrongError(f"expected a number, not {value[:30]!r}") from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _WrongError(f"expected a number, not {_kind(value)}")
    return float(value)


def _hex(value: Any, _: int) -> bytes:
    try:
        return binascii.unhexlify(value)
    except (TypeError, ValueError):  # binascii.Error is a ValueError.
        raise _WrongError("expected a hexadecimal id") from None


def _base64(value: Any, _: int) -> bytes:
    if not isinstance(value, str):
        raise _WrongError(f"expected base64, not {_kind(value)}")
    # Protobuf's JSON mapping takes the standard and the URL-safe alphabet, with or without padding.
    plain = value.translate({ord("-"): "+", ord("_"): "/"}).rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        raise _WrongError("expected base64") from None


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    return names.get(type(value), "a number")
