"""Limits, profiles and the worst problem first."""

from __future__ import annotations

import pytest
from msgspec import UNSET

from checks.finding import State
from checks.host.thresholds import Thresholds as HostThresholds
from checks.limits import Profile, chosen, profile_of, seconds, shares
from checks.nats import thresholds as nats
from checks.postgres import thresholds as postgres
from checks.problem import Problem, finding_of, over
from checks.reason import Reason


@pytest.mark.parametrize(
    ("environment", "profile", "expected"),
    [
        ("production", "auto", "production"),
        ("staging", "auto", "staging"),
        ("dev", "auto", "development"),
        ("anything else", "auto", "production"),
        ("production", "staging", "staging"),
    ],
)
def test_an_environment_goes_by_its_profile(environment: str, profile: Profile, expected: str) -> None:
    assert profile_of(environment, profile) == expected


@pytest.mark.parametrize("environment", ["development", "staging", "production"])
def test_every_limit_of_every_profile_is_decided(environment: str) -> None:
    from checks.host import thresholds as host

    for found in (
        postgres.effective(environment, "auto", postgres.Thresholds()),
        nats.effective(environment, "auto", nats.Thresholds()),
        host.effective(environment, "auto", HostThresholds()),
    ):
        assert [name for name in found.__struct_fields__ if getattr(found, name) is UNSET] == []


def test_a_written_limit_wins_and_null_switches_it_off() -> None:
    written = postgres.Thresholds(connections=shares(0.5, None), lock_wait=None)
    found = postgres.effective("production", "auto", written)
    assert (found.connections, found.lock_wait) == (shares(0.5, None), None)
    assert found.wraparound == shares(0.40, 0.60)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ()),
        (0.9, ()),
        (1.0, ((State.DEGRADED, False, "at 1"),)),
        (1.9, ((State.DEGRADED, False, "at 1"),)),
        (2.0, ((State.DOWN, True, "at 2"),)),
    ],
)
def test_a_value_is_told_by_the_limit_it_reached(
    value: float | None, expected: tuple[tuple[State, bool, str], ...]
) -> None:
    limit = chosen(seconds(1, 2))
    found = over(limit, value, Reason.SLOW, lambda at: f"at {at:g}", critical_state=State.DOWN)
    assert tuple((one.state, one.urgent, one.message) for one in found) == expected


def test_without_a_limit_nothing_is_told() -> None:
    assert over(None, 9.0, Reason.SLOW, str) == ()


def test_the_worst_problem_speaks_and_the_others_are_its_evidence() -> None:
    problems = (
        Problem(state=State.UP, reason=Reason.PG_RESTARTED, message="restarted"),
        Problem(state=State.DEGRADED, reason=Reason.PG_SLOW, message="slow"),
        Problem(state=State.DEGRADED, reason=Reason.PG_SLOT, message="slot", urgent=True),
        Problem(state=State.DOWN, reason=Reason.PG_READ_ONLY, message="read-only", hard=True),
    )
    found = finding_of(problems, fine="fine")
    assert (found.state, found.reason, found.message, found.hard) == (
        State.DOWN,
        Reason.PG_READ_ONLY,
        "read-only",
        True,
    )
    assert [one.name for one in found.evidence] == ["pg.slot", "pg.slow", "pg.restarted"]


def test_no_problem_is_up_and_fine() -> None:
    found = finding_of((), fine="all well")
    assert (found.state, found.reason, found.message) == (State.UP, Reason.OK, "all well")
