"""Happy eyeballs (RFC 8305): addresses of one name tried a moment apart, and the first to connect wins."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from typing import Final

from checks.finding import Phase
from checks.reason import Reason
from checks.units import Duration
from checks.wire.fault import DeadlinePassed, Fault, NoSocketLeft, fault_of
from checks.wire.journey import Journey
from checks.wire.stream import Wire

# RFC 8305 section 5: the recommended delay, and the least that may be used.
_STAGGER_S: Final = 0.25
_LEAST_STAGGER_S: Final = 0.01
_MOST_ADDRESSES: Final = 8

_Failure = OSError | DeadlinePassed


async def race(addresses: tuple[str, ...], port: int, journey: Journey) -> Wire:
    """A connection to the first of `addresses` that accepts; the others are closed. Raises Fault.

    The next address is tried when the ones before it were silent for 250 ms, or at once when one fails. The
    time lost on the way to the winner counts as connecting: a caller loses it too.
    """
    journey.begin(Phase.CONNECT)
    journey.ip = addresses[0]
    began_s = time.monotonic()
    running = _Race(alternating(addresses)[:_MOST_ADDRESSES], port, journey.deadline_s)
    try:
        winner = await running.over
    finally:
        running.stop()
    running.tell(journey)
    if winner is None:
        raise _defeat(running.failures)
    wire = winner.result()
    journey.ip = wire.peer[0]
    journey.end(running.started_s[winner] - began_s + wire.connect_s)
    return wire


def alternating(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """`addresses` with IPv6 and IPv4 by turns, the first one's family first (RFC 8305 section 4).

    When one family has no way out, no more than one address of it is waited for.
    """
    first_is_six = ":" in addresses[0]
    first = [address for address in addresses if (":" in address) is first_is_six]
    second = [address for address in addresses if (":" in address) is not first_is_six]
    turns = [address for pair in zip(first, second, strict=False) for address in pair]
    both = min(len(first), len(second))
    return (*turns, *first[both:], *second[both:])


class _Race:
    """Attempts under way. `over` holds the winner, None when all have failed; who is late is closed."""

    def __init__(self, addresses: tuple[str, ...], port: int, deadline_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting = list(addresses)
        self._port = port
        self._deadline_s = deadline_s
        self._stagger_s = _stagger_s(deadline_s - time.monotonic(), len(addresses))
        self._timer: asyncio.TimerHandle | None = None
        self._attempts: dict[asyncio.Task[Wire], str] = {}
        self.over: asyncio.Future[asyncio.Task[Wire] | None] = self._loop.create_future()
        self.failures: dict[str, _Failure] = {}
        self.started_s: dict[asyncio.Task[Wire], float] = {}
        self._start()

    def stop(self) -> None:
        """Give up whatever is still under way."""
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()
        for task in self._attempts:
            task.cancel()

    def tell(self, journey: Journey) -> None:
        """Keep as evidence what became of every address but the winner's."""
        now_s = time.monotonic()
        for address, failure in self.failures.items():
            journey.note(f"address {address}", _words(failure))
        for task, address in self._attempts.items():
            if not task.done():
                silent = Duration(round(now_s - self.started_s[task], 3))
                journey.note(f"address {address}", f"had not answered after {silent}")

    def _start(self) -> None:
        address = self._waiting.pop(0)
        task = self._loop.create_task(Wire.connect(address, self._port, deadline_s=self._deadline_s))
        self._attempts[task] = address
        self.started_s[task] = time.monotonic()
        task.add_done_callback(self._ended)
        if self._waiting:
            self._timer = self._loop.call_later(self._stagger_s, self._start)

    def _ended(self, task: asyncio.Task[Wire]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if self.over.done():
            if error is None:
                task.result().close()
        elif error is None:
            self.over.set_result(task)
        elif not isinstance(error, _Failure):
            self.over.set_exception(error)
        else:
            self.failures[self._attempts[task]] = error
            if self._waiting:
                if self._timer is not None:
                    self._timer.cancel()
                self._start()
            elif len(self.failures) == len(self._attempts):
                self.over.set_result(None)


def _stagger_s(left_s: float, addresses: int) -> float:
    """The delay between two attempts, shorter where the last address would not be tried in time."""
    share_s = left_s / addresses if left_s != math.inf else _STAGGER_S
    return max(_LEAST_STAGGER_S, min(_STAGGER_S, share_s))


def _words(failure: _Failure) -> str:
    if isinstance(failure, DeadlinePassed):
        return "did not answer while connecting"
    try:
        return fault_of(failure, Phase.CONNECT).message
    except NoSocketLeft as error:
        return f"cannot be reached from here: {error}"


def _defeat(failures: Mapping[str, _Failure]) -> Exception:
    """What it means that no address connects: what one said weighs more than that there is no way to it."""
    known: list[Fault | NoSocketLeft] = []
    for failure in failures.values():
        if isinstance(failure, DeadlinePassed):
            return failure
        try:
            known.append(fault_of(failure, Phase.CONNECT))
        except NoSocketLeft as error:
            known.append(error)
    faults = [one for one in known if isinstance(one, Fault)]
    if not faults:
        return known[0]
    told = next((one for one in faults if one.reason is not Reason.UNREACHABLE), faults[0])
    return Fault(told.reason, f"{told.message}; so with all {len(failures)} addresses", hard=told.hard)
