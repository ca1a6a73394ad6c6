"""A slow bucket leads to a trace: exemplars of pushed and probed series, within OpenMetrics' limits."""

from __future__ import annotations

from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as plain_families

from agent.exposition.document import Document
from agent.exposition.metrics import METRICS
from agent.exposition.negotiation import Format
from agent.exposition.request_series import REQUESTS, RequestPage
from agent.telemetry.schema import parse_slim_traces
from agent.telemetry.series import SeriesKey, SeriesTable
from agent.telemetry.spans import SpanCounter
from agent.telemetry.trails import Trails
from checks.finding import Evidence, Finding, State
from checks.reason import Reason
from tests.agent.exposition.test_series import Watched
from tests.agent.telemetry.otlp import traces
from tests.agent.telemetry.test_counting import trace_of

TRACE = "0af7651916cd43dd8448eb211c80319c"
OTHER = "4bf92f3577b34da6a3ce929d0e0e4736"


def buckets(document: Document, name: str) -> list[Any]:
    text = b"".join(document.render(Format.OPEN_METRICS)).decode()
    families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]  # ships half its types
    [family] = [one for one in families if one.name == name]
    return [sample for sample in family.samples if sample.name == f"{name}_bucket"]


def test_each_bucket_of_a_pushed_route_has_its_newest_trace_inside_its_range() -> None:
    table = SeriesTable()
    counter = SpanCounter(table, Trails(env="production"))
    bodies = [traces(1, duration_s=each) for each in (0.1, 3.0, 0.09)]
    for body in bodies:
        counter.tally(parse_slim_traces(body)).apply(1700.5)
    document = Document(metric.family for metric in METRICS)
    RequestPage(document).show("production", table)
    found = {
        sample.labels["le"]: (sample.exemplar.labels, sample.exemplar.value, float(sample.exemplar.timestamp))
        for sample in buckets(document, REQUESTS)
        if sample.exemplar is not None
    }
    assert found == {
        "0.1": ({"trace_id": trace_of(bodies[2]).hex()}, 0.09, 1700.5),
        "5.0": ({"trace_id": trace_of(bodies[1]).hex()}, 3.0, 1700.5),
    }


def test_the_latest_look_and_the_last_slow_one_lead_to_their_traces_in_openmetrics_only() -> None:
    watched = Watched()
    evidence = (Evidence(name="trace_id", value=TRACE), Evidence(name="ip", value="::1"))
    watched.look(Finding(state=State.UP, reason=Reason.OK, message="", latency_s=0.3, evidence=evidence))
    slow = (Evidence(name="trace_id", value=OTHER),)
    watched.look(Finding(state=State.UP, reason=Reason.OK, message="", latency_s=3.0, evidence=slow))
    watched.look(Finding(state=State.UP, reason=Reason.OK, message="", latency_s=0.3, evidence=evidence))
    exemplars = [
        (sample.labels["le"], sample.exemplar.labels, sample.exemplar.value)
        for sample in buckets(watched.document, "gaia_probe_latency_seconds")
        if sample.exemplar is not None
    ]
    assert exemplars == [("0.5", {"trace_id": TRACE}, 0.3), ("5.0", {"trace_id": OTHER}, 3.0)]
    text = b"".join(watched.document.render(Format.TEXT)).decode()
    assert TRACE not in text
    assert list(plain_families(text))


def test_rows_that_tell_no_environment_are_added_to_those_of_ours() -> None:
    table = SeriesTable()
    for env in ("", "production"):
        key = SeriesKey(
            service="auth", env=env, kind="server", method="GET", route="/a", status="200", error=""
        )
        table.add(table.row(key, failed=False), 0.3, 1.0)
    document = Document(metric.family for metric in METRICS)
    page = RequestPage(document)
    page.show("production", table)
    page.show("production", table)
    totals = [sample.value for sample in buckets(document, REQUESTS) if sample.labels["le"] == "+Inf"]
    assert totals == [2.0]


def test_more_rows_than_are_shown_cost_no_more_lines() -> None:
    table = SeriesTable(max_series=1500)
    for number in range(1200):
        key = SeriesKey(
            service="auth", env="", kind="server", method="GET", route=f"/{number}", status="200", error=""
        )
        table.add(table.row(key, failed=False), 0.3, 1.0)
    document = Document(metric.family for metric in METRICS)
    RequestPage(document).show("production", table)
    assert len([one for one in buckets(document, REQUESTS) if one.labels["le"] == "+Inf"]) == 1000
