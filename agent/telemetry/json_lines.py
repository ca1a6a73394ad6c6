"""JSON log lines as OTLP log records: level, time, trace found under the names people use; redacted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from agent.telemetry.error_logs import severity_of
from agent.telemetry.redaction import redact
from agent.telemetry.schema import request_class
from agent.telemetry.signals import Signal

_LEVEL: Final = ("level", "severity", "severity_text", "levelname", "log.level", "lvl")
_MESSAGE: Final = ("event", "message", "msg", "body")
_TIME: Final = ("timestamp", "time", "ts", "@timestamp", "asctime")
_LOGGER: Final = ("logger", "logger_name", "name")
_SERVICE: Final = ("service", "service.name", "service_name", "app")
_ENVIRONMENT: Final = ("environment", "env", "deployment.environment.name")
_TRACE: Final = ("trace_id", "traceId", "trace.id", "otelTraceID")
_SPAN: Final = ("span_id", "spanId", "span.id", "otelSpanID")
_EXCEPTION: Final = {
    "error_type": "exception.type",
    "exc_info": "exception.stacktrace",
    "exception": "exception.stacktrace",
}
# Kept whatever the level: who did what is asked for after the fact.
_ACCESS: Final = frozenset({"access", "audit"})
_KNOWN: Final = frozenset((*_LEVEL, *_MESSAGE, *_TIME, *_LOGGER, *_TRACE, *_SPAN, *_SERVICE, *_ENVIRONMENT))
_MAX_ATTRIBUTES: Final = 64
_MAX_TEXT: Final = 16_384


class Line(Struct, frozen=True, kw_only=True):
    """One line as read, and where it came from: facts for its resource, such as `service.name`.

    `fallback` is the service's name where neither those nor the line itself tell it.
    """

    text: bytes
    read_ns: int
    resource: tuple[tuple[str, str], ...] = ()
    fallback: str = ""


def to_request(lines: Iterable[Line], *, least_severity: int = 0) -> bytes:
    """An ExportLogsServiceRequest of these lines; those below `least_severity` are left out.

    Access lines never are. A line that is no JSON object is a record with its text and no level.
    """
    request: Any = request_class(Signal.LOGS)()
    groups: dict[tuple[tuple[str, str], ...], Any] = {}
    for line in lines:
        fields = _fields(line.text)
        severity, text = _level(fields)
        logger = _first(fields, _LOGGER)
        if severity and severity < least_severity and logger not in _ACCESS:
            continue
        resource = dict(line.resource)
        for key, names in (("service.name", _SERVICE), ("deployment.environment.name", _ENVIRONMENT)):
            said = _first(fields, names)
            if said and key not in resource:
                resource[key] = said
        if line.fallback:
            resource.setdefault("service.name", line.fallback)
        key_of = tuple(sorted(resource.items()))
        group = groups.get(key_of)
        if group is None:
            group = groups[key_of] = request.resource_logs.add()
            for name, value in key_of:
                group.resource.attributes.add(key=name).value.string_value = value
        scope = next((each for each in group.scope_logs if each.scope.name == logger), None)
        if scope is None:
            scope = group.scope_logs.add()
            scope.scope.name = logger
        _fill(scope.log_records.add(), line, fields, severity, text)
    content: bytes = request.SerializeToString()
    return content


def _fields(text: bytes) -> dict[str, Any]:
    try:
        content = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        content = None
    if isinstance(content, dict):
        return content
    return {"message": text.decode("utf-8", "replace")}


def _fill(record: Any, line: Line, fields: Mapping[str, Any], severity: int, level: str) -> None:
    record.observed_time_unix_nano = line.read_ns
    record.time_unix_nano = _time_ns(_first(fields, _TIME)) or line.read_ns
    record.severity_number = severity
    record.severity_text = level[:32]
    record.body.string_value = _shown(_first(fields, _MESSAGE))
    for names, size, target in ((_TRACE, 16, "trace_id"), (_SPAN, 8, "span_id")):
        try:
            identity = bytes.fromhex(_first(fields, names))
        except ValueError:
            continue
        if len(identity) == size:
            setattr(record, target, identity)
    for name, value in list(fields.items())[:_MAX_ATTRIBUTES]:
        if name in _KNOWN or value is None:
            continue
        item = record.attributes.add(key=_EXCEPTION.get(name, name)[:200]).value
        if isinstance(value, bool):
            item.bool_value = value
        elif isinstance(value, int) and abs(value) < 1 << 63:
            item.int_value = value
        elif isinstance(value, float):
            item.double_value = value
        else:
            # Secrets are told by their key as often as by their form.
            item.string_value = _shown(_text(value), key=name)


def _shown(text: str, *, key: str = "") -> str:
    shown = redact(f"{key}={text}" if key else text)
    return (shown[len(key) + 1 :] if key and shown.startswith(f"{key}=") else shown)[:_MAX_TEXT]


def _first(fields: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((_text(fields[name]) for name in names if fields.get(name) not in (None, "")), "")


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    # A lone surrogate is legal JSON and no UTF-8.
    return text.encode("utf-8", "replace").decode()


def _level(fields: Mapping[str, Any]) -> tuple[int, str]:
    """Severity number and the text as written; a number is read as Python's, pino's and bunyan's are."""
    level = next((fields[name] for name in _LEVEL if fields.get(name) is not None), "")
    if isinstance(level, int) and not isinstance(level, bool):
        return min(max(level // 10 * 4 + 1, 1), 21) if level >= 10 else level, str(level)
    return severity_of(str(level)), str(level)


def _time_ns(text: str) -> int:
    """Unix nanoseconds of RFC 3339 or a Unix time in s, ms, µs or ns; 0 when it is neither or has no zone."""
    if not text:
        return 0
    try:
        number = float(text)
    except ValueError:
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            return 0
        return int(at.timestamp() * 1e9) if at.tzinfo is not None and at.year >= 1970 else 0
    for digits, factor in ((1e11, 10**9), (1e14, 10**6), (1e17, 10**3), (1e20, 1)):
        if 0 < number < digits:
            return int(number * factor)
    return 0
