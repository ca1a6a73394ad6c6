from __future__ import annotations

import asyncio
import errno

import pytest

from checks.check import Check
from checks.finding import Finding, State
from checks.observation import Observation, observe
from checks.reason import Reason
from checks.target import Kind, Target, TargetKey
from tests.virtual_time import VirtualClock, run_virtual

TARGET = Target(
    key=TargetKey(env="production", service="auth", check="http", vantage="public"),
    kind=Kind.SERVICE,
    address="auth:8080",
)


class Raising:
    """A check whose look ends with an exception after 0.5 s."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    async def probe(self) -> Finding:
        await asyncio.sleep(0.5)
        raise self._error

    async def close(self) -> None:
        return


class Hanging:
    """A check that never ends by itself."""

    def __init__(self) -> None:
        self.cancelled = False

    async def probe(self) -> Finding:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        raise AssertionError

    async def close(self) -> None:
        return


def look(check: Check) -> Observation:
    return run_virtual(lambda clock: observe(check, TARGET, deadline_s=5.0, clock=clock))


@pytest.mark.parametrize(
    ("error", "state", "reason", "hard"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), State.DOWN, Reason.CONNECTION_REFUSED, True),
        (ConnectionResetError(errno.ECONNRESET, "x"), State.DOWN, Reason.CONNECTION_RESET, True),
        (OSError(errno.ENETUNREACH, "x"), State.DOWN, Reason.UNREACHABLE, False),
        (OSError(errno.EMFILE, "x"), State.UNKNOWN, Reason.AGENT, False),
        (ValueError("a defect"), State.UNKNOWN, Reason.AGENT, False),
    ],
)
def test_an_exception_becomes_a_finding(
    error: Exception, state: State, reason: Reason, *, hard: bool
) -> None:
    seen = look(Raising(error))
    assert (seen.finding.state, seen.finding.reason, seen.finding.hard) == (state, reason, hard)
    assert seen.duration_s == 0.5
    assert "auth:8080" in seen.finding.message


def test_the_deadline_ends_a_look_and_its_work() -> None:
    check = Hanging()
    seen = look(check)
    assert (seen.finding.reason, seen.duration_s, check.cancelled) == (Reason.TIMEOUT, 5.0, True)
    assert seen.finding.message == "auth:8080 did not answer within 5s"


def test_cancelling_passes_through() -> None:
    async def scenario(clock: VirtualClock) -> bool:
        task = asyncio.create_task(observe(Hanging(), TARGET, deadline_s=5.0, clock=clock))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert run_virtual(scenario)
