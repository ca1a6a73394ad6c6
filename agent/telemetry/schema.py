"""The only door to protobuf: OTLP's messages, whole for validation and slim for counting.

The slim span keeps attributes as undecoded bytes, so that counting touches only the few it needs
(1.2 µs a span instead of 4 to 5).
"""

from __future__ import annotations

from collections.abc import Iterable, MutableSequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from agent.telemetry.signals import Rejected, Signal

if TYPE_CHECKING:
    from google.protobuf.message import Message  # type: ignore[import-untyped]  # ships no types

_SLIM_PACKAGE: Final = "gaia.slim"

# An attribute's value where it is a single one.
Scalar = str | int | float | bool | None


class SlimResource(Protocol):
    attributes: Iterable[bytes]


class SlimSpan(Protocol):
    trace_id: bytes
    span_id: bytes
    trace_state: str
    name: str
    kind: int
    start_time_unix_nano: int
    end_time_unix_nano: int
    attributes: MutableSequence[bytes]
    status: bytes


class SlimScopeSpans(Protocol):
    spans: Iterable[SlimSpan]


class SlimResourceSpans(Protocol):
    resource: SlimResource
    scope_spans: Iterable[SlimScopeSpans]


class SlimTraces(Protocol):
    resource_spans: Iterable[SlimResourceSpans]


@cache
def request_class(signal: Signal) -> type[Message]:
    """The Export*ServiceRequest class of a signal."""
    match signal:
        case Signal.TRACES:
            from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

            return ExportTraceServiceRequest
        case Signal.METRICS:
            from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
                ExportMetricsServiceRequest,
            )

            return ExportMetricsServiceRequest
        case Signal.LOGS:
            from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

            return ExportLogsServiceRequest


def parse(signal: Signal, body: bytes) -> Any:
    """The whole message, which proves `body` valid. Raises Rejected 400."""
    decode_error = _decode_error()
    message = request_class(signal)()
    try:
        message.ParseFromString(body)
    except decode_error:
        raise Rejected(400, f"the body is not a valid protobuf {message.DESCRIPTOR.name}") from None
    return message


def parse_slim_traces(body: bytes) -> SlimTraces:
    """The spans of a valid body, attributes undecoded."""
    message = _slim_traces()()
    message.ParseFromString(body)
    return cast("SlimTraces", message)


def without_invalid_spans(body: bytes) -> bytes:
    """A valid traces request without the spans that lack a trace id or a span id."""
    message = parse(Signal.TRACES, body)
    for resource_spans in message.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            valid = [span for span in scope_spans.spans if is_span_id(span.trace_id, span.span_id)]
            del scope_spans.spans[:]
            scope_spans.spans.extend(valid)
    return cast("bytes", message.SerializeToString())


def is_span_id(trace_id: bytes, span_id: bytes) -> bool:
    """Whether both ids are of the right length and not zero."""
    return len(trace_id) == 16 and len(span_id) == 8 and any(trace_id) and any(span_id)


def key_value(content: bytes) -> tuple[str, Scalar]:
    """One undecoded attribute as key and scalar; arrays, maps and bytes are None."""
    message = _key_value_class()()
    message.ParseFromString(content)
    pair = cast("Any", message)
    return pair.key, scalar(pair.value)


def scalar(value: Any) -> Scalar:
    """An AnyValue's scalar; arrays, maps and bytes are None."""
    which = value.WhichOneof("value")
    if which in {"string_value", "int_value", "double_value", "bool_value"}:
        return cast("Scalar", getattr(value, which))
    return None


def message_class(descriptor: Any) -> type[Message]:
    """The class of a message descriptor."""
    from google.protobuf.message_factory import GetMessageClass  # type: ignore[import-untyped]  # ships no types

    return cast("type[Message]", GetMessageClass(descriptor))


def as_text(signal: Signal, body: bytes) -> str:
    """A whole request as protobuf's text format, for people."""
    try:
        return str(parse(signal, body))
    except Rejected as rejected:
        return rejected.text


def to_json(value: Any) -> str:
    """An AnyValue that is no scalar, as text for people."""
    from google.protobuf.json_format import MessageToJson  # type: ignore[import-untyped]  # ships no types

    return cast("str", MessageToJson(value, indent=None))


def record_text(content: bytes) -> str:
    """A serialized LogRecord as one line: its text and what was said beside it."""
    record = _log_record_class()()
    record.ParseFromString(content)
    log = cast("Any", record)
    body = scalar(log.body)
    facts = (
        f"{pair.key}={value}" for pair in log.attributes if (value := scalar(pair.value)) not in (None, "")
    )
    return " ".join([str(body) if body is not None else "", *facts]).strip()


@cache
def _log_record_class() -> type[Message]:
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

    return LogRecord


@cache
def _decode_error() -> type[Exception]:
    from google.protobuf.message import DecodeError

    return cast("type[Exception]", DecodeError)


@cache
def _key_value_class() -> type[Message]:
    from opentelemetry.proto.common.v1.common_pb2 import KeyValue

    return KeyValue


@cache
def _slim_traces() -> type[Message]:
    from google.protobuf import descriptor_pb2, descriptor_pool  # type: ignore[import-untyped]  # ships no types

    field = descriptor_pb2.FieldDescriptorProto
    text, blob, nested = field.TYPE_STRING, field.TYPE_BYTES, field.TYPE_MESSAGE
    # Message: (field, number, type, repeated, nested message); numbers are those of trace.proto v1.
    layout: dict[str, tuple[tuple[str, int, int, bool, str], ...]] = {
        "Resource": (("attributes", 1, blob, True, ""),),
        "Span": (
            ("trace_id", 1, blob, False, ""),
            ("span_id", 2, blob, False, ""),
            ("trace_state", 3, text, False, ""),
            ("name", 5, text, False, ""),
            ("kind", 6, field.TYPE_INT32, False, ""),
            ("start_time_unix_nano", 7, field.TYPE_FIXED64, False, ""),
            ("end_time_unix_nano", 8, field.TYPE_FIXED64, False, ""),
            ("attributes", 9, blob, True, ""),
            ("status", 15, blob, False, ""),
        ),
        "ScopeSpans": (("spans", 2, nested, True, "Span"),),
        "ResourceSpans": (
            ("resource", 1, nested, False, "Resource"),
            ("scope_spans", 2, nested, True, "ScopeSpans"),
        ),
        "Traces": (("resource_spans", 1, nested, True, "ResourceSpans"),),
    }
    file = descriptor_pb2.FileDescriptorProto(name="gaia/slim.proto", package=_SLIM_PACKAGE, syntax="proto3")
    for name, fields in layout.items():
        message = file.message_type.add(name=name)
        for field_name, number, kind, repeated, inner in fields:
            message.field.add(
                name=field_name,
                number=number,
                type=cast("Any", kind),
                label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL,
                type_name=f".{_SLIM_PACKAGE}.{inner}" if inner else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_class(pool.FindMessageTypeByName(f"{_SLIM_PACKAGE}.Traces"))
