"""What several instances of one service are together, and how that is said."""

from __future__ import annotations

import pytest

from checks.finding import State
from checks.instances import groups, together
from checks.reason import Reason
from checks.target import Kind, Target, TargetKey
from checks.verdict import Verdict

UP, DEGRADED, DOWN, ASLEEP, STARTING, UNKNOWN = (
    State.UP, State.DEGRADED, State.DOWN, State.ASLEEP, State.STARTING, State.UNKNOWN,
)  # fmt: skip


def one(vantage: str, *, service: str = "chat") -> Target:
    key = TargetKey(env="production", service=service, check="http", vantage=vantage)
    return Target(key=key, kind=Kind.SERVICE, address=f"http://10.0.0.1:{vantage[-1]}")


def joined(*states: State, reason: Reason = Reason.STALE) -> Verdict:
    """Each instance fell, or was seen, a second after the one before."""
    return together(
        [
            (
                one(f"instance_{number}"),
                Verdict(state=state, reason=reason, message=f"it is {state}", since_s=float(number)),
            )
            for number, state in enumerate(states, start=1)
        ]
    )


@pytest.mark.parametrize(
    ("states", "state", "message", "since_s"),
    [
        ((UP, UP, UP), UP, "3 of 3 instances answer", 3),
        (
            (UP, DOWN, UP),
            DEGRADED,
            "1 of 3 instances does not answer: http://10.0.0.1:2: it is down",
            2,
        ),
        (
            (DOWN, DOWN, UP),
            DEGRADED,
            "2 of 3 instances do not answer: http://10.0.0.1:1: it is down; http://10.0.0.1:2: it is down",
            1,
        ),
        ((DOWN, DEGRADED), DEGRADED, "1 of 2 instances does not answer, 1 is degraded: http://10.0.0.1:1", 1),
        (
            (DOWN, DOWN, DOWN, DOWN),
            DOWN,
            "4 of 4 instances do not answer: http://10.0.0.1:1: it is down; http://10.0.0.1:2: it is down; h",
            4,
        ),
        ((UP, DEGRADED), DEGRADED, "1 of 2 instances is degraded: http://10.0.0.1:2: it is degraded", 2),
        ((DOWN, UNKNOWN, UNKNOWN), DOWN, "1 of 3 instances does not answer, 2 are not seen: http://10", 1),
        ((DOWN, ASLEEP), DOWN, "1 of 2 instances does not answer, 1 is asleep: http://10.0.0.1:1", 1),
        ((DOWN, STARTING), STARTING, "1 of 2 instances does not answer, 1 of 2 instances is starting", 2),
        ((UP, UNKNOWN), UNKNOWN, "1 of 2 instances is not seen: http://10.0.0.1:2", 2),
        ((UP, ASLEEP, STARTING), UP, "1 of 3 instances answers, 1 is starting, 1 is asleep", 1),
        ((ASLEEP, ASLEEP), ASLEEP, "2 of 2 instances are asleep", 1),
    ],
)
def test_how_many_of_how_many(states: tuple[State, ...], state: State, message: str, since_s: float) -> None:
    verdict = joined(*states)
    assert verdict.state is state
    assert verdict.message.startswith(message)
    assert verdict.since_s == since_s


def test_three_are_named_and_the_others_counted() -> None:
    assert joined(DOWN, DOWN, DOWN, DOWN).message.endswith("http://10.0.0.1:3: it is down; and 1 more")


def test_nothing_is_down_before_all_were_looked_at() -> None:
    down = Verdict(state=DOWN, reason=Reason.CONNECTION_REFUSED, message="nobody listens", since_s=1)
    early = together([(one("instance_1"), down), (one("instance_2"), Verdict())])
    assert early.state is UNKNOWN
    assert "1 of 2 instances does not answer, 1 of 2 instances is not seen" in early.message
    assert together([(one("instance_1"), down), (one("instance_2"), down)]).state is DOWN


def test_an_address_that_the_reason_names_is_not_said_twice() -> None:
    down = Verdict(state=DOWN, message="nobody listens at 10.0.0.1:2")
    up = Verdict(state=UP, message="ok")
    said = together([(one("instance_1"), up), (one("instance_2"), down)]).message
    assert said == "1 of 2 instances does not answer: nobody listens at 10.0.0.1:2"


def test_ways_to_one_thing_are_no_instances_of_it() -> None:
    public, internal, alone = one("public"), one("internal"), one("instance_1", service="auth")
    first, second = one("instance_1"), one("instance_2")
    assert groups([public, internal, first, alone, second]) == {first.key: (first, second)}
