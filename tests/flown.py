"""Looks without a task, awaited: what the prober does with taskless kinds, for tests and benchmarks."""

from __future__ import annotations

import asyncio

from checks.check import Check
from checks.clock import Clock
from checks.observation import Observation, observe, observe_in_flight
from checks.target import Target


async def flown(check: Check, target: Target, *, deadline_s: float, clock: Clock) -> Observation:
    """`observe`, in flight; cancelling it cancels the look."""
    told: asyncio.Future[Observation] = asyncio.get_running_loop().create_future()
    flight = observe_in_flight(check, target, told.set_result, deadline_s=deadline_s, clock=clock)
    flight.start()
    try:
        return await told
    except asyncio.CancelledError:
        flight.cancel()
        raise


# Every way an HTTP look is taken: `/probe` and the CLI in a task, the prober in flight.
WAYS = {"task": observe, "flight": flown}
