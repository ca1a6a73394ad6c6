"""The conformance cases of telemetry: what comes in, and what must come of it.

Intake: opentelemetry-proto's specification (OTLP/HTTP, JSON encoding) and RFC 9110 and 9112. Sender: its
"Failures" and "Throttling". Counting: semantic conventions, HTTP and messaging. Exposition: RFC 9110, 12.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from typing import Any

from agent.exposition.negotiation import Format
from agent.telemetry.signals import Signal
from tests.agent.telemetry.otlp import JSON, PROTOBUF, logs, metrics, traces

LIMIT = 100_000
SPAN: dict[str, Any] = {
    "traceId": "5B8EFFF798038103D269B633813FC60C",
    "spanId": "EEE19B7EC3C1B174",
    "name": "GET /a",
    "kind": 2,
    "startTimeUnixNano": "1544712660000000000",
    "endTimeUnixNano": "1544712661000000000",
}


def spans(*changed: dict[str, Any], **more: Any) -> bytes:
    made = [SPAN | change for change in changed or ({},)]
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": made}]}]} | more).encode()


def attribute(value: dict[str, Any]) -> bytes:
    return spans({"attributes": [{"key": "k", "value": value}]})


def point(value: dict[str, Any]) -> bytes:
    gauge = {"dataPoints": [{"timeUnixNano": "1"} | value]}
    return json.dumps(
        {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "m", "gauge": gauge}]}]}]}
    ).encode()


def nested(depth: int) -> bytes:
    value: dict[str, Any] = {"intValue": "1"}
    for _ in range(depth):
        value = {"arrayValue": {"values": [value]}}
    return attribute(value)


def request(
    body: bytes = b"", *headers: str, path: str = "/v1/traces", method: str = "POST", media: str = PROTOBUF
) -> bytes:
    """A request on one connection that is closed after it, with its length unless the headers tell it."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Type: {media}", "Connection: close", *headers]
    if not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(body: bytes, size: int, *, extension: str = "", trailer: str = "") -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    chunks = b"".join(f"{len(part):X}{extension}\r\n".encode() + part + b"\r\n" for part in parts)
    return chunks + f"0\r\n{trailer}\r\n".encode()


NAMED_GZIP = b"\x1f\x8b\x08\x08" + bytes(6) + b"a\0" + gzip.compress(traces(1))[10:]
CHUNKED = "Transfer-Encoding: chunked"
GZIP = "Content-Encoding: gzip"


@dataclass(frozen=True, slots=True)
class Intake:
    """One request; the answer's status and type, how many items are kept, and what the answer says."""

    name: str
    sent: bytes
    status: int = 200
    kept: int = 0
    signal: Signal = Signal.TRACES
    media: str = PROTOBUF
    says: str = ""
    headers: dict[str, str] = field(default_factory=dict)


def _json(name: str, body: bytes, status: int = 200, *, kept: int = 0, **more: Any) -> Intake:
    path = "/v1/metrics" if more.get("signal") is Signal.METRICS else "/v1/traces"
    return Intake(name, request(body, media=JSON, path=path), status, kept=kept, media=JSON, **more)


INTAKE = (
    # Encodings of the body.
    Intake("protobuf", request(traces(2)), kept=2),
    Intake("gzip", request(gzip.compress(traces(2)), GZIP), kept=2),
    Intake("gzip in upper case", request(gzip.compress(traces(2)), "Content-Encoding: GZIP"), kept=2),
    Intake(
        "several gzip members", request(gzip.compress(traces(2)) + gzip.compress(traces(3)), GZIP), kept=5
    ),
    Intake(
        "an empty gzip member first", request(gzip.compress(b"") + gzip.compress(traces(2)), GZIP), kept=2
    ),
    Intake("gzip of nothing", request(gzip.compress(b""), GZIP)),
    Intake("gzip with a file name", request(NAMED_GZIP, GZIP), kept=1),
    Intake("truncated gzip", request(gzip.compress(traces(9))[:-12], GZIP), 400, says="ends early"),
    Intake("an empty body said to be gzip", request(b"", GZIP), 400, says="ends early"),
    Intake("a bomb", request(gzip.compress(bytes(30_000_000)), GZIP), 413, says="after decompression"),
    Intake("a bomb in many members", request(gzip.compress(bytes(90_000)) * 2, GZIP), 413),
    Intake("two requests joined", request(traces(2) + traces(3)), kept=5),
    Intake("an unknown field", request(traces(2) + b"\xfa\x3e\x03abc"), kept=2),
    Intake("a group without an end", request(b"\x0b"), 400, says="not a valid protobuf"),
    Intake("text that is not UTF-8", request(b"\x0a\x07\x0a\x05\x0a\x03\x0a\x01\xff"), 400),
    Intake("no body", request(b"")),
    # Content types.
    Intake("a charset beside protobuf", request(traces(1), media=f"{PROTOBUF}; charset=binary"), kept=1),
    Intake("a media type in capitals", request(traces(1), media="APPLICATION/X-PROTOBUF"), kept=1),
    Intake("application/protobuf", request(traces(1), media="application/protobuf"), 415, media=JSON),
    Intake("a form", request(b"a=b", media="application/x-www-form-urlencoded"), 415, media=JSON),
    Intake("brotli", request(traces(1), "Content-Encoding: br"), 415, says="gzip"),
    # JSON.
    _json("the specification's ids in capitals", spans(), kept=1),
    _json("ids in small letters", spans({"traceId": SPAN["traceId"].lower()}), kept=1),
    _json("64-bit numbers as text", spans({"startTimeUnixNano": "18446744073709551615"}), kept=1),
    _json("64-bit numbers as numbers", spans({"startTimeUnixNano": 1544712660000000000}), kept=1),
    _json(
        "a number beyond 64 bits",
        spans({"startTimeUnixNano": "18446744073709551616"}),
        400,
        says="out of range",
    ),
    _json("a negative time", spans({"startTimeUnixNano": "-1"}), 400, says="out of range"),
    _json("a fraction for a whole number", spans({"startTimeUnixNano": 1.5}), 400),
    _json("an enum as its number", spans({"kind": 3}), kept=1),
    _json("an enum by its name", spans({"kind": "SPAN_KIND_CLIENT"}), 400, says="kind"),
    _json("an enum nobody knows", spans({"kind": 99}), kept=1),
    _json("keys in snake_case are unknown", spans(resource_spans=[{}], x=1), kept=1),
    _json(
        "a snake_case id is no id",
        spans({"traceId": None, "trace_id": SPAN["traceId"]}),
        says="no valid trace id",
    ),
    _json("unknown keys anywhere", spans({"new": {"a": [1]}}, schemaUrl="x"), kept=1),
    _json("null is absent", spans({"attributes": None, "status": None}), kept=1),
    _json(
        "base64 where hex belongs", spans({"traceId": "W47/95gDgQPSabYzgT/GDA=="}), 400, says="hexadecimal"
    ),
    _json("an odd number of hex digits", spans({"spanId": "EEE19B7EC3C1B17"}), 400),
    _json("an id of zeros", spans({"spanId": "0" * 16}), says="no valid trace id"),
    _json("an id too short", spans({"traceId": "5b8efff7"}), says="no valid trace id"),
    _json("one invalid span of three", spans({}, {"spanId": ""}, {}), kept=2, says='"1"'),
    _json("bytes as base64", attribute({"bytesValue": "aGVsbG8="}), kept=1),
    _json("bytes as base64 for URLs, unpadded", attribute({"bytesValue": "-_8"}), kept=1),
    _json("a NaN as text", point({"asDouble": "NaN"}), kept=1, signal=Signal.METRICS),
    _json("infinity as text", point({"asDouble": "-Infinity"}), kept=1, signal=Signal.METRICS),
    _json("a double as text", point({"asDouble": "1e3"}), kept=1, signal=Signal.METRICS),
    _json(
        "a bare NaN",
        point({"asDouble": 1}).replace(b'"asDouble": 1', b'"asDouble": NaN'),
        400,
        signal=Signal.METRICS,
    ),
    _json("nested as deep as protobuf goes", nested(20), kept=1),
    _json("nested deeper", nested(200), 400),
    _json("brackets without end", b'{"resourceSpans":' + b"[" * 50_000, 400),
    _json("a byte order mark", b"\xef\xbb\xbf{}", 400),
    _json("two documents", b"{}{}", 400),
    _json("text that is no Unicode", b'{"resourceSpans":[{"schemaUrl":"\xff"}]}', 400),
    _json("an empty object", b"{}"),
    _json("an empty list", b'{"resourceSpans":[]}'),
    # HTTP.
    Intake("GET", request(method="GET"), 405, says="use POST", headers={"allow": "POST"}),
    Intake("PUT", request(traces(1), method="PUT"), 405, headers={"allow": "POST"}),
    Intake("HEAD has no content", request(method="HEAD"), 405, headers={"allow": "POST"}),
    Intake("profiles", request(path="/v1development/profiles"), 404, says="/v1/traces"),
    Intake("a slash too many", request(path="/v1/traces/"), 404),
    Intake("chunks without a length", request(chunked(traces(2), 7), CHUNKED), kept=2),
    Intake(
        "chunks with extensions and a trailer",
        request(chunked(traces(2), 50, extension=";a=b", trailer="X-A: b\r\n"), CHUNKED),
        kept=2,
    ),
    Intake("gzip in chunks", request(chunked(gzip.compress(traces(2)), 9), CHUNKED, GZIP), kept=2),
    Intake("no length and no chunks", request(b"", "Content-Length: 0")),
    Intake("Expect: 100-continue with the body at once", request(traces(1), "Expect: 100-continue"), kept=1),
    Intake(
        "a length beyond the limit", request(b"", f"Content-Length: {LIMIT + 1}"), 413, says="larger than"
    ),
    Intake("an endless length", request(b"", "Content-Length: 99999999999999999999"), 400, media=JSON),
    Intake("logs", request(logs("a", "b"), path="/v1/logs"), kept=2, signal=Signal.LOGS),
    Intake("metrics", request(metrics(3), path="/v1/metrics"), kept=3, signal=Signal.METRICS),
)


@dataclass(frozen=True, slots=True)
class Sending:
    """What a backend answers to a record of two items; whether they arrive, wait, or are put aside."""

    name: str
    answers: tuple[int, ...]
    becomes: str
    reason: str = ""
    pauses: bool = False


SENDER = (
    Sending("200", (200,), "delivered"),
    Sending("204, as Loki's OTLP answers", (204,), "delivered"),
    Sending("201, as Fluent Bit answers", (201,), "delivered"),
    Sending("429", (429, 429, 200), "delivered"),
    Sending("502", (502, 200), "delivered"),
    Sending("503", (503, 200), "delivered"),
    Sending("504", (504, 200), "delivered"),
    Sending("400 for each part", (400, 400, 400, 400, 400), "dead", "rejected_by_backend"),
    Sending("413 until it is small", (413, 200, 200), "delivered"),
    Sending("500 must not be sent again", (500,), "dead", "rejected_by_backend"),
    Sending("408 must not be sent again", (408,), "dead", "rejected_by_backend"),
    Sending("a redirect is not followed", (302,), "dead", "rejected_by_backend"),
    Sending("401 waits for a person", (401,), "queued", pauses=True),
    Sending("403 waits for a person", (403,), "queued", pauses=True),
    Sending("404 waits for a person", (404,), "queued", pauses=True),
    Sending("405 waits for a person", (405,), "queued", pauses=True),
)

Attributes = dict[str, str | int]


@dataclass(frozen=True, slots=True)
class Counted:
    """A span's attributes, and the method, route, status and failure it counts under; None: not at all."""

    name: str
    attributes: Attributes
    row: tuple[str, str, str, bool] | None
    kind: int = 2
    failed: bool = False


COUNTING = (
    Counted(
        "the stable conventions",
        {"http.request.method": "GET", "http.route": "/a", "http.response.status_code": 200},
        ("GET", "/a", "200", False),
    ),
    Counted(
        "the old conventions",
        {"http.method": "GET", "http.route": "/a", "http.status_code": 503},
        ("GET", "/a", "503", True),
    ),
    Counted(
        "both at once, counted once",
        {
            "http.method": "GET",
            "http.request.method": "GET",
            "http.route": "/a",
            "http.status_code": 200,
            "http.response.status_code": 200,
        },
        ("GET", "/a", "200", False),
    ),
    Counted(
        "a status as text", {"http.route": "/a", "http.response.status_code": "500"}, ("", "/a", "500", True)
    ),
    Counted(
        "4xx is no failure of a server",
        {"http.route": "/a", "http.response.status_code": 429},
        ("", "/a", "429", False),
    ),
    Counted(
        "4xx with an error status is none either",
        {"http.route": "/a", "http.response.status_code": 404},
        ("", "/a", "404", False),
        failed=True,
    ),
    Counted(
        "an exception nobody answered", {"http.route": "/a", "error.type": "KeyError"}, ("", "/a", "", True)
    ),
    Counted("a failed span without a status", {"http.route": "/a"}, ("", "/a", "", True), failed=True),
    Counted(
        "a method nobody knows",
        {"http.request.method": "BREW", "http.route": "/a"},
        ("_OTHER", "/a", "", False),
    ),
    Counted(
        "QUERY is a method", {"http.request.method": "QUERY", "http.route": "/a"}, ("QUERY", "/a", "", False)
    ),
    Counted(
        "a raw path is no route",
        {"http.request.method": "GET", "url.path": "/users/7"},
        ("GET", "__unmatched__", "", False),
    ),
    Counted(
        "an old target is no route",
        {"http.method": "GET", "http.target": "/users/7?q"},
        ("GET", "__unmatched__", "", False),
    ),
    Counted("a health endpoint", {"http.request.method": "GET", "http.route": "/health"}, None),
    Counted("a scrape without a route", {"http.request.method": "GET", "url.path": "/metrics"}, None),
    Counted("RPC", {"rpc.service": "a.Auth", "rpc.method": "Login"}, ("", "a.Auth/Login", "", False)),
    Counted(
        "a consumer by its template",
        {"messaging.destination.name": "room.7", "messaging.destination.template": "room.{id}"},
        ("", "consume room.{id}", "", False),
        kind=5,
    ),
    Counted("a client", {"http.request.method": "GET", "http.route": "/a"}, None, kind=3),
    Counted("an internal step", {"http.route": "/a"}, None, kind=1),
    Counted("a producer", {"messaging.destination.name": "room"}, None, kind=4),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """An Accept header and the format it gets."""

    accept: str
    form: Format


_OPEN = "application/openmetrics-text"
EXPOSITION = (
    Asked("", Format.TEXT),
    Asked("*/*", Format.TEXT),
    Asked("text/plain", Format.TEXT),
    Asked("text/plain;version=0.0.4", Format.TEXT),
    Asked(f"{_OPEN};version=1.0.0", Format.OPEN_METRICS),
    Asked(f"{_OPEN};version=9.9.9", Format.TEXT),
    Asked(f"{_OPEN};version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.6", Format.TEXT),
    Asked(f"{_OPEN};version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", Format.OPEN_METRICS),
    Asked(
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,"
        f"{_OPEN};version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5",
        Format.OPEN_METRICS,
    ),
    Asked(f"{_OPEN};q=0", Format.TEXT),
    Asked("application/json", Format.TEXT),
)


@dataclass(frozen=True, slots=True)
class Damage:
    """What is done to the segment of three records of one span, and how many of them are still read."""

    name: str
    cut_to: float = 1.0
    flip_at: float | None = None
    appended: bytes = b""
    left: int = 3


QUEUE = (
    Damage("nothing"),
    Damage("cut inside the last payload", cut_to=0.95, left=2),
    Damage("cut inside the last header", cut_to=0.68, left=2),
    Damage("cut to nothing", cut_to=0.0, left=0),
    Damage("a byte of the first payload", flip_at=0.3, left=2),
    Damage("a byte of the first header", flip_at=0.01, left=2),
    Damage("noise behind the end", appended=b"\0" * 500),
    Damage("half a header behind the end", appended=b"gT\1\2\3"),
)
