"""What a look says after the agent itself was held up: on a real loop that is really blocked, and purely."""

from __future__ import annotations

import asyncio
import time

import pytest

from checks.clock import SystemClock
from checks.finding import Finding, State
from checks.held_up import unless_held_up
from checks.observation import Observation, observe, observe_in_flight
from checks.pulse import pulse
from checks.reason import Reason
from checks.target import Kind, Target, TargetKey
from checks.units import Duration
from checks.wire.flight import in_task

TARGET = Target(
    key=TargetKey(env="production", service="postgres", check="postgres", vantage="internal"),
    kind=Kind.DATABASE,
    address="db:5432",
)
FROZEN = Finding(state=State.DOWN, reason=Reason.PG_FROZEN, message="db:5432 is frozen")


class Answered:
    """A target whose answer is there after 20 ms; the check itself gives it `within_s`."""

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s

    async def probe(self) -> Finding:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[None] = loop.create_future()
        loop.call_later(0.02, answer.set_result, None)
        try:
            async with asyncio.timeout(self._within_s):
                await answer
        except TimeoutError:
            return FROZEN
        return Finding(state=State.UP, reason=Reason.OK, message="answered")

    async def close(self) -> None:
        return


class Silent:
    async def probe(self) -> Finding:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def close(self) -> None:
        return


def block(for_s: float) -> None:
    """What SIGSTOP and a taken core do to a loop."""
    time.sleep(for_s)


@pytest.mark.parametrize(("within_s", "deadline_s"), [(0.2, 5.0), (5.0, 0.2)], ids=["inner", "outer"])
def test_an_answer_that_came_while_the_agent_was_held_up_is_no_timeout(
    within_s: float, deadline_s: float
) -> None:
    async def scenario() -> Observation:
        look = asyncio.create_task(
            observe(Answered(within_s), TARGET, deadline_s=deadline_s, clock=SystemClock())
        )
        asyncio.get_running_loop().call_later(0.01, block, 0.6)
        return await look

    finding = asyncio.run(scenario()).finding
    if finding.state is not State.UP:
        assert (finding.state, finding.reason) == (State.UNKNOWN, Reason.AGENT)
        assert "the agent itself was held up for" in finding.message


def test_silence_of_a_target_is_a_timeout_when_the_agent_lived_through_it() -> None:
    finding = asyncio.run(observe(Silent(), TARGET, deadline_s=0.3, clock=SystemClock())).finding
    assert (finding.state, finding.reason) == (State.DOWN, Reason.TIMEOUT)


def test_silence_through_a_hold_up_is_unknown_with_and_without_a_task() -> None:
    async def scenario() -> list[Finding]:
        loop = asyncio.get_running_loop()
        landed: asyncio.Future[Observation] = loop.create_future()

        class Taskless(Silent):
            async def probe(self) -> Finding:
                await in_task()
                return await super().probe()

        flight = observe_in_flight(Taskless(), TARGET, landed.set_result, deadline_s=0.4, clock=SystemClock())
        look = asyncio.create_task(observe(Silent(), TARGET, deadline_s=0.4, clock=SystemClock()))
        flight.start()
        loop.call_later(0.01, block, 0.7)
        return [(await look).finding, (await landed).finding]

    for finding in asyncio.run(scenario()):
        assert (finding.state, finding.reason) == (State.UNKNOWN, Reason.AGENT)
        assert [fact.value for fact in finding.evidence] == ["db:5432 did not answer within 400ms"]


@pytest.mark.parametrize(
    ("finding", "held_s", "duration_s", "kept"),
    [
        (FROZEN, 10.0, 10.1, False),
        (FROZEN, 2.5, 5.0, False),
        (FROZEN, 2.4, 5.0, True),
        (FROZEN, 0.09, 0.1, True),
        (Finding(state=State.DOWN, reason=Reason.CONNECTION_RESET, message="x", hard=True), 3.0, 3.1, False),
        (Finding(state=State.DEGRADED, reason=Reason.SLOW, message="x"), 3.0, 3.1, False),
        (Finding(state=State.DOWN, reason=Reason.CONNECTION_REFUSED, message="x", hard=True), 3.0, 3.1, True),
        (Finding(state=State.UP, reason=Reason.OK, message="x"), 3.0, 3.1, True),
        (Finding(state=State.ASLEEP, reason=Reason.ASLEEP, message="x"), 3.0, 3.1, True),
    ],
    ids=["stopped", "half", "less than half", "a turn", "hung up on", "slow", "refused", "up", "asleep"],
)
def test_only_blame_that_lateness_can_explain_is_taken_back(
    finding: Finding, held_s: float, duration_s: float, *, kept: bool
) -> None:
    said = unless_held_up(finding, TARGET, held_s=held_s, duration_s=duration_s)
    assert (said is finding) is kept
    if not kept:
        assert (said.state, said.reason) == (State.UNKNOWN, Reason.AGENT)
        assert f"held up for {Duration(held_s)}" in said.message


def test_the_pulse_adds_up_what_was_lost_and_never_more() -> None:
    async def scenario() -> tuple[float, float]:
        beating = pulse()
        beating.beat_for(5.0)
        before_s = beating.held_s()
        started_s = time.monotonic()
        block(0.5)
        at_once_s = beating.held_s() - before_s
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert beating.held_s() - before_s <= time.monotonic() - started_s
        return at_once_s, beating.held_s() - before_s

    at_once_s, after_s = asyncio.run(scenario())
    assert after_s >= at_once_s >= 0.4 - 1e-6
