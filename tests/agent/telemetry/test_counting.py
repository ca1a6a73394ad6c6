from __future__ import annotations

import asyncio
import gzip
import os
import time
from collections import defaultdict
from math import inf
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from agent.telemetry.error_logs import fingerprint, top_frame
from agent.telemetry.intake import Intake
from agent.telemetry.red import RouteCounts
from agent.telemetry.redaction import redact
from agent.telemetry.schema import parse_slim_traces
from agent.telemetry.series import SeriesKey, SeriesTable
from agent.telemetry.spans import SpanCounter, adjusted_count
from agent.telemetry.trails import Trails
from alerts.requests import ErrorLog, RequestSample
from tests.agent.telemetry.otlp import START_NS, Told, logs, post, running, traces
from tests.waiting import until

Attributes = dict[str, str | int]
TRACEBACK = """Traceback (most recent call last):
  File "/app/chat/worker.py", line 12, in handle
    answer(room)
  File "/app/chat/model.py", line 40, in answer
    await pool.fetch(query)
  File "/usr/lib/python3.11/site-packages/asyncpg/pool.py", line 9, in fetch
    raise error
asyncpg.TooManyConnectionsError: sorry"""


def span(
    attributes: Attributes,
    *,
    kind: int = 2,
    status: int = 0,
    name: str = "op",
    duration_s: float = 0.1,
    state: str = "",
) -> bytes:
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.add(key="service.name").value.string_value = "auth"
    one = resource_spans.scope_spans.add().spans.add(
        trace_id=os.urandom(16), span_id=os.urandom(8), kind=kind, name=name, trace_state=state,
        start_time_unix_nano=START_NS, end_time_unix_nano=START_NS + int(duration_s * 1e9),
    )  # fmt: skip
    one.status.code = status
    if status == 2:
        one.status.message = "it failed"
    for key, value in attributes.items():
        item = one.attributes.add(key=key).value
        if isinstance(value, int):
            item.int_value = value
        else:
            item.string_value = value
    content: bytes = request.SerializeToString()
    return content


def counted(*bodies: bytes, table: SeriesTable | None = None) -> SeriesTable:
    found = table or SeriesTable()
    counter = SpanCounter(found, Trails(env="production"))
    for body in bodies:
        counter.tally(parse_slim_traces(body)).apply(1.0)
    return found


def rows(*bodies: bytes) -> list[tuple[str, str, str, bool, float]]:
    return [
        (row.key.method, row.key.route, row.key.status, row.failed, row.total)
        for row in counted(*bodies).rows()
    ]


def http(status: int | str = 200, *, method: str = "GET", **more: str) -> Attributes:
    said: Attributes = {"http.request.method": method, "http.response.status_code": status}
    return said | {name.replace("_", "."): value for name, value in more.items()}


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (http(http_route="/a"), ("GET", "/a", "200", False)),
        (http("404", http_route="/a"), ("GET", "/a", "404", False)),
        (http(503, http_route="/a"), ("GET", "/a", "503", True)),
        (http(http_route="/a", method="BREW"), ("_OTHER", "/a", "200", False)),
        (http(url_path="/users/7"), ("GET", "__unmatched__", "200", False)),
        (http("", http_route="/a", error_type="ValueError"), ("GET", "/a", "", True)),
        ({"http.method": "PUT", "http.route": "/a", "http.status_code": 503}, ("PUT", "/a", "503", True)),
        ({"http.method": "GET", "http.target": "/u/7?q=1"}, ("GET", "__unmatched__", "", False)),
        ({"rpc.service": "Auth", "rpc.method": "Login"}, ("", "Auth/Login", "", False)),
    ],
)
def test_old_and_new_conventions_are_counted_alike(
    attributes: Attributes, expected: tuple[str, str, str, bool]
) -> None:
    assert rows(span(attributes)) == [(*expected, 1.0)]


def test_a_span_that_says_it_failed_is_an_error_only_where_no_status_says_otherwise() -> None:
    ok: Attributes = http(404, http_route="/a")
    assert rows(span(ok, status=2)) == [("GET", "/a", "404", False, 1.0)]
    assert rows(span({}, status=2)) == [("", "op", "", True, 1.0)]


@pytest.mark.parametrize("kind", [0, 1, 3, 4])
def test_only_servers_and_consumers_are_counted(kind: int) -> None:
    assert rows(span({"http.route": "/a"}, kind=kind)) == []


def test_a_consumer_counts_under_its_destination_s_template() -> None:
    attributes: Attributes = {
        "messaging.destination.name": "chat.room.7",
        "messaging.destination.template": "chat.room.{id}",
    }
    assert rows(span(attributes, kind=5)) == [("", "consume chat.room.{id}", "", False, 1.0)]


@pytest.mark.parametrize(
    "attributes",
    [
        {"http.request.method": "GET", "http.route": "/health", "http.response.status_code": 503},
        {"http.request.method": "GET", "url.path": "/metrics", "http.response.status_code": 200},
        {"http.method": "GET", "http.target": "/readyz?verbose", "http.status_code": 503},
    ],
)
def test_probes_and_scrapes_are_no_requests(attributes: Attributes) -> None:
    assert rows(span(attributes)) == []


@pytest.mark.parametrize(
    ("state", "count"),
    [
        ("ot=th:8", 2.0), ("ot=th:c", 4.0), ("ot=th:0", 1.0), ("ot=rv:123;th:c", 4.0), ("x=1, ot=th:8", 2.0),
        ("ot=th:fffffffffffffff", 1.0), ("ot=th:zz", 1.0), ("vendor=th:8", 1.0), ("", 1.0), ("ot=", 1.0),
    ],
)  # fmt: skip
def test_a_sampled_span_stands_for_as_many_as_its_threshold_says(state: str, count: float) -> None:
    assert adjusted_count(state) == count
    assert counted(span({"http.route": "/a"}, state=state)).rows().__next__().total == count


def test_a_negative_or_absurd_duration_is_clamped_and_counted() -> None:
    table = SeriesTable()
    counter = SpanCounter(table, Trails(env="production"))
    for duration_s in (-5.0, 1e7):
        counter.tally(parse_slim_traces(span({"http.route": "/a"}, duration_s=duration_s))).apply(1.0)
    assert counter.clamped == 2
    [row] = table.rows()
    assert (row.buckets[0], row.buckets[-1]) == (1.0, 1.0)


def test_two_seconds_is_a_bucket_edge() -> None:
    table = counted(span({"http.route": "/a"}, duration_s=2.0), span({"http.route": "/a"}, duration_s=2.001))
    buckets = dict(table.routes("auth", envs=frozenset())["/a"].buckets)
    assert (buckets[2.0], buckets[inf]) == (1, 2)


def test_each_bucket_remembers_its_newest_request() -> None:
    older, slow, newer = (span({"http.route": "/a"}, duration_s=each) for each in (0.1, 3, 0.09))
    [row] = counted(older, slow, newer).rows()
    assert row.exemplars == {5: (0.09, trace_of(newer), 1.0), 12: (3.0, trace_of(slow), 1.0)}


def trace_of(body: bytes) -> bytes:
    trace_id: bytes = (
        ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans[0].trace_id
    )
    return trace_id


def test_a_service_with_endless_routes_overflows_alone_and_is_named() -> None:
    table = SeriesTable(max_series=10)
    counted(
        *(span({"http.route": f"/{number}", "http.response.status_code": 500}) for number in range(50)),
        table=table,
    )
    counted(traces(5, service="asset"), table=table)
    routes = table.routes("auth", envs=frozenset())
    assert routes["__overflow__"].total == 40
    assert routes["__overflow__"].errors == 40
    assert sum(row.total for row in routes.values()) == 50
    assert table.folded("auth")[0] == 40
    assert table.folded("auth")[1][0] == "/10"
    assert table.routes("asset", envs=frozenset())["/login"].total == 5
    assert table.folded("asset") == (0.0, ())


def test_services_beyond_the_cap_share_one_row_set_and_still_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.telemetry.series.MAX_SERVICES", 3)
    table = SeriesTable(max_series=2)
    for number in range(20):
        counted(traces(1, service=f"s{number}", route=f"/{number}"), table=table)
    assert set(table.services()) == {"s0", "s1", "s2", "__overflow__"}
    assert sum(row.total for row in table.rows()) == 20


def test_another_environment_s_requests_are_shown_and_not_judged() -> None:
    table = SeriesTable()
    for env in ("production", "staging", ""):
        key = SeriesKey("auth", env, "server", "GET", "/a", "200", "")
        table.add(table.row(key, failed=False), 0.1, 1.0)
    assert table.routes("auth", envs=frozenset({"production", "prod"}))["/a"].total == 2


REQUESTS = st.tuples(
    st.sampled_from(["auth", "asset"]), st.sampled_from(["/a", "/b"]), st.sampled_from([200, 404, 500, 503]),
    st.sampled_from([0.001, 0.1, 1.9999, 2.0, 2.5, 60.0]), st.integers(1, 4),
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(batches=st.lists(REQUESTS, max_size=12), save_after=st.integers(0, 12))
async def test_counts_equal_an_oracle_across_a_restart_at_any_point(
    tmp_path_factory: pytest.TempPathFactory, batches: list[tuple[str, str, int, float, int]], save_after: int
) -> None:
    directory = tmp_path_factory.mktemp("telemetry")
    total: dict[tuple[str, str], int] = defaultdict(int)
    errors: dict[tuple[str, str], int] = defaultdict(int)
    within: dict[tuple[str, str], int] = defaultdict(int)

    async def send(intake: Intake, part: list[tuple[str, str, int, float, int]]) -> None:
        for service, route, status, duration_s, count in part:
            body = traces(count, service=service, route=route, status=status, duration_s=duration_s)
            assert (await post(intake.port, "/v1/traces", body)).status == 200
            total[service, route] += count
            errors[service, route] += count if status >= 500 else 0
            within[service, route] += count if duration_s <= 2.0 else 0

    def found(intake: Intake) -> dict[tuple[str, str], tuple[int, int, int]]:
        _, counting = intake._parts()
        return {
            (service, route): (row.total, row.errors, dict(row.buckets)[2.0])
            for service in counting.requests.services()
            for route, row in counting.requests.routes(service, envs=frozenset()).items()
        }

    def expected() -> dict[tuple[str, str], tuple[int, int, int]]:
        return {key: (total[key], errors[key], within[key]) for key in total}

    async with running(directory) as intake:
        await send(intake, batches[:save_after])
    async with running(directory) as intake:
        await send(intake, batches[save_after:])
        await until(lambda: intake._log is not None and found(intake) == expected(), what="oracle")


async def test_the_rules_see_a_new_service_s_first_error_as_an_increase(tmp_path: Path) -> None:
    told = Told()
    async with running(tmp_path, told=told) as intake:
        assert (await post(intake.port, "/v1/traces", traces(3, status=500))).status == 200
        await until(lambda: any(sample.total for sample in told.requests))
    first, second = told.requests[:2]
    assert (first.total, first.errors, second.total, second.errors) == (0, 0, 3, 3)
    assert (first.source, first.incarnation) == ("otlp", second.incarnation)
    assert first.at_s < second.at_s


async def test_a_restart_is_neither_a_reset_nor_a_jump_for_the_rules(tmp_path: Path) -> None:
    for total in (2, 4, 6):
        told = Told()
        async with running(tmp_path, told=told) as intake:
            assert (await post(intake.port, "/v1/traces", traces(2))).status == 200
            await until(lambda: told.requests and told.requests[-1].total == total)  # noqa: B023
        if total > 2:
            assert told.requests[0].total == total - 2
        incarnations = {sample.incarnation for sample in told.requests}
        assert len(incarnations) == 1


async def test_error_logs_reach_the_rules_once_per_cause_with_a_redacted_sample(tmp_path: Path) -> None:
    told = Told()
    async with running(tmp_path, told=told) as intake:
        body = logs("user 17 failed: password=hunter22", "user 23 failed: password=swordfish", "other")
        for content in (body, logs("calm", severity=9), logs("agent's own", service="gaia-agent")):
            assert (await post(intake.port, "/v1/logs", content)).status == 200
        await until(lambda: sum(event.count for event in told.errors) >= 3)
        _, counting = intake._parts()
        assert counting.logs.levels == {
            ("auth", "", "error"): 3,
            ("auth", "", "info"): 1,
            ("gaia-agent", "", "error"): 1,
        }
        assert counting.logs.errors == {("auth", "", "app", ""): 3}
    assert sorted((event.count, event.sample, event.env) for event in told.errors) == [
        (1, "other", "production"),
        (2, "user 17 failed: password=***", "production"),
    ]


def test_one_cause_has_one_fingerprint_whatever_varies_in_its_message() -> None:
    def of(message: str, exception: str = "", stack: str = "") -> str:
        return fingerprint(service="auth", scope="app", exception=exception, stack=stack, message=message)

    assert of("user 17 failed in 0.3 s") == of("user 23 failed in 11.5 s")
    assert of("room 'a' gone") == of("room 'b' gone")
    assert of("id 0af7651916cd43dd8448eb211c80319c") == of("id 1bf7651916cd43dd8448eb211c80319d")
    assert of("disk full") != of("disk slow")
    assert of("one", "TooMany", TRACEBACK) == of("two", "TooMany", TRACEBACK)
    assert of("one", "TooMany", TRACEBACK) != of("one", "Other", TRACEBACK)


def test_the_top_frame_is_the_innermost_of_our_own_code() -> None:
    assert top_frame(TRACEBACK) == "/app/chat/model.py:answer"
    assert top_frame("no traceback") == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgres://gaia:hunter22@db:5432/x", "postgres://gaia:***@db:5432/x"),
        ("Authorization: Bearer abcdefghijkl", "Authorization: ***"),
        ('{"api_key": "sk-abcdefghijklmnop"}', '{"api_key": "***"}'),
        ("key sk-abcdefghijklmnop used", "key *** used"),
        ("token eyJhbGciOi.eyJzdWIiOi.c2ln now", "token *** now"),
        ("nothing secret here: 5 errors", "nothing secret here: 5 errors"),
        ("-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----!", "***!"),
    ],
)
def test_secrets_are_masked_and_the_rest_stays(text: str, shown: str) -> None:
    assert redact(text).replace("Bearer ***", "***") == shown
    assert redact(redact(text)) == redact(text)


async def test_the_sdk_pushes_all_three_signals_end_to_end(tmp_path: Path) -> None:
    told = Told()
    async with running(tmp_path, told=told) as intake:
        await asyncio.to_thread(_push_everything, f"http://127.0.0.1:{intake.port}")
        await until(lambda: any(sample.total for sample in told.requests) and told.errors)
        _, counting = intake._parts()
        assert {signal.value: count for signal, count in counting.received_items.items()} == {
            "traces": 20,
            "metrics": 1,
            "logs": 1,
        }
        assert not intake.reception.refused
    last: RequestSample = told.requests[-1]
    assert (last.service, last.total, last.errors) == ("auth", 20, 2)
    [event] = told.errors
    assert event == ErrorLog(
        env="production", service="auth", at_s=event.at_s, fingerprint=event.fingerprint,
        sample="the database is away (ValueError: no pool)", trace_id=event.trace_id,
    )  # fmt: skip
    assert len(event.trace_id) == 32


def _push_everything(endpoint: str) -> None:
    import logging

    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.trace import SpanKind

    resource = Resource.create({"service.name": "auth", "deployment.environment.name": "production"})
    spans = TracerProvider(resource=resource)
    spans.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", compression=Compression.Gzip))
    )
    meters = MeterProvider(
        resource=resource,
        metric_readers=[PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=f"{endpoint}/v1/metrics"))],
    )
    records = LoggerProvider(resource=resource)
    records.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(endpoint=f"{endpoint}/v1/logs")))
    handler = LoggingHandler(logger_provider=records)
    logger = logging.getLogger("tests.sdk")
    logger.addHandler(handler)
    try:
        tracer = spans.get_tracer("tests")
        for number in range(20):
            attributes = {
                "http.request.method": "GET",
                "http.route": "/a",
                "http.response.status_code": 500 if number < 2 else 200,
            }
            with tracer.start_as_current_span("GET /a", kind=SpanKind.SERVER, attributes=attributes):
                if number == 0:
                    try:
                        raise ValueError("no pool")
                    except ValueError:
                        logger.exception("the database is away")
        meters.get_meter("tests").create_counter("jobs").add(1)
    finally:
        logger.removeHandler(handler)
        for provider in (spans, meters, records):
            provider.shutdown()


async def test_a_large_body_is_taken_in_pieces_that_leave_the_loop_free(tmp_path: Path) -> None:
    body = b"".join(traces(1, service=f"service-{number % 5}") for number in range(20_000))
    longest_s, last_s = 0.0, time.thread_time()
    done = False

    async def beat() -> None:
        nonlocal longest_s, last_s
        while not done:
            await asyncio.sleep(0)
            # The loop's own CPU time: another busy process must not fail this.
            now_s = time.thread_time()
            longest_s, last_s = max(longest_s, now_s - last_s), now_s

    async with running(tmp_path) as intake:
        await until(lambda: intake._log is not None)
        beating = asyncio.create_task(beat())
        response = await post(
            intake.port, "/v1/traces", gzip.compress(body, 1), headers={"Content-Encoding": "gzip"}
        )
        done = True
        await beating
        assert response.status == 200
        _, counting = intake._parts()
        assert sum(counts.total for counts in _logins(counting.requests)) == 20_000
    assert longest_s < 0.25


def _logins(table: SeriesTable) -> list[RouteCounts]:
    return [table.routes(service, envs=frozenset())["/login"] for service in table.services()]
