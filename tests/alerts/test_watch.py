"""What is remembered of a target: the last looks, whole and in order, in bounded room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from alerts.watch import Look, Looks, Watch
from checks.finding import Finding, State
from checks.observation import Observation
from checks.reason import Reason
from checks.verdict import Verdict
from tests.alerts.world import TARGETS

LOOKS = st.builds(
    Look,
    st.floats(0, 2e9),
    st.sampled_from(State),
    st.none() | st.floats(0, 1e4),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(LOOKS, max_size=60), st.integers(1, 20))
def test_the_last_looks_come_back_as_they_were(looks: list[Look], count: int) -> None:
    kept = Looks()
    for look in looks:
        kept.add(look)
    assert list(kept) == looks[-20:]
    assert kept.last(count) == looks[-count:]
    assert len(kept) == min(20, len(looks))


def test_the_last_failures_are_remembered_longer_than_looks() -> None:
    watch = Watch(TARGETS[0], 10.0)
    for second in range(200):
        state = State.DOWN if second < 100 else State.UP
        finding = Finding(state=state, reason=Reason.OK, message="m")
        look = Observation(target=TARGETS[0], at_s=float(second), duration_s=0.01, finding=finding)
        watch.take(look, Verdict(state=state))
    assert watch.failures == tuple(map(float, range(36, 100)))
    assert {look.state for look in watch.looks} == {State.UP}
