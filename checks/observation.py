"""One look at one target, with its time: the runner that owns clock, deadline and exception mapping."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Callable
from enum import StrEnum

from msgspec import Struct

from checks.check import Check
from checks.clock import Clock
from checks.finding import Evidence, Finding, State
from checks.held_up import unless_held_up
from checks.pulse import pulse
from checks.reason import Reason
from checks.target import Target
from checks.units import Duration
from checks.wire.flight import Flight

logger = logging.getLogger(__name__)


class Occasion(StrEnum):
    """Why the look was taken."""

    SCHEDULED = "scheduled"
    CONFIRMATION = "confirmation"
    SENTINEL = "sentinel"
    MANUAL = "manual"


class Observation(Struct, frozen=True, kw_only=True):
    """A Finding with when and how it came about.

    `at_s` is wall time (Unix seconds, UTC) of the look's start; `duration_s` is monotonic.
    """

    target: Target
    at_s: float
    duration_s: float
    finding: Finding
    occasion: Occasion = Occasion.SCHEDULED


async def observe(
    check: Check,
    target: Target,
    *,
    deadline_s: float,
    clock: Clock,
    occasion: Occasion = Occasion.SCHEDULED,
) -> Observation:
    """Probe once within `deadline_s` seconds. Never raises, save CancelledError when cancelled."""
    begun = _Begun(target, deadline_s, clock, occasion)
    try:
        async with asyncio.timeout(deadline_s):
            finding = await check.probe()
    except Exception as error:
        finding = _finding_of(error, target, deadline_s)
    return begun.ended(finding)


def observe_in_flight(
    check: Check,
    target: Target,
    told: Callable[[Observation], None],
    *,
    deadline_s: float,
    clock: Clock,
    occasion: Occasion = Occasion.SCHEDULED,
) -> Flight[Finding]:
    """`observe` without a task, for a check whose kind is `taskless`: `told` gets the observation.

    The flight is not started yet.
    """
    begun = _Begun(target, deadline_s, clock, occasion)

    def landed(finding: Finding | None, error: BaseException | None) -> None:
        told(begun.ended(_finding_of(error, target, deadline_s) if finding is None else finding))

    return Flight(check.probe(), landed, deadline_s=time.monotonic() + deadline_s)


class _Begun:
    """A look under way: when it began, and what of the time since the agent did not live through."""

    __slots__ = ("_at_s", "_clock", "_held_s", "_occasion", "_pulse", "_started_s", "_target")

    def __init__(self, target: Target, deadline_s: float, clock: Clock, occasion: Occasion) -> None:
        self._target = target
        self._clock = clock
        self._occasion = occasion
        self._at_s = clock.wall_s()
        self._started_s = clock.monotonic_s()
        self._pulse = pulse()
        self._pulse.beat_for(deadline_s)
        self._held_s = self._pulse.held_s()

    def ended(self, finding: Finding) -> Observation:
        duration_s = self._clock.monotonic_s() - self._started_s
        if finding.state is not State.UP:
            held_s = self._pulse.held_s() - self._held_s
            finding = unless_held_up(finding, self._target, held_s=held_s, duration_s=duration_s)
        return Observation(
            target=self._target,
            at_s=self._at_s,
            duration_s=duration_s,
            finding=finding,
            occasion=self._occasion,
        )


def _finding_of(error: BaseException | None, target: Target, deadline_s: float) -> Finding:
    """What a probe that raised has seen."""
    if isinstance(error, TimeoutError):
        return Finding(
            state=State.DOWN,
            reason=Reason.TIMEOUT,
            message=f"{target.address} did not answer within {Duration(deadline_s)}{_unfinished(error)}",
        )
    if isinstance(error, OSError):
        return from_os_error(error, target.address)
    logger.error("probe.defect", exc_info=error, extra={"target": str(target.key), "error": repr(error)})
    return Finding(
        state=State.UNKNOWN,
        reason=Reason.AGENT,
        message=f"the agent failed to look at {target.address}: {type(error).__name__}: report it",
        evidence=(Evidence(name="error", value=repr(error)[:500]),),
    )


def _unfinished(error: TimeoutError) -> str:
    """What the check noted on its cancellation: the phase that did not end."""
    notes: list[str] = getattr(error.__cause__, "__notes__", [])
    return f": {notes[0]}" if notes and notes[0] else ""


def from_os_error(error: OSError, address: str) -> Finding:
    """The finding for a socket error by its errno; `address` is named in the sentence."""
    match error:
        case ConnectionRefusedError():
            reason, words, hard = Reason.CONNECTION_REFUSED, "refuses connections: nobody listens there", True
        case ConnectionResetError() | BrokenPipeError() | ConnectionAbortedError():
            reason, words, hard = Reason.CONNECTION_RESET, "reset the connection", True
        case OSError(errno=errno.EHOSTUNREACH | errno.ENETUNREACH | errno.EADDRNOTAVAIL):
            reason, words, hard = Reason.UNREACHABLE, "cannot be reached: no route", False
        case OSError(errno=errno.ETIMEDOUT):
            reason, words, hard = Reason.TIMEOUT, "did not answer the connect", False
        case OSError(errno=errno.EMFILE | errno.ENFILE | errno.ENOBUFS | errno.ENOMEM):
            return Finding(
                state=State.UNKNOWN,
                reason=Reason.AGENT,
                message=f"the agent has no socket left for {address} ({error.strerror}): raise its limits",
            )
        case _:
            reason, words, hard = Reason.UNREACHABLE, f"cannot be reached ({error.strerror or error})", False
    return Finding(state=State.DOWN, reason=reason, message=f"{address} {words}", hard=hard)
