"""Our histogram beside prometheus_client's own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as Reference

from services.instrumentation.histogram import Histogram
from services.instrumentation.metrics import openmetrics_text

EDGES = (0.005, 0.1, 2.0)
DURATIONS = st.lists(st.one_of(st.floats(0, 10), st.sampled_from(EDGES)), max_size=30)


@given(DURATIONS)
def test_it_counts_what_prometheus_client_counts(durations: list[float]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram("d_seconds", "Durations.", ("route", "status"), edges_s=EDGES, registry=ours)
    reference = Reference("d_seconds", "Durations.", ("route", "status"), buckets=EDGES, registry=theirs)
    for duration in durations:
        histogram.observe(("/a", 200), duration)
        reference.labels("/a", "200").observe(duration)

    def samples(registry: CollectorRegistry) -> list[tuple[str, dict[str, str], float]]:
        return sorted(
            (
                (sample.name, sample.labels, sample.value)
                for family in registry.collect()
                for sample in family.samples
                if not sample.name.endswith("_created")
            ),
            key=repr,
        )

    assert samples(ours) == samples(theirs)


def test_without_labels_there_is_a_series_before_the_first_observation() -> None:
    registry = CollectorRegistry()
    Histogram("d_seconds", "Durations.", (), edges_s=EDGES, registry=registry)
    assert registry.get_sample_value("d_seconds_count") == 0


def test_an_exemplar_stands_at_the_bucket_it_fell_into() -> None:
    registry = CollectorRegistry()
    histogram = Histogram("d_seconds", "Durations.", ("route",), edges_s=EDGES, registry=registry)
    histogram.observe(("/a",), 0.05, "ab" * 16)
    histogram.observe(("/a",), 0.001)
    lines = openmetrics_text(registry).decode().splitlines()
    (line,) = [line for line in lines if " # " in line]
    assert line.startswith('d_seconds_bucket{le="0.1",route="/a"} 2.0 # {trace_id="' + "ab" * 16 + '"} 0.05')
