"""The bodies of OTLP/HTTP answers: Export*ServiceResponse and google.rpc.Status, in protobuf and JSON.

Written by hand, so that an answer needs no import of protobuf: opentelemetry-proto's specification, section
OTLP/HTTP Response; google/rpc/status.proto and error_details.proto.
"""

from __future__ import annotations

from typing import Final

import msgspec

from agent.telemetry.signals import ITEMS, Signal

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"

# google.rpc.Code for each status we answer with.
_CODES: Final = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 408: 4, 411: 3, 413: 8, 415: 3, 429: 8, 431: 3}
_UNAVAILABLE: Final = 14
_RETRY_INFO: Final = "type.googleapis.com/google.rpc.RetryInfo"
_BAD_REQUEST: Final = "type.googleapis.com/google.rpc.BadRequest"


def success(*, json: bool) -> bytes:
    """Everything was accepted: `partial_success` must be unset."""
    return b"{}" if json else b""


def partial(signal: Signal, rejected: int, text: str, *, json: bool) -> bytes:
    """`rejected` items were not accepted and must not be sent again; 0 with a text is a warning."""
    if json:
        field = {
            "spans": "rejectedSpans",
            "data_points": "rejectedDataPoints",
            "log_records": "rejectedLogRecords",
        }
        return msgspec.json.encode(
            {"partialSuccess": {field[ITEMS[signal]]: str(rejected), "errorMessage": text}}
        )
    inner = (b"\x08" + varint(rejected) if rejected else b"") + _bytes(2, text.encode())
    return _bytes(1, inner)


def rejected_items(body: bytes) -> int:
    """How many items a backend's 200 says it did not take, from its protobuf answer; 0 when it is none.

    Export*ServiceResponse { 1: partial success { 1: rejected items, 2: message } }.
    """
    if body[:1] != b"\x0a":
        return 0
    at = 2
    while at < len(body) and body[at - 1] >= 0x80:
        at += 1
    if body[at : at + 1] != b"\x08":
        return 0
    count = shift = 0
    for byte in body[at + 1 : at + 11]:
        count |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return count
    return 0


def failure(status: int, text: str, *, json: bool) -> bytes:
    """A google.rpc.Status; a 400 names what was wrong in a BadRequest detail."""
    code = _CODES.get(status, _UNAVAILABLE)
    if json:
        details = [{"@type": _BAD_REQUEST, "fieldViolations": [{"field": "body", "description": text}]}]
        return msgspec.json.encode(
            {"code": code, "message": text} | ({"details": details} if status == 400 else {})
        )
    body = b"\x08" + varint(code) + _bytes(2, text.encode())
    if status == 400:
        violation = _bytes(1, b"body") + _bytes(2, text.encode())
        body += _bytes(3, _bytes(1, _BAD_REQUEST.encode()) + _bytes(2, _bytes(1, violation)))
    return body


def invalid_text(invalid: int) -> str:
    """Why spans were left out."""
    return f"{invalid} spans have no valid trace id and span id"


def rpc_code(status: int) -> int:
    """The google.rpc.Code, as gRPC numbers it, of an HTTP status."""
    return _CODES.get(status, _UNAVAILABLE)


def rpc_status(status: int, text: str, *, retry_after_s: int | None) -> bytes:
    """A google.rpc.Status for gRPC's trailer; with a RetryInfo only where it may be sent again."""
    body = b"\x08" + varint(rpc_code(status)) + _bytes(2, text.encode())
    if retry_after_s is not None:
        delay = b"\x08" + varint(retry_after_s)
        body += _bytes(3, _bytes(1, _RETRY_INFO.encode()) + _bytes(2, _bytes(1, delay)))
    return body


def varint(value: int) -> bytes:
    """Protobuf's base-128 encoding of a number that is not negative."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bytes(field: int, content: bytes) -> bytes:
    return bytes([field << 3 | 2]) + varint(len(content)) + content
