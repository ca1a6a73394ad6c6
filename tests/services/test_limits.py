"""Rate limit, retry budget, ranges, paths: small pure rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from services.asset.ranges import Span, UnsatisfiableRangeError, parse_range
from services.gateway.paths import route_of
from services.instrumentation.problem import ProblemError
from services.instrumentation.rate_limit import RateLimit
from services.instrumentation.retry import RetryBudget


def test_a_burst_passes_then_the_rate() -> None:
    limit = RateLimit(rate=10, burst=5)
    decisions = [limit.take("ada", 0.0) for _ in range(6)]
    assert [decision.allowed for decision in decisions] == [True] * 5 + [False]
    assert [decision.remaining for decision in decisions] == [4, 3, 2, 1, 0, 0]
    assert decisions[-1].retry_after_s == pytest.approx(0.1)
    assert decisions[-1].headers["Retry-After"] == "1"
    assert limit.take("ada", 0.1).allowed
    assert not limit.take("ada", 0.1).allowed


def test_one_subject_does_not_use_up_another() -> None:
    limit = RateLimit(rate=1, burst=1)
    assert [limit.take(name, 0.0).allowed for name in ("ada", "ada", "bob")] == [True, False, True]


def test_scenario_17_a_million_subjects_stay_within_the_bound() -> None:
    limit = RateLimit(rate=1, burst=1)
    for number in range(1_000_000):
        limit.take(f"10.{number}", 0.0)
    assert len(limit) == 100_000
    # The oldest gave way; the newest are still held to their rate.
    assert limit.take("10.0", 0.0).allowed
    assert not limit.take("10.999999", 0.0).allowed


@given(st.lists(st.floats(0, 0.5), max_size=200))
def test_never_more_than_burst_plus_rate_times_time(pauses: list[float]) -> None:
    limit, now, passed = RateLimit(rate=10, burst=5), 0.0, 0
    for pause in pauses:
        now += pause
        passed += limit.take("ada", now).allowed
    assert passed <= 5 + now * 10 + 1e-6


def test_retries_add_a_tenth_to_the_traffic() -> None:
    budget = RetryBudget(reserve=0)
    retries = 0
    for _ in range(1000):
        budget.deposit()
        retries += budget.withdraw()
    assert 95 <= retries <= 100


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-0", Span(0, 1)),
        ("bytes=5-", Span(5, 95)),
        ("bytes=90-200", Span(90, 10)),
        ("bytes=-10", Span(90, 10)),
        ("bytes=-1000", Span(0, 100)),
        ("bytes=5-4", None),
        ("bytes=0-1,5-6", None),
        ("lines=1-2", None),
        ("bytes=-", None),
    ],
)
def test_a_range_is_what_rfc_9110_says(header: str | None, expected: Span | None) -> None:
    assert parse_range(header, 100) == expected


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=-0", "bytes=999-1000"])
def test_a_range_outside_the_content_is_unsatisfiable(header: str) -> None:
    with pytest.raises(UnsatisfiableRangeError):
        parse_range(header, 100)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/v1/auth/me", ("/api/v1/auth", "auth")),
        ("/api/v1/assets", ("/api/v1/assets", "asset")),
        ("/api/v1/assets/1/content", ("/api/v1/assets", "asset")),
        ("/api/v1/chat/rooms/caf%C3%A9", ("/api/v1/chat", "chat")),
    ],
)
def test_honest_paths_have_a_route(path: str, expected: tuple[str, str]) -> None:
    assert route_of(path) == expected


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/auth/%2e%2e/%2e%2e/internal", 400),
        ("/api/v1/auth/../../internal", 400),
        ("/api/v1/auth/..%2finternal", 400),
        ("/api/v1/auth/%2E%2E%2Finternal", 400),
        ("/api/v1/auth/%252e%252e/internal", 400),
        ("/api/v1/auth/..\\internal", 400),
        ("/api/v1/auth/%5c..%5cinternal", 400),
        ("/api/v1/auth//internal", 400),
        ("//evil.example/api/v1/auth/me", 400),
        ("/api/v1/auth/me%00", 400),
        ("/api/v1/auth/%zz", 400),
        ("/api/v1/assetsevil", 404),
        ("/internal", 404),
        ("/", 404),
        ("/api/v1/auth/" + "a" * 5000, 414),
    ],
)
def test_tricky_paths_reach_nobody(path: str, status: int) -> None:
    with pytest.raises(ProblemError) as refused:
        route_of(path)
    assert refused.value.status == status


@given(st.text(st.sampled_from("/.%2eEfF5cC\\0;a-~?#@:")).map(lambda tail: f"/api/v1/auth/{tail}"))
def test_whatever_passes_stays_below_its_route(path: str) -> None:
    try:
        prefix, _ = route_of(path.partition("?")[0])
    except ProblemError:
        return
    url = URL(f"http://upstream{path}", encoded=True)
    # As the strictest and as the laxest reader would see it.
    for seen in (url.raw_path, url.path, URL(f"http://upstream{url.path}").path):
        assert seen.startswith(prefix)
        assert ".." not in seen.split("/")
        assert "\\" not in seen
