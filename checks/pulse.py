"""How long the agent itself was held up: time in which its event loop should have turned and did not.

A stopped process or a core taken by others makes every clock of a look run on, while nobody reads the answers
that are here already. What a look says after that is the agent's own lateness, not the target's.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final
from weakref import WeakKeyDictionary

_BEAT_S: Final = 0.1


class Pulse:
    """Adds up by how much the loop comes late to a beat every 100 ms, as long as somebody may ask.

    Belongs to one event loop and holds no reference to it. Between two beats up to one beat of a hold-up goes
    unseen, so the sum is never too large.
    """

    __slots__ = ("_due_s", "_held_s", "_until_s")

    def __init__(self) -> None:
        self._held_s = 0.0
        self._due_s: float | None = None
        self._until_s = 0.0

    def beat_for(self, span_s: float) -> None:
        """Measure during the next `span_s` seconds at least."""
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        self._until_s = max(self._until_s, now_s + span_s)
        if self._due_s is None:
            self._arm(loop, now_s)

    def held_s(self) -> float:
        """Seconds lost so far, the one that is just being lost included; only differences mean something."""
        if self._due_s is None:
            return self._held_s
        return self._held_s + max(0.0, asyncio.get_running_loop().time() - self._due_s)

    def _arm(self, loop: asyncio.AbstractEventLoop, now_s: float) -> None:
        # On multiples of the beat, where the reactor's grid and the scheduler's slots wake the loop anyway.
        # The tolerance keeps a timer that fires a rounding error early from the same beat again.
        self._due_s = (math.floor(now_s / _BEAT_S + 1e-6) + 1) * _BEAT_S
        loop.call_at(self._due_s, self._beat)

    def _beat(self) -> None:
        self._held_s = self.held_s()
        self._due_s = None
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        if now_s < self._until_s:
            self._arm(loop, now_s)


_PULSES: WeakKeyDictionary[asyncio.AbstractEventLoop, Pulse] = WeakKeyDictionary()


def pulse() -> Pulse:
    """The running loop's pulse, made on first use."""
    loop = asyncio.get_running_loop()
    found = _PULSES.get(loop)
    if found is None:
        found = _PULSES[loop] = Pulse()
    return found
