"""Error budgets: two windows at each pace, and never a verdict on less than half of the long one."""

from __future__ import annotations

import pytest

from alerts.ledger import Ledger
from alerts.reading import Outcome, Unknown
from alerts.requests import RequestSample
from alerts.rule import BurnRateRule, BurnWindow
from alerts.signals import traffic
from checks.units import Duration, Ratio
from tests.alerts.world import World, plan

# 99.9 %: 14.4 x in an hour and five minutes, 6 x in six hours and half an hour.
RULE = BurnRateRule()
TICKET = BurnRateRule(
    windows=(
        BurnWindow(burn=3, long=Duration(86400), short=Duration(7200)),
        BurnWindow(burn=1, long=Duration(3 * 86400), short=Duration(21600)),
    )
)


def _ledger(*parts: tuple[int, float], per_minute: int = 10_000, slow: bool = False) -> tuple[Ledger, float]:
    """Minutes of traffic, each part with its share of bad requests; the ledger and the time it ends."""
    made = Ledger(edges=(2.0,) if slow else (), keep_s=3 * 86400)
    total = bad = minute = 0
    made.add(_sample(0, 0, 0, slow=slow))
    for minutes, share in parts:
        for _ in range(minutes):
            minute += 1
            total += per_minute
            bad += round(per_minute * share)
            made.add(_sample(60 * minute, total, bad, slow=slow))
    return made, 60.0 * minute


def _sample(at_s: float, total: int, bad: int, *, slow: bool) -> RequestSample:
    return RequestSample(
        env="production", service="auth", source="one", at_s=at_s, incarnation="1", total=total,
        errors=0 if slow else bad,
        buckets=((2.0, total - bad), (float("inf"), total)) if slow else (),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "outcome", "burn"),
    [
        (((360, 0.0), (5, 1.0)), Outcome.BAD, 14.4),
        (((360, 0.0), (60, 0.0143)), Outcome.GOOD, None),
        (((360, 0.0), (60, 0.0145)), Outcome.BAD, 14.4),
        (((360, 0.0), (15, 0.2), (6, 0.0)), Outcome.BAD, 6),
        (((360, 0.0), (3, 0.2), (6, 0.0)), Outcome.GOOD, None),
        (((360, 0.007),), Outcome.BAD, 6),
        (((360, 0.005),), Outcome.GOOD, None),
        (((330, 0.007), (31, 0.0)), Outcome.GOOD, None),
        (((360, 0.006),), Outcome.GOOD, None),
    ],
    ids=[
        "all fail for five minutes", "just under 14.4 for an hour", "just over it",
        "over, but within half an hour", "a blip that is over", "a slow leak at 7", "a leak at 5",
        "a leak that ended half an hour ago", "exactly 6 is not over 6",
    ],
)  # fmt: skip
def test_a_pace_must_show_in_both_of_its_windows(
    parts: tuple[tuple[int, float], ...], outcome: Outcome, burn: float | None
) -> None:
    ledger, now_s = _ledger(*parts)
    reading = traffic.burn_rate(RULE, ledger, now_s, vouched=False)
    assert reading.outcome is outcome, reading.text
    if burn is not None:
        assert reading.threshold == burn


@pytest.mark.parametrize(
    ("minutes", "outcome"), [(1, Outcome.UNKNOWN), (29, Outcome.UNKNOWN), (30, Outcome.BAD)]
)
def test_a_cold_start_says_nothing_before_half_the_long_window_was_seen(
    minutes: int, outcome: Outcome
) -> None:
    ledger, now_s = _ledger((minutes, 1.0))
    reading = traffic.burn_rate(RULE, ledger, now_s, vouched=False)
    assert reading.outcome is outcome
    if outcome is Outcome.UNKNOWN:
        assert reading.why is Unknown.INSUFFICIENT


def test_slow_requests_can_spend_the_budget_too() -> None:
    rule = BurnRateRule(objective=Ratio(0.99), slower_than=Duration(2))
    ledger, now_s = _ledger((60, 0.3), slow=True)
    reading = traffic.burn_rate(rule, ledger, now_s, vouched=False)
    assert reading.outcome is Outcome.BAD
    assert "spends its 1% budget 30.0 times too fast: 30 % = 180000 of 600000 in 1h" in reading.text


def test_days_are_remembered_for_tickets() -> None:
    ledger, now_s = _ledger((1440, 0.0), (1440, 0.0035))
    reading = traffic.burn_rate(TICKET, ledger, now_s, vouched=False)
    assert (reading.outcome, reading.threshold) == (Outcome.BAD, 3)


def test_few_requests_say_nothing() -> None:
    ledger, now_s = _ledger((300, 1.0), per_minute=0)
    assert traffic.burn_rate(RULE, ledger, now_s, vouched=True).why is Unknown.NO_TRAFFIC


def test_the_judge_pages_a_fast_burn_and_its_short_window_ends_it() -> None:
    world = World(plan({"budget": BurnRateRule(targets=("auth",))}))
    world.pass_s(30)
    for minutes, errors in ((60, 0), (10, 200), (20, 0)):
        for _ in range(minutes):
            world.requests("auth", 1000, errors)
            world.pass_s(60, every_s=10)
    assert world.said() == ["trigger budget auth", "resolve budget auth"]
    trigger, resolve = world.told()
    assert 60 * 60 < trigger.fired_at_s - 1_800_000_000 < 66 * 60
    assert resolve.ended == "recovered"
