from __future__ import annotations

from math import inf

from agent.telemetry.red import RequestTotals, RouteCounts
from agent.telemetry.traffic import Traffic, Witness
from alerts.requests import RequestSample


def totals(at_s: float, count: int, *, errors: int = 0, incarnation: str = "1") -> RequestTotals:
    counts = RouteCounts(total=count, errors=errors, buckets=((2.0, count), (inf, count)))
    return RequestTotals(at_s=at_s, incarnation=incarnation, routes={"/a": counts}, born_s=100.0)


def take(traffic: Traffic, witness: Witness, of: RequestTotals, source: str = "") -> RequestSample | None:
    return traffic.take(service="auth", witness=witness, source=source or witness.name, totals=of)


def judged(samples: list[RequestSample | None]) -> int:
    """What a judge counts: increments per source, a first sample being a baseline."""
    last: dict[str, RequestSample] = {}
    count = 0
    for sample in samples:
        if sample is None:
            continue
        before = last.get(sample.source)
        last[sample.source] = sample
        if before is not None:
            same = before.incarnation == sample.incarnation
            count += sample.total - (before.total if same else 0)
    return count


def test_the_rules_get_the_sum_of_all_routes_under_the_source_s_name() -> None:
    sample = take(Traffic(env="production"), Witness.SCRAPE, totals(110, 5, errors=2), "auth-1")
    assert sample == RequestSample(
        env="production", service="auth", source="auth-1", at_s=110, incarnation="1", total=5, errors=2,
        buckets=((2.0, 5), (inf, 5)), born_s=100.0,
    )  # fmt: skip


def test_spans_of_a_scraped_service_are_judged_by_nobody() -> None:
    traffic = Traffic(env="production")
    assert take(traffic, Witness.SCRAPE, totals(110, 5))
    assert take(traffic, Witness.SPANS, totals(111, 5)) is None
    assert take(traffic, Witness.METRICS, totals(112, 5)) is None
    assert traffic.owner("auth") is Witness.SCRAPE


def test_a_silent_scrape_hands_over_to_spans_and_takes_back_without_counting_twice() -> None:
    traffic = Traffic(env="production", release_after_s=60)
    samples = []
    # One request a second, seen by both witnesses all the time; the scrape is silent from 300 to 600.
    for second in range(0, 1000, 10):
        samples.append(take(traffic, Witness.SPANS, totals(second, second)))
        if not 300 <= second < 600:
            samples.append(take(traffic, Witness.SCRAPE, totals(second + 1, second + 1)))
    # Nothing twice; missing are only the seconds until the silence is certain and one step per handover.
    assert 1000 - 60 - 30 <= judged(samples) <= 1000
    assert traffic.owner("auth") is Witness.SCRAPE
    view = traffic.view("auth", now_s=991, window_s=900)
    assert view is not None
    assert view.requests <= 900


def test_a_restart_after_a_handover_counts_from_zero() -> None:
    traffic = Traffic(env="production", release_after_s=60)
    samples = [
        take(traffic, Witness.SCRAPE, totals(0, 100)),
        take(traffic, Witness.SPANS, totals(70, 100)),
        take(traffic, Witness.SPANS, totals(80, 110)),
        take(traffic, Witness.SPANS, totals(90, 7, incarnation="2")),
    ]
    assert judged(samples) == 10 + 7


def test_two_instances_are_both_counted() -> None:
    traffic = Traffic(env="production")
    samples = [
        take(traffic, Witness.SCRAPE, totals(at, at + offset), source)
        for at in (0, 10, 20)
        for source, offset in (("a", 0), ("b", 1000))
    ]
    assert judged(samples) == 40
    view = traffic.view("auth", now_s=20)
    assert view is not None
    assert view.requests == 40
    traffic.forget(service="auth", source="b")
    view = traffic.view("auth", now_s=20)
    assert view is not None
    assert view.requests == 20


def test_a_service_nobody_reported_has_no_view() -> None:
    assert Traffic(env="production").view("auth", now_s=0) is None


def test_sampled_spans_are_told_by_what_the_histogram_counted_meanwhile() -> None:
    traffic = Traffic(env="production")
    take(traffic, Witness.SCRAPE, totals(100, 1000))
    take(traffic, Witness.SPANS, totals(101, 100))
    assert traffic.coverage("auth") is None
    for step in range(1, 6):
        take(traffic, Witness.SCRAPE, totals(100 + step * 10, 1000 + step * 100))
        take(traffic, Witness.SPANS, totals(101 + step * 10, 100 + step * 10))
    assert traffic.coverage("auth") == 0.1


def test_spans_that_show_every_request_are_no_sample_and_a_restart_hides_none() -> None:
    traffic = Traffic(env="production")
    for step in range(10):
        born = "1" if step < 5 else "2"
        take(traffic, Witness.METRICS, totals(100 + step, step % 5 * 100, incarnation=born))
        take(traffic, Witness.SPANS, totals(100 + step, step % 5 * 100, incarnation=born))
    assert traffic.coverage("auth") == 1.0
    assert traffic.coverage("nobody") is None
