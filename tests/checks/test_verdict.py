from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.finding import Finding, State
from checks.observation import Observation, Occasion
from checks.reason import Reason
from checks.target import Kind, Target, TargetKey
from checks.units import Duration
from checks.verdict import ConfirmPolicy, Verdict, step

POLICY = ConfirmPolicy()
TARGET = Target(
    key=TargetKey(env="production", service="auth", check="http", vantage="public"),
    kind=Kind.SERVICE,
    address="127.0.0.1:80",
)
UP = Finding(state=State.UP, reason=Reason.OK, message="answered")
REFUSED = Finding(state=State.DOWN, reason=Reason.CONNECTION_REFUSED, message="refused", hard=True)
TIMEOUT = Finding(state=State.DOWN, reason=Reason.TIMEOUT, message="silent")
SLOW = Finding(state=State.DEGRADED, reason=Reason.SLOW, message="slow")
STATUS = Finding(state=State.DOWN, reason=Reason.STATUS, message="503")
ASLEEP = Finding(state=State.ASLEEP, reason=Reason.ASLEEP, message="asleep")


def looks(
    *findings: Finding,
    start: Verdict | None = None,
    occasion: Occasion = Occasion.SCHEDULED,
    policy: ConfirmPolicy = POLICY,
) -> list[tuple[State, float | None]]:
    """The confirmed state and the wanted confirmation after each finding, one second apart."""
    verdict = start or Verdict()
    steps: list[tuple[State, float | None]] = []
    for second, finding in enumerate(findings):
        observation = Observation(
            target=TARGET, at_s=float(second), duration_s=0.0, finding=finding, occasion=occasion
        )
        verdict, confirm_after_s = step(verdict, observation, policy)
        steps.append((verdict.state, confirm_after_s))
    return steps


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        pytest.param([UP], [(State.UP, None)], id="the first good look says up"),
        pytest.param(
            [UP, REFUSED, REFUSED],
            [(State.UP, None), (State.UP, 0.05), (State.DOWN, None)],
            id="hard evidence is decided by the second look",
        ),
        pytest.param(
            [UP, TIMEOUT, TIMEOUT, TIMEOUT],
            [(State.UP, None), (State.UP, 0.25), (State.UP, 0.75), (State.DOWN, None)],
            id="soft evidence needs three",
        ),
        pytest.param(
            [UP, TIMEOUT, UP, TIMEOUT],
            [(State.UP, None), (State.UP, 0.25), (State.UP, None), (State.UP, 0.25)],
            id="a good look between clears the doubt",
        ),
        pytest.param(
            [UP, SLOW, TIMEOUT, SLOW],
            [(State.UP, None), (State.UP, 0.25), (State.UP, 0.75), (State.DEGRADED, None)],
            id="different bad looks count together, the last names the state",
        ),
        pytest.param(
            [REFUSED, REFUSED, UP, UP],
            [(State.UNKNOWN, 0.05), (State.DOWN, None), (State.DOWN, 0.25), (State.UP, None)],
            id="a recovery needs two",
        ),
        pytest.param(
            [REFUSED, REFUSED, SLOW, UP, UP],
            [
                (State.UNKNOWN, 0.05),
                (State.DOWN, None),
                (State.DOWN, 0.25),
                (State.DOWN, 0.25),
                (State.UP, None),
            ],
            id="a bad look of another kind is no first good one",
        ),
        pytest.param(
            [UP, TIMEOUT, TIMEOUT, UP, TIMEOUT],
            [(State.UP, None), (State.UP, 0.25), (State.UP, 0.75), (State.UP, None), (State.UP, 0.25)],
            id="after a good look failures are counted from the first again",
        ),
        pytest.param(
            [SLOW, SLOW, SLOW, UP, REFUSED, REFUSED],
            [
                (State.UNKNOWN, 0.25),
                (State.UNKNOWN, 0.75),
                (State.DEGRADED, None),
                (State.DEGRADED, 0.25),
                (State.DEGRADED, 0.05),
                (State.DOWN, None),
            ],
            id="a good look is no witness of a crash",
        ),
        pytest.param([UP, ASLEEP], [(State.UP, None), (State.ASLEEP, None)], id="sleep is read, not guessed"),
    ],
)
def test_a_verdict_follows_its_looks(
    findings: list[Finding], expected: list[tuple[State, float | None]]
) -> None:
    assert looks(*findings) == expected


@pytest.mark.parametrize(
    ("finding", "expected"),
    [
        pytest.param(REFUSED, State.DOWN, id="lost connection, then refused: decided"),
        pytest.param(TIMEOUT, State.DOWN, id="held connection silent, new one silent: decided"),
        pytest.param(STATUS, State.UP, id="lost connection, then 503: still soft"),
        pytest.param(UP, State.UP, id="lost connection, then fine: nothing happened"),
    ],
)
def test_a_sentinel_is_the_first_witness(finding: Finding, expected: State) -> None:
    healthy = Verdict(state=State.UP, reason=Reason.OK, message="answered")
    assert looks(finding, start=healthy, occasion=Occasion.SENTINEL)[0][0] is expected


def test_since_is_when_the_first_bad_look_was_taken() -> None:
    verdict = Verdict(state=State.UP, reason=Reason.OK)
    for at_s in (10.0, 10.3, 11.0):
        observation = Observation(target=TARGET, at_s=at_s, duration_s=0.0, finding=TIMEOUT)
        verdict, _ = step(verdict, observation, POLICY)
    assert (verdict.state, verdict.since_s, verdict.in_doubt) == (State.DOWN, 10.0, False)


PATIENT = ConfirmPolicy(
    soft_failures=4,
    soft_after=(Duration(1), Duration(3)),
    hard_failures=1,
    recoveries=3,
    recovery_after=(),
)


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        pytest.param(
            [UP, TIMEOUT, TIMEOUT, TIMEOUT, TIMEOUT],
            [(State.UP, None), (State.UP, 1.0), (State.UP, 2.0), (State.UP, None), (State.DOWN, None)],
            id="what the times do not reach, the regular looks decide",
        ),
        pytest.param([UP, REFUSED], [(State.UP, None), (State.DOWN, None)], id="one refusal may do"),
        pytest.param(
            [REFUSED, UP, UP, UP],
            [(State.DOWN, None), (State.DOWN, None), (State.DOWN, None), (State.UP, None)],
            id="a recovery may wait for the regular looks",
        ),
    ],
)
def test_another_policy_decides_otherwise(
    findings: list[Finding], expected: list[tuple[State, float | None]]
) -> None:
    assert looks(*findings, policy=PATIENT) == expected


@pytest.mark.parametrize(
    "times",
    [(0.0,), (0.001,), (0.25, 0.25), (1.0, 0.5), tuple(float(second) for second in range(1, 22))],
    ids=["at once", "too soon", "twice", "backwards", "too many"],
)
def test_times_that_make_no_sense_are_refused(times: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="soft_after"):
        ConfirmPolicy(soft_after=tuple(Duration(time) for time in times))


@given(st.lists(st.sampled_from([UP, REFUSED, TIMEOUT, SLOW, STATUS, ASLEEP]), max_size=40))
def test_a_confirmed_state_was_really_seen_and_never_down_on_one_look(findings: list[Finding]) -> None:
    verdict = Verdict()
    for second, finding in enumerate(findings):
        before = verdict
        observation = Observation(target=TARGET, at_s=float(second), duration_s=0.0, finding=finding)
        verdict, confirm_after_s = step(verdict, observation, POLICY)
        if verdict.state is not before.state:
            assert verdict.state is finding.state
            assert not (verdict.state is State.DOWN and before.doubt == 0)
        assert (confirm_after_s is None) == (not verdict.in_doubt)
