"""The circuit breaker: a state machine checked as one, then its rules one by one."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.instrumentation.breaker import (
    Breaker,
    BreakerOpenError,
    BreakerPolicy,
    BreakerState,
    Permit,
)

POLICY = BreakerPolicy()


def opened(breaker: Breaker, now: float = 0.0) -> None:
    for _ in range(breaker.policy.min_calls):
        breaker.fail(breaker.acquire(now), now, 0.01)
    assert breaker.state is BreakerState.OPEN


def test_opens_at_half_failures_of_at_least_ten_calls() -> None:
    breaker = Breaker()
    for number in range(9):
        settle = breaker.fail if number % 2 else breaker.succeed
        settle(breaker.acquire(0), 0, 0.01)
    assert not breaker.retry_after_s(0)
    breaker.fail(breaker.acquire(0), 0, 0.01)
    assert breaker.state is BreakerState.OPEN


def test_ten_failures_in_a_row_open_it_however_much_went_well_just_before() -> None:
    breaker = Breaker()
    for number in range(2000):
        breaker.succeed(breaker.acquire(number / 100), number / 100, 0.01)
    for _ in range(9):
        breaker.fail(breaker.acquire(20.0), 20.0, 0.01)
    assert breaker.state is BreakerState.CLOSED
    breaker.succeed(breaker.acquire(20.0), 20.0, 0.01)
    states = []
    for _ in range(10):
        breaker.fail(breaker.acquire(20.0), 20.0, 0.01)
        states.append(breaker.state)
    assert states == [*[BreakerState.CLOSED] * 9, BreakerState.OPEN]


def test_alternating_failures_open_it_which_consecutive_counts_never_see() -> None:
    breaker = Breaker()
    for number in range(10):
        settle = breaker.fail if number % 2 else breaker.succeed
        settle(breaker.acquire(number), number, 0.01)
    assert breaker.state is BreakerState.OPEN


def test_opens_when_most_calls_are_slow() -> None:
    breaker = Breaker()
    for number in range(10):
        breaker.succeed(breaker.acquire(0), 0, 2.5 if number < 7 else 0.1)
    for _ in range(4):
        breaker.succeed(breaker.acquire(0), 0, 2.5)
    assert not breaker.retry_after_s(0)
    breaker.succeed(breaker.acquire(0), 0, 2.5)
    assert breaker.state is BreakerState.OPEN


def test_failures_older_than_the_window_are_forgotten() -> None:
    breaker = Breaker()
    for _ in range(9):
        breaker.fail(breaker.acquire(0), 0, 0.01)
    for _ in range(9):
        breaker.fail(breaker.acquire(31), 31, 0.01)
    assert breaker.state is BreakerState.CLOSED


def test_exactly_three_of_two_hundred_callers_probe_and_success_closes_it() -> None:
    breaker = Breaker()
    opened(breaker)
    permits, refused = [], 0
    for _ in range(200):
        try:
            permits.append(breaker.acquire(10))
        except BreakerOpenError:
            refused += 1
    assert (len(permits), refused) == (3, 197)
    for permit in permits:
        breaker.succeed(permit, 10.1, 0.01)
    assert breaker.state is BreakerState.CLOSED


def test_waits_twice_as_long_after_each_failed_probe_up_to_two_minutes() -> None:
    breaker, now, waits = Breaker(), 0.0, []
    opened(breaker)
    for _ in range(6):
        waits.append(breaker.retry_after_s(now))
        now += waits[-1]
        permits = [breaker.acquire(now) for _ in range(3)]
        for permit in permits:
            breaker.fail(permit, now, 0.01)
    assert waits == [10, 20, 40, 80, 120, 120]


@pytest.mark.parametrize(("jitter", "wait"), [(-1.0, 8.0), (1.0, 12.0)])
def test_jitter_spreads_the_wait_by_a_fifth(jitter: float, wait: float) -> None:
    breaker = Breaker(jitter=lambda: jitter)
    opened(breaker)
    assert breaker.retry_after_s(0) == pytest.approx(wait)


def test_a_cancelled_probe_gives_its_permit_back() -> None:
    breaker = Breaker()
    opened(breaker)
    for _ in range(1000):
        breaker.release(breaker.acquire(10))
    assert [breaker.acquire(10) for _ in range(3)]
    assert breaker.in_flight == 3


def test_a_thousand_cancelled_calls_say_nothing() -> None:
    breaker = Breaker()
    for _ in range(1000):
        breaker.release(breaker.acquire(0))
    assert breaker.state is BreakerState.CLOSED


def test_a_call_from_before_the_opening_does_not_count_after_it() -> None:
    breaker = Breaker()
    late = [breaker.acquire(0) for _ in range(5)]
    opened(breaker)
    probes = [breaker.acquire(10) for _ in range(3)]
    for permit in late:
        breaker.succeed(permit, 10, 10.0)
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.in_flight == len(probes)


def test_lost_probes_do_not_keep_it_half_open_for_ever() -> None:
    breaker = Breaker()
    opened(breaker)
    lost = [breaker.acquire(10) for _ in range(3)]
    with pytest.raises(BreakerOpenError):
        breaker.acquire(70)
    found = [breaker.acquire(71) for _ in range(3)]
    for permit in (*lost, *found):
        breaker.succeed(permit, 71, 0.01)
    assert breaker.state is BreakerState.CLOSED


def test_each_rejection_is_a_new_exception() -> None:
    breaker = Breaker()
    opened(breaker)
    errors: list[BreakerOpenError] = []
    for _ in range(3):
        with pytest.raises(BreakerOpenError) as caught:
            breaker.acquire(1)
        errors.append(caught.value)
        assert caught.value.retry_after_s == pytest.approx(9.0)
    assert len({id(error) for error in errors}) == 3


class Machine(RuleBasedStateMachine):
    """Any interleaving of callers that succeed, fail, go away or never come back."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.rejections: list[tuple[BreakerState, float]] = []
        self.out: list[tuple[Permit, float]] = []
        self.changes: list[tuple[BreakerState, BreakerState]] = []
        self.breaker = Breaker(
            BreakerPolicy(min_calls=4, permits=3),
            on_transition=lambda before, after: self.changes.append((before, after)),
        )

    @rule(seconds=st.floats(0, 70))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def call(self) -> None:
        try:
            self.out.append((self.breaker.acquire(self.now), self.now))
        except BreakerOpenError as error:
            self.rejections.append((self.breaker.state, error.retry_after_s))

    @precondition(lambda self: self.out)
    @rule(data=st.data(), how=st.sampled_from(("succeed", "fail", "release", "lose")))
    def end(self, data: st.DataObject, how: str) -> None:
        permit, start = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        if how == "release":
            self.breaker.release(permit)
        elif how != "lose":
            settle = self.breaker.succeed if how == "succeed" else self.breaker.fail
            settle(permit, self.now, self.now - start)

    @invariant()
    def closed_rejects_nobody_and_each_rejection_says_until_when(self) -> None:
        for state, retry_after_s in self.rejections:
            assert state is not BreakerState.CLOSED
            assert retry_after_s > 0
        self.rejections.clear()

    @invariant()
    def never_more_probes_than_permits(self) -> None:
        assert self.breaker.in_flight <= 3

    @invariant()
    def only_the_drawn_transitions(self) -> None:
        names = {(before.value, after.value) for before, after in self.changes}
        assert names <= {
            ("closed", "open"),
            ("open", "half_open"),
            ("half_open", "open"),
            ("half_open", "closed"),
        }

    def teardown(self) -> None:
        # Whatever happened: once the dependency is well, some callers close it again.
        for _ in range(20):
            self.now += 150
            for _ in range(3):
                try:
                    self.breaker.succeed(self.breaker.acquire(self.now), self.now, 0.01)
                except BreakerOpenError:
                    break
        assert self.breaker.state is BreakerState.CLOSED


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
