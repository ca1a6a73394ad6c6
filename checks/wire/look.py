"""One look by the simpler checks: the deadline, the journey, and what became of it as a Finding."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from checks.finding import Finding, Measure, Phase, State
from checks.reason import Reason
from checks.target import Target
from checks.units import Duration
from checks.wire.fault import DeadlinePassed, Fault, NoSocketLeft, fault_of, no_socket_left
from checks.wire.journey import Journey
from checks.wire.measures import way_measures


def timed_out(journey: Journey, timeout_s: float) -> Fault:
    """The fault of a look cut off at its deadline, naming the unfinished phase."""
    unfinished = f": {journey.unfinished}" if journey.unfinished else ""
    return Fault(Reason.TIMEOUT, f"did not answer within {Duration(timeout_s)}{unfinished}")


async def look(target: Target, timeout_s: float, act: Callable[[Journey], Awaitable[Finding]]) -> Finding:
    """Let `act` look within `timeout_s`; whatever ends it early becomes its Finding."""
    journey = Journey.within(timeout_s)
    try:
        try:
            return await act(journey)
        except asyncio.CancelledError as error:
            # The caller's deadline: `observe` tells this with its own.
            error.add_note(journey.unfinished)
            raise
        except DeadlinePassed:
            raise timed_out(journey, timeout_s) from None
        except OSError as error:
            raise fault_of(error, journey.phase or Phase.TRANSFER) from error
    except Fault as fault:
        return broken(target, journey, fault, way_measures(journey.ip, None, ()))
    except NoSocketLeft as error:
        return no_socket_left(target, error)


def broken(target: Target, journey: Journey, fault: Fault, measures: tuple[Measure, ...] = ()) -> Finding:
    """The finding of a look that ended in `fault`."""
    return Finding(
        # What keeps us from asking says nothing about the target.
        state=State.UNKNOWN if fault.reason is Reason.CONFIG else State.DOWN,
        reason=fault.reason,
        message=f"{target.address} {fault.message}",
        hard=fault.hard,
        phases=journey.phases(),
        measures=measures,
        evidence=journey.facts(),
    )


def spell(duration_s: float) -> str:
    """A measured time, short: `0.4 ms`, `12 ms`, `2.31 s`."""
    if duration_s < 0.01:
        return f"{duration_s * 1000:.2g} ms"
    if duration_s < 1:
        return f"{duration_s * 1000:.0f} ms"
    return f"{duration_s:.3g} s"
