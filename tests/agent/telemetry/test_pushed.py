from __future__ import annotations

import asyncio
import shutil
from math import inf
from pathlib import Path

import msgspec
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from agent.telemetry.pace import Pace
from agent.telemetry.pushed import PushedRequests
from agent.telemetry.red import RequestTotals, RouteCounts
from agent.telemetry.traffic import Witness
from tests.agent.telemetry.otlp import Told, post, running, traces
from tests.agent.telemetry.test_reception import LOG_JSON, METRIC_JSON, TRACE_JSON
from tests.waiting import until


def pushed(
    *counts: tuple[str, str, int, int],
    start_ns: int = 5,
    delta: bool = False,
    name: str = "http.server.request.duration",
    bounds: tuple[float, ...] = (1.0, 2.0),
    env: str = "production",
) -> bytes:
    """Route, status, requests, and how many of them were slower than the last bound."""
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    for key, value in (
        ("service.name", "auth"),
        ("service.instance.id", "a1"),
        ("deployment.environment.name", env),
    ):
        resource.resource.attributes.add(key=key).value.string_value = value
    metric = resource.scope_metrics.add().metrics.add(name=name)
    metric.histogram.aggregation_temporality = 1 if delta else 2
    for route, status, total, slow in counts:
        point = metric.histogram.data_points.add(
            start_time_unix_nano=start_ns,
            count=total,
            explicit_bounds=bounds,
            bucket_counts=(total - slow, 0, slow),
        )
        point.attributes.add(key="http.route").value.string_value = route
        point.attributes.add(key="http.response.status_code").value.int_value = int(status)
    content: bytes = request.SerializeToString()
    return content


def totals(*bodies: bytes) -> RequestTotals | None:
    table = PushedRequests(names={}, envs=frozenset({"production"}))
    for body in bodies:
        table.tally(ExportMetricsServiceRequest.FromString(body).resource_metrics).apply(1.0)
    drained = table.drain(9.0)
    assert [(service, source) for service, source, _ in drained] in ([], [("auth", "otlp:a1")])
    return drained[0][2] if drained else None


def test_the_newest_cumulative_counts_are_what_counts() -> None:
    found = totals(
        pushed(("/a", "200", 3, 0)),
        pushed(("/a", "200", 5, 1), ("/a", "500", 2, 0), ("/health", "500", 9, 0)),
    )
    row = RouteCounts(total=7, errors=2, buckets=((1.0, 6), (2.0, 6), (inf, 7)))
    assert found == RequestTotals(at_s=9.0, incarnation="pushed#0", routes={"/a": row})


def test_delta_counts_are_added_up() -> None:
    found = totals(
        pushed(("/a", "200", 3, 0), delta=True), pushed(("/a", "200", 5, 1), delta=True, start_ns=6)
    )
    assert found is not None
    assert (found.incarnation, found.routes["/a"].total) == ("pushed#0", 8)


def test_a_later_start_is_a_new_incarnation_even_when_the_count_has_overtaken() -> None:
    found = totals(pushed(("/a", "200", 3, 0)), pushed(("/a", "200", 5, 0), start_ns=6))
    assert found is not None
    assert (found.incarnation, found.routes["/a"].total) == ("pushed#1", 5)


def test_milliseconds_of_the_older_convention_become_seconds() -> None:
    found = totals(pushed(("/a", "200", 3, 1), name="http.server.duration", bounds=(1000.0, 2000.0)))
    assert found is not None
    assert found.routes["/a"].buckets == ((1.0, 2), (2.0, 2), (inf, 3))


def test_another_environment_s_counts_and_other_metrics_are_left_alone() -> None:
    assert totals(pushed(("/a", "200", 3, 0), env="staging")) is None
    assert totals(pushed(("/a", "200", 3, 0), name="db.client.operation.duration")) is None


async def test_a_service_that_pushes_both_is_counted_once_by_its_own_histogram(tmp_path: Path) -> None:
    told = Told()
    async with running(tmp_path, told=told) as intake:
        await post(intake.port, "/v1/metrics", pushed(("/a", "200", 10, 0)))
        await until(lambda: intake._traffic.owner("auth") is Witness.METRICS)
        await post(intake.port, "/v1/traces", traces(4))
        await post(intake.port, "/v1/metrics", pushed(("/a", "200", 14, 0)))
        await until(lambda: told.requests and told.requests[-1].total == 14)
    assert {sample.source for sample in told.requests} == {"otlp:a1"}


def test_a_backend_may_be_away_for_ever_and_is_asked_every_minute_at_least() -> None:
    pace = Pace(max_bytes=1 << 20)
    waits = [pace.refused(status=503, asked_s=None) for _ in range(10_000)]
    assert all(0 < wait <= 60 for wait in waits)
    assert max(waits[:3]) <= 4
    # Ten minutes away is some dozens of tries.
    assert 10 <= next(at for at in range(1, 10_000) if sum(waits[:at]) > 600) <= 100


def test_an_asked_for_wait_is_honoured_up_to_five_minutes_and_429_halves_the_batch() -> None:
    pace = Pace(max_bytes=1 << 20)
    size = pace.batch_bytes
    assert 30 <= pace.refused(status=429, asked_s=30) <= 31
    assert pace.batch_bytes == size // 2
    assert pace.refused(status=503, asked_s=86_400) <= 301
    for _ in range(100):
        pace.accepted()
    assert (pace.batch_bytes, pace.failures) == (1 << 20, 0)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_with_the_specification_s_examples_is_answered_and_counted(tmp_path: Path) -> None:
    async with running(tmp_path) as intake:
        for path, content in (("traces", TRACE_JSON), ("metrics", METRIC_JSON), ("logs", LOG_JSON)):
            file = tmp_path / f"{path}.json"
            await asyncio.to_thread(file.write_bytes, msgspec.json.encode(content))
            url = f"http://127.0.0.1:{intake.port}/v1/{path}"
            curl = await asyncio.create_subprocess_exec(
                "curl", "--silent", "--fail-with-body", "--header", "Content-Type: application/json",
                "--data", f"@{file}", url, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            answer, _ = await curl.communicate()
            assert (curl.returncode, answer) == (0, b"{}")
        _, counting = intake._parts()
        assert set(counting.received_items.values()) == {1}
