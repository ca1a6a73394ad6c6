from __future__ import annotations

from collections.abc import Iterable
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.telemetry.red import (
    RedView,
    RedWindow,
    RequestTotals,
    RouteCounts,
    RouteRow,
    merge,
    quantile,
    slow_ratio,
)


def counts(total: int, errors: int = 0, slow: int = 0) -> RouteCounts:
    return RouteCounts(
        total=total, errors=errors, buckets=((1.0, total - slow), (2.0, total - slow), (inf, total))
    )


def totals(at_s: float, incarnation: str = "1", **routes: RouteCounts) -> RequestTotals:
    return RequestTotals(
        at_s=at_s, incarnation=incarnation, routes={f"/{name}": of for name, of in routes.items()}
    )


def window(source_totals: Iterable[RequestTotals]) -> RedWindow:
    red = RedWindow("auth")
    for item in source_totals:
        red.add("a", item)
    return red


def test_shows_rate_errors_and_durations_of_the_window_per_service_and_route() -> None:
    red = window(
        [totals(0, login=counts(100, 50)), totals(100, login=counts(200, 55, slow=10), me=counts(100))]
    )
    assert red.view(now_s=100) == RedView(
        service="auth", requests_per_s=2.0, error_ratio=5 / 200, p95_s=1.0, slow_ratio=1.0 - 190 / 200,
        window_s=100, requests=200, errors=5,
        routes=(
            RouteRow(route="/login", requests_per_s=1.0, error_ratio=0.05, p95_s=2.0,
                     slow_ratio=1.0 - 90 / 100, requests=100, errors=5),
            RouteRow(route="/me", requests_per_s=1.0, error_ratio=0.0, p95_s=0.95,
                     slow_ratio=0.0, requests=100, errors=0),
        ),
    )  # fmt: skip


def test_a_first_scrape_is_a_baseline_and_says_nothing() -> None:
    assert window([totals(0, a=counts(1000, 999))]).view(now_s=1) == RedView(
        service="auth", requests_per_s=None, error_ratio=None, p95_s=None, slow_ratio=None, window_s=300
    )


def test_a_route_born_between_two_scrapes_counts_from_zero() -> None:
    view = window([totals(0, a=counts(1)), totals(10, a=counts(1), b=counts(4, 4))]).view(now_s=10)
    assert (view.requests, view.errors) == (4, 4)


@pytest.mark.parametrize("incarnation", ["1", "2"])
def test_a_restart_counts_from_zero_whether_or_not_it_is_announced(incarnation: str) -> None:
    view = window([totals(0, a=counts(100)), totals(10, incarnation, a=counts(7, 2))]).view(now_s=10)
    assert (view.requests, view.errors) == (7, 2)


def test_a_restart_that_overtook_the_old_count_is_seen_by_its_incarnation() -> None:
    view = window([totals(0, a=counts(5)), totals(10, "2", a=counts(9))]).view(now_s=10)
    assert view.requests == 9


def test_instances_are_added_and_a_forgotten_one_is_not() -> None:
    red = RedWindow("auth")
    for source in ("a", "b"):
        red.add(source, totals(0, r=counts(0)))
        red.add(source, totals(10, r=counts(10)))
    assert red.view(now_s=10).requests == 20
    red.forget("b")
    assert red.view(now_s=10).requests == 10


def test_what_left_the_window_no_longer_counts() -> None:
    red = window([totals(0, a=counts(0)), totals(10, a=counts(50, 50)), totals(400, a=counts(60, 50))])
    view = red.view(now_s=400, window_s=300)
    assert (view.requests, view.errors, view.window_s) == (10, 0, 300)


def test_a_stream_that_reports_each_second_is_kept_in_steps_of_ten() -> None:
    red = window(totals(at_s, a=counts(at_s), idle=counts(1)) for at_s in range(301))
    assert red.view(now_s=300).requests == 300
    assert len(red._steps["a"]) <= 31
    assert all(set(step.deltas) == {"/a"} for step in red._steps["a"])


def test_an_older_sample_than_the_last_is_ignored() -> None:
    red = window([totals(10, a=counts(5)), totals(5, a=counts(1)), totals(20, a=counts(6))])
    assert red.view(now_s=20).requests == 1


def test_no_threshold_edge_means_no_slow_ratio() -> None:
    assert slow_ratio(((1.0, 5), (2.5, 9), (inf, 10)), 2.0) is None


def test_p95_beyond_the_last_edge_is_that_edge() -> None:
    assert quantile(((1.0, 5), (2.0, 5), (inf, 10)), 0.95) == 2.0


def test_different_bucket_layouts_merge_on_their_common_edges() -> None:
    left = RouteCounts(total=10, errors=0, buckets=((0.5, 4), (2.0, 8), (inf, 10)))
    right = RouteCounts(total=5, errors=1, buckets=((1.0, 1), (2.0, 3), (inf, 5)))
    assert merge([left, right]) == RouteCounts(total=15, errors=1, buckets=((2.0, 11), (inf, 15)))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.booleans()), min_size=1, max_size=20))
def test_the_window_holds_exactly_what_happened_since_the_first_scrape(
    steps: list[tuple[int, int, bool]],
) -> None:
    red = RedWindow("auth")
    red.add("a", totals(0, "0", r=counts(0)))
    total = errors = happened = failed = 0
    incarnation = 0
    for number, (good, bad, restart) in enumerate(steps, start=1):
        if restart:
            incarnation, total, errors = incarnation + 1, 0, 0
        total, errors = total + good + bad, errors + bad
        happened, failed = happened + good + bad, failed + bad
        red.add("a", totals(number, str(incarnation), r=counts(total, errors)))
    view = red.view(now_s=len(steps))
    assert (view.requests, view.errors) == (happened, failed)
