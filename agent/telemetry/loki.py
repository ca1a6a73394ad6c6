"""OTLP log records as Loki's push API takes them: few labels, the rest structured metadata."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from agent.telemetry import schema
from agent.telemetry.signals import Signal

# Loki's own default index labels for OTLP, those that are few: everything else is structured metadata.
_LABELS: Final = (
    "service.name", "service.namespace", "service.instance.id", "deployment.environment.name",
    "deployment.environment", "cloud.region",
)  # fmt: skip
_MAX_LINE: Final = 256 * 1024
_MAX_METADATA: Final = 128
_MAX_VALUE: Final = 8 * 1024


def push_body(request: bytes) -> bytes:
    """The JSON for POST /loki/api/v1/push of a plain ExportLogsServiceRequest. Raises Rejected."""
    message = schema.parse(Signal.LOGS, request)
    streams: dict[tuple[tuple[str, str], ...], list[list[Any]]] = {}
    for resource_logs in message.resource_logs:
        resource = _texts(resource_logs.resource.attributes)
        labels = tuple(
            sorted((name.replace(".", "_"), resource[name]) for name in _LABELS if resource.get(name))
        ) or (("service_name", "unknown_service"),)
        rest = {name.replace(".", "_"): value for name, value in resource.items() if name not in _LABELS}
        values = streams.setdefault(labels, [])
        for scope_logs in resource_logs.scope_logs:
            for log in scope_logs.log_records:
                values.append(_value(log, scope_logs.scope.name, rest))
    return msgspec.json.encode(
        {
            "streams": [
                {"stream": dict(labels), "values": sorted(values, key=lambda value: int(value[0]))}
                for labels, values in streams.items()
            ]
        }
    )


def _value(log: Any, scope: str, rest: dict[str, str]) -> list[Any]:
    metadata = dict(rest)
    metadata.update({key.replace(".", "_"): value for key, value in _texts(log.attributes).items()})
    if log.severity_text or log.severity_number:
        metadata["severity_text"] = log.severity_text or str(log.severity_number)
    if scope:
        metadata["scope_name"] = scope
    if log.trace_id:
        metadata["trace_id"] = log.trace_id.hex()
    if log.span_id:
        metadata["span_id"] = log.span_id.hex()
    body = schema.scalar(log.body)
    line = str(body) if body is not None else schema.to_json(log.body)
    at_ns = log.time_unix_nano or log.observed_time_unix_nano
    short = {key: value[:_MAX_VALUE] for key, value in list(metadata.items())[:_MAX_METADATA]}
    return [str(at_ns), line[:_MAX_LINE], short]


def _texts(attributes: Any) -> dict[str, str]:
    found = {}
    for pair in attributes:
        value = schema.scalar(pair.value)
        if value is None:
            found[pair.key] = schema.to_json(pair.value)
        else:
            found[pair.key] = str(value).lower() if isinstance(value, bool) else str(value)
    return found
