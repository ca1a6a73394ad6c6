"""Requests bent at random: what is accepted is counted, split and passed on as protobuf itself reads it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from agent.telemetry import schema, split
from agent.telemetry.error_logs import LogTable
from agent.telemetry.inflate import inflate
from agent.telemetry.loki import push_body
from agent.telemetry.otlp_json import to_message
from agent.telemetry.schema import is_span_id, parse, parse_slim_traces, without_invalid_spans
from agent.telemetry.series import SeriesTable
from agent.telemetry.signals import Rejected, Signal
from agent.telemetry.spans import SpanCounter
from agent.telemetry.trails import Trails
from tests.agent.telemetry.otlp import logs, traces
from tests.agent.telemetry.test_counting import span

T = TypeVar("T")
KEYS = (
    "resourceSpans", "resource", "scopeSpans", "spans", "traceId", "spanId", "kind", "attributes", "key",
    "value", "stringValue", "intValue", "arrayValue", "values", "startTimeUnixNano", "status", "code", "x",
)  # fmt: skip
SEEDS = (
    traces(3) + span({"http.method": "GET", "http.target": "/a?b", "http.status_code": 500}, state="ot=th:8"),
    span({"messaging.destination.name": "room"}, kind=5, status=2) + traces(1, status=503),
)
LOGS = logs("a", "b") + logs("password=hunter2", severity=9)


@st.composite
def bent(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A valid request with some bytes changed, taken out or put in."""
    body = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(body)))
        match draw(st.sampled_from(["flip", "cut", "insert", "end"])):
            case "flip" if at < len(body):
                body[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del body[at : at + draw(st.integers(1, 8))]
            case "insert":
                body[at:at] = draw(st.binary(max_size=6))
            case _:
                del body[max(at, 1) :]
    return bytes(body)


def taken(work: Callable[[], T]) -> T | None:
    """What came of it; None where it was refused as a client's fault, with words."""
    try:
        return work()
    except Rejected as rejected:
        refusal = rejected
    assert refusal.status in {400, 413}
    assert refusal.text
    return None


def whole(body: bytes) -> list[Any]:
    return [
        one
        for group in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in group.scope_spans
        for one in scope.spans
    ]


@settings(max_examples=400, deadline=None)
@given(bent(SEEDS))
def test_spans_of_bent_requests_are_counted_and_split_as_they_are_read(body: bytes) -> None:
    if taken(lambda: parse(Signal.TRACES, body)) is None:
        return
    every = whole(body)
    valid = [one for one in every if is_span_id(one.trace_id, one.span_id)]
    tally = SpanCounter(SeriesTable(), Trails(env="production")).tally(parse_slim_traces(body))
    assert (tally.spans, tally.invalid) == (len(every), len(every) - len(valid))
    tally.apply(1.0)
    assert whole(without_invalid_spans(body)) == valid
    pieces = list(split.pieces(body, max_bytes=64, max_items=2))
    assert [one for piece in pieces for one in whole(piece)] == every
    halves = split.halves(body)
    if halves is not None:
        assert [one for half in halves for one in whole(half)] == every
    assert isinstance(schema.as_text(Signal.TRACES, body), str)


@settings(max_examples=300, deadline=None)
@given(bent((LOGS,)))
def test_logs_of_bent_requests_are_counted_shown_and_sent_to_loki(body: bytes) -> None:
    message = taken(lambda: parse(Signal.LOGS, body))
    if message is None:
        return
    records = [
        one
        for group in ExportLogsServiceRequest.FromString(body).resource_logs
        for scope in group.scope_logs
        for one in scope.log_records
    ]
    table = LogTable(Trails(env="production"), env="production")
    tally = table.tally(message.resource_logs, {})
    tally.apply(1.0)
    assert tally.records == len(records) == sum(table.levels.values())
    streams = json.loads(push_body(body))["streams"]
    assert sum(len(stream["values"]) for stream in streams) == len(records)


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=6) | st.integers(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
        max_leaves=20,
    )
)
def test_any_json_is_a_request_that_protobuf_reads_or_a_400_that_names_the_key(content: object) -> None:
    body = json.dumps(content).encode()
    message = taken(lambda: to_message(Signal.TRACES, body))
    if message is None:
        return
    assert ExportTraceServiceRequest.FromString(message.SerializeToString()) == message


@settings(max_examples=300, deadline=None)
@given(bent((gzip.compress(SEEDS[0]), gzip.compress(b"a" * 5000) + gzip.compress(b"b"))))
def test_bent_gzip_is_inflated_within_its_limit_or_refused(body: bytes) -> None:
    plain = taken(lambda: inflate(body, max_bytes=3000))
    if plain is None:
        return
    assert len(plain) <= 3000
    assert plain == gzip.decompress(body)
