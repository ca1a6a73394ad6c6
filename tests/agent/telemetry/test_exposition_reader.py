from __future__ import annotations

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from agent.telemetry.exposition_reader import ExpositionError, ExpositionReader, Series, slices

NAMES = frozenset({"jobs_total", "work_seconds_bucket", "work_seconds_count"})
LABEL_VALUE = st.text(st.characters(codec="utf-8"), max_size=12)


def read(body: bytes, reader: ExpositionReader | None = None) -> list[tuple[Series, float]]:
    found = reader or ExpositionReader(NAMES)
    return [sample for part in slices(body, 64) for sample in found.samples(part)]


def oracle(body: bytes) -> list[tuple[str, dict[str, str], float]]:
    return [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if sample.name in NAMES
    ]


@settings(max_examples=150, deadline=None)
@given(
    values=st.lists(st.tuples(LABEL_VALUE, LABEL_VALUE, st.floats(0, 1e18)), max_size=8),
    observations=st.lists(st.floats(0, 20), max_size=8),
)
def test_reads_what_prometheus_client_reads_from_any_labels(
    values: list[tuple[str, str, float]], observations: list[float]
) -> None:
    registry = CollectorRegistry()
    jobs = Counter("jobs", "Jobs.", ["queue", "outcome"], registry=registry)
    work = Histogram("work_seconds", "Work.", ["queue"], registry=registry)
    for queue, outcome, amount in values:
        jobs.labels(queue, outcome).inc(amount)
        for seconds in observations:
            work.labels(queue).observe(seconds)
    body = generate_latest(registry)
    expected = oracle(body)
    reader = ExpositionReader(NAMES)
    for _ in range(2):  # The second pass answers from the table of known series.
        got = [(series.name, dict(series.labels), value) for series, value in read(body, reader)]
        assert got == expected


LINE = st.lists(
    st.sampled_from(
        [
            "jobs_total",
            "{",
            "}",
            "a",
            "=",
            '"',
            "\\",
            ",",
            " ",
            "1",
            "0.5",
            "NaN",
            "+Inf",
            "#",
            "\n",
            "\t",
            "é",
            "x y",
        ]
    ),
    max_size=25,
).map("".join)


@settings(max_examples=600, deadline=None)
@given(LINE)
def test_never_reads_a_malformed_line_as_something_else(rest: str) -> None:
    body = f"jobs_total{rest}\n".encode()
    try:
        got = [(series.name, dict(series.labels), value) for series, value in read(body)]
    except ExpositionError:
        return
    try:
        expected = oracle(body)
    except ValueError:
        return  # Stricter than prometheus_client in one direction only: see the table below.
    assert [(name, labels) for name, labels, _ in got] == [(name, labels) for name, labels, _ in expected]
    assert all(
        ours == theirs or (math.isnan(ours) and math.isnan(theirs))
        for (_, _, ours), (_, _, theirs) in zip(got, expected, strict=True)
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"jobs_total 3", (Series("jobs_total", ()), 3.0)),
        (b"jobs_total{} 3", (Series("jobs_total", ()), 3.0)),
        (b'jobs_total{a="b"} 3 1700000000000', (Series("jobs_total", (("a", "b"),)), 3.0)),
        (b'jobs_total{a="b",} 3', (Series("jobs_total", (("a", "b"),)), 3.0)),
        (b'jobs_total{a="} 9",b="#"} +Inf', (Series("jobs_total", (("a", "} 9"), ("b", "#"))), math.inf)),
        (b'jobs_total{a="\\"\\\\\\n\\x"} 1e3', (Series("jobs_total", (("a", '"\\\n\\x'),)), 1000.0)),
        (b'jobs_total{a="b"} 7 # {trace_id="x"} 0.4 1.5', (Series("jobs_total", (("a", "b"),)), 7.0)),
        (b'jobs_total{a="b"} 7\r', (Series("jobs_total", (("a", "b"),)), 7.0)),
    ],
)
def test_reads_every_form_of_a_sample_line(line: bytes, expected: tuple[Series, float]) -> None:
    assert read(line + b"\n") == [expected]


@pytest.mark.parametrize(
    "line",
    [
        b"jobs_total{a=b} 1",
        b'jobs_total{a="b} 1',
        b"jobs_total",
        b"jobs_total x",
        b'jobs_total{a="b"',
        b'jobs_total{a="\xff"} 1',
    ],
)
def test_names_the_line_it_cannot_read(line: bytes) -> None:
    with pytest.raises(ExpositionError, match="jobs_total"):
        read(line + b"\n")


def test_ignores_families_it_was_not_asked_for_even_when_they_are_broken() -> None:
    body = b"# HELP x y\njobs_total_more{ 1\nother{{{\njobs_total 1\njobs_total_created 5\n# EOF\n"
    assert read(b"\n".join(line for line in body.split(b"\n") if b"more" not in line)) == [
        (Series("jobs_total", ()), 1.0)
    ]


def test_reads_openmetrics_with_exemplars_like_the_plain_format() -> None:
    registry = CollectorRegistry()
    work = Histogram("work_seconds", "Work.", ["queue"], registry=registry)
    work.labels("a").observe(0.2, {"trace_id": "0af7651916cd43dd8448eb211c80319c"})
    body: bytes = generate_openmetrics(registry)  # type: ignore[no-untyped-call]  # prometheus_client leaves it bare.
    assert read(body) == read(generate_latest(registry))


def test_a_hostile_line_takes_linear_time() -> None:
    line = b'jobs_total{a="' + b"\\\\" * 500_000 + b"\n"
    started = time.process_time()
    with pytest.raises(ExpositionError):
        read(line)
    assert time.process_time() - started < 2.0


def test_forgets_known_series_rather_than_growing_without_bound() -> None:
    reader = ExpositionReader(NAMES, max_series=10)
    body = b"".join(b'jobs_total{a="%d"} 1\n' % number for number in range(100))
    assert len(read(body, reader)) == 100
    assert len(reader._known) <= 10
