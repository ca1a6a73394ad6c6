from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.rpc.error_details_pb2 import BadRequest  # type: ignore[import-untyped]  # ships no types
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # ships no types
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from agent.telemetry.intake import Intake
from agent.telemetry.options import IntakeOptions
from agent.telemetry.signals import Signal
from checks.secret import Secret
from checks.units import Size
from tests.agent.telemetry.otlp import (
    JSON,
    PROTOBUF,
    Response,
    Told,
    logs,
    metrics,
    post,
    read_response,
    running,
    send_raw,
    traces,
)
from tests.waiting import until

LIMIT = 100_000
OPTIONS = IntakeOptions(listen="127.0.0.1:0", request=Size(LIMIT), in_flight=Size(LIMIT), keep_free=Size(0))

# The example bodies of opentelemetry-proto's examples/ folder, shortened to what identifies them.
TRACE_JSON = {
    "resourceSpans": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "my.service"}}]},
            "scopeSpans": [
                {
                    "scope": {"name": "my.scope", "version": "1.0.0"},
                    "spans": [
                        {
                            "traceId": "5B8EFFF798038103D269B633813FC60C",
                            "spanId": "EEE19B7EC3C1B174",
                            "parentSpanId": "EEE19B7EC3C1B173",
                            "name": "I'm a server span",
                            "startTimeUnixNano": "1544712660000000000",
                            "endTimeUnixNano": "1544712661000000000",
                            "kind": 2,
                            "attributes": [{"key": "my.span.attr", "value": {"stringValue": "some value"}}],
                        }
                    ],
                }
            ],
        }
    ]
}
METRIC_JSON = {
    "resourceMetrics": [
        {
            "scopeMetrics": [
                {
                    "metrics": [
                        {
                            "name": "my.histogram",
                            "histogram": {
                                "aggregationTemporality": 1,
                                "dataPoints": [
                                    {
                                        "startTimeUnixNano": "1544712660300000000",
                                        "timeUnixNano": "1544712660300000000",
                                        "count": 2,
                                        "sum": 2,
                                        "bucketCounts": [1, 1],
                                        "explicitBounds": [1],
                                        "min": 0,
                                        "max": 2,
                                    }
                                ],
                            },
                        }
                    ]
                }
            ]
        }
    ]
}
LOG_JSON = {
    "resourceLogs": [
        {
            "scopeLogs": [
                {
                    "logRecords": [
                        {
                            "timeUnixNano": "1544712660300000001",
                            "severityNumber": 10,
                            "severityText": "Information",
                            "traceId": "5B8EFFF798038103D269B633813FC60C",
                            "spanId": "EEE19B7EC3C1B174",
                            "body": {"stringValue": "Example log record"},
                            "attributes": [
                                {"key": "bytes", "value": {"bytesValue": "aGVsbG8="}},
                                {"key": "list", "value": {"arrayValue": {"values": [{"intValue": "-5"}]}}},
                            ],
                        }
                    ]
                }
            ]
        }
    ]
}


@pytest.fixture
async def intake(tmp_path: Path) -> AsyncIterator[Intake]:
    async with running(tmp_path, OPTIONS) as started:
        yield started


def as_json(content: object) -> bytes:
    return json.dumps(content).encode()


async def received(intake: Intake, signal: Signal) -> int:
    await until(lambda: intake._log is not None)
    log, counting = intake._parts()
    await log.settle()
    return counting.received_items[signal]


@pytest.mark.parametrize(
    ("path", "body", "signal", "items"),
    [
        ("/v1/traces", traces(3), Signal.TRACES, 3),
        ("/v1/logs", logs("a", "b"), Signal.LOGS, 2),
        ("/v1/metrics", metrics(4), Signal.METRICS, 4),
    ],
)
@pytest.mark.parametrize("coding", ["", "gzip", "identity"])
async def test_every_signal_is_taken_in_protobuf_plain_and_gzipped(
    intake: Intake, path: str, body: bytes, signal: Signal, items: int, coding: str
) -> None:
    content = gzip.compress(body) if coding == "gzip" else body
    response = await post(intake.port, path, content, headers={"Content-Encoding": coding})
    assert (response.status, response.body, response.headers["content-type"]) == (200, b"", PROTOBUF)
    assert await received(intake, signal) == items


@pytest.mark.parametrize(
    ("path", "content", "signal"),
    [
        ("/v1/traces", TRACE_JSON, Signal.TRACES),
        ("/v1/metrics", METRIC_JSON, Signal.METRICS),
        ("/v1/logs", LOG_JSON, Signal.LOGS),
    ],
)
@pytest.mark.parametrize("coding", ["", "gzip"])
@pytest.mark.parametrize("media", [JSON, f"{JSON}; charset=utf-8", "Application/JSON"])
async def test_the_specification_s_own_json_examples_are_taken(
    intake: Intake, path: str, content: object, signal: Signal, coding: str, media: str
) -> None:
    body = as_json(content)
    body = gzip.compress(body) if coding else body
    response = await post(
        intake.port, path, body, headers={"Content-Type": media, "Content-Encoding": coding}
    )
    assert (response.status, response.body, response.headers["content-type"]) == (200, b"{}", JSON)
    assert await received(intake, signal) == 1


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/metrics", "/v1/logs"])
@pytest.mark.parametrize(
    ("media", "body", "answer"), [(PROTOBUF, b"", b""), (JSON, b"{}", b"{}"), (JSON, b"", b"{}")]
)
async def test_an_empty_request_succeeds(
    intake: Intake, path: str, media: str, body: bytes, answer: bytes
) -> None:
    response = await post(intake.port, path, body, headers={"Content-Type": media})
    assert (response.status, response.body) == (200, answer)


def span_json(**span: object) -> bytes:
    return as_json({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})


def head_of(*headers: str, path: str = "/v1/traces", media: str = PROTOBUF) -> bytes:
    lines = (f"POST {path} HTTP/1.1", "Host: x", f"Content-Type: {media}", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def check_status(response: Response, status: int, media: str) -> str:
    """Every 4xx and 5xx has a google.rpc.Status in the request's own encoding; its message is returned."""
    assert response.status == status
    assert response.headers["content-type"] == media
    if media == JSON:
        content = json.loads(response.body)
        assert isinstance(content["code"], int)
        return str(content["message"])
    message = Status.FromString(response.body)
    assert message.code
    if status == 400:
        detail = BadRequest()
        assert message.details[0].Unpack(detail)
        assert detail.field_violations[0].description == message.message
    return str(message.message)


BAD_BODIES = {
    "not protobuf": (PROTOBUF, "", b"\xff\xff\xff"),
    "cut protobuf": (PROTOBUF, "", traces(1)[:-5]),
    "string that is not UTF-8": (PROTOBUF, "", b"\x0a\x07\x0a\x05\x0a\x03\x0a\x01\xff"),
    "not gzip": (PROTOBUF, "gzip", traces(1)),
    "cut gzip": (PROTOBUF, "gzip", gzip.compress(traces(50))[:-9]),
    "cut gzip of much": (PROTOBUF, "gzip", gzip.compress(bytes(LIMIT - 10))[:-9]),
    "garbage behind gzip": (PROTOBUF, "gzip", gzip.compress(traces(1)) + b"garbage"),
    "gzip with a wrong checksum": (PROTOBUF, "gzip", gzip.compress(traces(1))[:-8] + bytes(8)),
    "zlib instead of gzip": (PROTOBUF, "gzip", zlib.compress(traces(1))),
    "too many gzip members": (PROTOBUF, "gzip", gzip.compress(b"") * 2000),
    "not JSON": (JSON, "", b"{"),
    "JSON of another kind": (JSON, "", b"[]"),
    "JSON that is not UTF-8": (JSON, "", b'{"a":"\xff"}'),
    "bare NaN": (JSON, "", b'{"resourceSpans":NaN}'),
    "enum by name": (JSON, "", span_json(kind="SPAN_KIND_SERVER")),
    "base64 id": (JSON, "", span_json(traceId="W47/95gDgQPSabYzgT/GDA==")),
    "number where text belongs": (JSON, "", span_json(name=5)),
    "number out of range": (JSON, "", span_json(startTimeUnixNano="99999999999999999999")),
    "object where a list belongs": (JSON, "", b'{"resourceSpans":{}}'),
    "deeply nested": (JSON, "", b'{"resourceSpans":' + b"[" * 5000 + b"]" * 5000 + b"}"),
    "two values at once": (JSON, "", span_json(attributes=[{"value": {"stringValue": "", "intValue": 1}}])),
}  # fmt: skip


@pytest.mark.parametrize(("media", "coding", "body"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_bad_data_is_400_and_never_kept(intake: Intake, media: str, coding: str, body: bytes) -> None:
    response = await post(
        intake.port, "/v1/traces", body, headers={"Content-Type": media, "Content-Encoding": coding}
    )
    assert check_status(response, 400, media)
    assert await received(intake, Signal.TRACES) == 0


@pytest.mark.parametrize("media", [PROTOBUF, JSON])
@pytest.mark.parametrize(
    "body",
    [
        bytes(LIMIT + 1),
        gzip.compress(bytes(LIMIT + 1)),
        gzip.compress(bytes(50_000_000)),
        gzip.compress(bytes(60_000)) * 3,
    ],
    ids=["as it comes", "after decompression", "a bomb", "joined members"],
)
async def test_too_large_is_413_before_and_after_decompression(
    intake: Intake, media: str, body: bytes
) -> None:
    headers = {"Content-Type": media, "Content-Encoding": "gzip" if body[:2] == b"\x1f\x8b" else ""}
    assert "larger than" in check_status(
        await post(intake.port, "/v1/traces", body, headers=headers), 413, media
    )


async def test_too_large_is_said_even_while_the_client_is_still_sending_chunks(intake: Intake) -> None:
    head = head_of("Transfer-Encoding: chunked")
    chunk = b"c350\r\n" + bytes(50_000) + b"\r\n"
    check_status(await send_raw(intake.port, head + chunk * 10), 413, PROTOBUF)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
async def test_another_method_is_405_and_names_post(intake: Intake, method: str) -> None:
    response = await post(intake.port, "/v1/traces", b"", method=method)
    check_status(response, 405, PROTOBUF)
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/", "/v1/trace", "/v1/traces/", "/v1development/profiles", "/V1/TRACES"])
async def test_another_path_is_404(intake: Intake, path: str) -> None:
    check_status(await post(intake.port, path, b"", headers={"Content-Type": JSON}), 404, JSON)


async def test_a_query_and_an_absolute_target_are_tolerated(intake: Intake) -> None:
    assert (await post(intake.port, "/v1/traces?x=1", b"")).status == 200
    assert (await post(intake.port, "http://127.0.0.1:4318/v1/traces", b"")).status == 200


@pytest.mark.parametrize("media", ["", "text/plain", "application/grpc", "application/jsonx"])
async def test_another_content_type_is_415(intake: Intake, media: str) -> None:
    check_status(await post(intake.port, "/v1/logs", b"", headers={"Content-Type": media}), 415, JSON)


@pytest.mark.parametrize("coding", ["lz4", "x-gzip", "zstd", "deflate", "gzip, gzip"])
async def test_another_content_encoding_is_415_and_not_stored_undecoded(intake: Intake, coding: str) -> None:
    response = await post(intake.port, "/v1/logs", logs("a"), headers={"Content-Encoding": coding})
    check_status(response, 415, PROTOBUF)
    assert await received(intake, Signal.LOGS) == 0


AMBIGUOUS = {
    "no host": b"POST /v1/logs HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "two lengths": b"POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 1\r\n\r\n",
    "length and chunks": head_of("Content-Length: 5", "Transfer-Encoding: chunked"),
    "unknown transfer encoding": head_of("Transfer-Encoding: gzip, chunked"),
    "negative length": b"POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "length with a sign": b"POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n",
    "folded header": b"POST /v1/logs HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
    "space before colon": b"POST /v1/logs HTTP/1.1\r\nHost : x\r\n\r\n",
    "no version": b"POST /v1/logs\r\nHost: x\r\n\r\n",
    "other version": b"POST /v1/logs HTTP/2.0\r\nHost: x\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "bad chunk size": head_of("Transfer-Encoding: chunked") + b"0x5\r\n",
    "chunk too long": head_of("Transfer-Encoding: chunked") + b"1\r\nab\r\n0\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("request_", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
async def test_what_could_be_read_in_two_ways_is_400_and_closes(intake: Intake, request_: bytes) -> None:
    response = await send_raw(intake.port, request_)
    assert response.status == 400
    assert response.headers["connection"] == "close"
    assert b"code" in response.body or Status.FromString(response.body).code


async def test_an_endless_head_is_431(intake: Intake) -> None:
    response = await send_raw(intake.port, b"POST /v1/logs HTTP/1.1\r\n" + b"X: y\r\n" * 20_000)
    assert response.status == 431


async def test_chunks_of_any_size_are_one_body(intake: Intake) -> None:
    body = traces(5)
    chunks = b"".join(
        b"%x;ext=1\r\n%s\r\n" % (len(body[at : at + 7]), body[at : at + 7]) for at in range(0, len(body), 7)
    )
    head = head_of("Transfer-Encoding: chunked")
    response = await send_raw(intake.port, head + chunks + b"0\r\nTrailer: x\r\n\r\n")
    assert (response.status, await received(intake, Signal.TRACES)) == (200, 5)


async def test_requests_on_one_connection_are_answered_in_order_even_when_sent_at_once(
    intake: Intake,
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", intake.port)
    for count in (1, 2, 3):
        body = traces(count)
        writer.write(head_of(f"Content-Length: {len(body)}") + body)
    assert [(await read_response(reader)).status for _ in range(3)] == [200, 200, 200]
    writer.close()
    assert await received(intake, Signal.TRACES) == 6


async def test_a_client_that_waits_for_100_continue_gets_it(intake: Intake) -> None:
    body = traces(1)
    reader, writer = await asyncio.open_connection("127.0.0.1", intake.port)
    writer.write(head_of(f"Content-Length: {len(body)}", "Expect: 100-continue"))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await read_response(reader)).status == 200
    writer.close()


async def test_http_1_0_closes_after_the_answer(intake: Intake) -> None:
    response = await send_raw(
        intake.port, b"POST /v1/logs HTTP/1.0\r\nContent-Type: application/json\r\n\r\n"
    )
    assert (response.status, response.headers["connection"]) == (200, "close")


async def test_a_client_that_goes_away_in_the_middle_leaves_nothing_behind(intake: Intake) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", intake.port)
    writer.write(head_of("Content-Length: 9000") + bytes(4000))
    await until(lambda: intake._server.in_flight_bytes == 4000)
    writer.transport.abort()
    await until(lambda: intake._server.in_flight_bytes == 0 and not intake._server.connections)


async def test_more_in_flight_than_the_budget_is_503_and_soon_again(intake: Intake) -> None:
    _, holding = await asyncio.open_connection("127.0.0.1", intake.port)
    holding.write(head_of("Content-Length: 90000") + bytes(80_000))
    await until(lambda: intake._server.in_flight_bytes == 80_000)
    response = await post(intake.port, "/v1/logs", bytes(50_000))
    check_status(response, 503, PROTOBUF)
    assert int(response.headers["retry-after"]) <= 2
    holding.transport.abort()
    await until(lambda: intake._server.in_flight_bytes == 0)
    assert (await post(intake.port, "/v1/logs", logs("a"))).status == 200


async def test_a_defect_of_ours_is_503_and_never_500(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("defect")

    monkeypatch.setattr("agent.telemetry.counting.schema.parse", broken)
    response = await post(intake.port, "/v1/traces", traces(1))
    check_status(response, 503, PROTOBUF)
    assert response.headers["retry-after"] == "1"


async def test_a_disk_that_fails_is_503_and_the_next_request_is_taken(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fdatasync", full)
        response = await post(intake.port, "/v1/traces", body := traces(2))
        check_status(response, 503, PROTOBUF)
        assert await received(intake, Signal.TRACES) == 0
    assert (await post(intake.port, "/v1/traces", body)).status == 200
    assert await received(intake, Signal.TRACES) == 2


async def test_a_token_is_asked_for_when_there_is_one(tmp_path: Path) -> None:
    options = IntakeOptions(listen="127.0.0.1:0", token=Secret("s3cret"), keep_free=Size(0))
    async with running(tmp_path, options) as intake:
        for given in ("", "Bearer wrong", "s3cre", "Bearer \xff"):
            response = await post(intake.port, "/v1/traces", b"", headers={"Authorization": given})
            assert "token" in check_status(response, 401, PROTOBUF)
        assert (
            await post(intake.port, "/v1/traces", b"", headers={"Authorization": "Bearer s3cret"})
        ).status == 200


def with_bad_ids() -> bytes:
    request = ExportTraceServiceRequest.FromString(traces(5))
    spans = request.resource_spans[0].scope_spans[0].spans
    spans[0].trace_id = b""
    spans[1].span_id = bytes(8)
    spans[2].trace_id = b"short"
    content: bytes = request.SerializeToString()
    return content


async def test_spans_without_a_valid_id_are_rejected_alone(intake: Intake) -> None:
    response = await post(intake.port, "/v1/traces", with_bad_ids())
    answer = ExportTraceServiceResponse.FromString(response.body)
    assert (response.status, answer.partial_success.rejected_spans) == (200, 3)
    assert "3 spans" in answer.partial_success.error_message
    assert await received(intake, Signal.TRACES) == 2


async def test_a_partial_success_in_json_has_a_string_of_digits(intake: Intake) -> None:
    content = json.loads(json.dumps(TRACE_JSON))
    content["resourceSpans"][0]["scopeSpans"][0]["spans"].append({"name": "no ids"})
    response = await post(intake.port, "/v1/traces", as_json(content), headers={"Content-Type": JSON})
    assert json.loads(response.body)["partialSuccess"]["rejectedSpans"] == "1"
    assert await received(intake, Signal.TRACES) == 1


async def test_the_same_spans_sent_again_are_acknowledged_and_counted_once(intake: Intake) -> None:
    body = traces(4)
    for _ in range(3):
        content = gzip.compress(body)
        response = await post(intake.port, "/v1/traces", content, headers={"Content-Encoding": "gzip"})
        assert response.status == 200
    assert await received(intake, Signal.TRACES) == 4
    assert intake.reception.retried == 2


async def test_equal_log_lines_without_a_precise_time_are_two_events(intake: Intake) -> None:
    for _ in range(2):
        assert (await post(intake.port, "/v1/logs", logs("disk full", at_ns=0))).status == 200
    assert await received(intake, Signal.LOGS) == 2


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=200).map(gzip.compress),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "resourceSpans",
                            "scopeSpans",
                            "spans",
                            "traceId",
                            "kind",
                            "attributes",
                            "value",
                            "x",
                        ]
                    ),
                    inner,
                    max_size=3,
                )
            ),
            max_leaves=12,
        ).map(as_json),
    ),
    media=st.sampled_from([PROTOBUF, JSON]),
    coding=st.sampled_from(["", "gzip"]),
    path=st.sampled_from(["/v1/traces", "/v1/metrics", "/v1/logs"]),
)
async def test_no_body_whatever_gets_another_answer_than_200_400_or_413(
    intake: Intake, body: bytes, media: str, coding: str, path: str
) -> None:
    response = await post(
        intake.port, path, body, headers={"Content-Type": media, "Content-Encoding": coding}
    )
    assert response.status in {200, 400, 413}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(min_size=1, max_size=200))
async def test_noise_on_the_port_never_harms_the_next_client(intake: Intake, noise: bytes) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", intake.port)
    writer.write(noise)
    writer.close()
    assert (await post(intake.port, "/v1/logs", b"")).status == 200


async def test_the_port_is_open_and_waits_for_the_log_rather_than_refusing(tmp_path: Path) -> None:
    told = Told()
    async with running(tmp_path, told=told) as intake:
        # Sent the moment the port is open; the answer comes once it is on disk.
        assert (await post(intake.port, "/v1/traces", traces(1))).status == 200


async def test_an_unusable_directory_is_503_until_it_is_mended(tmp_path: Path) -> None:
    blocked = tmp_path / "data"
    blocked.write_text("a file where the directory should be")
    async with running(blocked) as intake:
        waiting = asyncio.create_task(post(intake.port, "/v1/traces", traces(1)))
        await until(lambda: intake._server.in_flight_bytes > 0)
        blocked.unlink()
        assert (await waiting).status == 200
