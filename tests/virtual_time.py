"""An event loop whose clock is a number: sleeping ends at once and time is exact."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _NoWait(selectors.SelectSelector):
    """Instead of waiting for a file, moves the loop's clock to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("every task waits for something that no timer will bring: a deadlock")
        if timeout > 0:
            self.now_s += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """For pure coroutines and timers. No sockets, no threads: those need real time."""

    def __init__(self) -> None:
        self._virtual = _NoWait()
        super().__init__(self._virtual)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._virtual.now_s

    def stall(self, for_s: float) -> None:
        """Time passes and nothing runs: the loop is held up."""
        self._virtual.now_s += for_s


class VirtualClock:
    """The Clock of a VirtualLoop; wall time starts at a fixed instant and may be stepped."""

    def __init__(self, loop: VirtualLoop, *, wall_start_s: float = 1_763_900_000.0) -> None:
        self._loop = loop
        self.wall_offset_s = wall_start_s

    def monotonic_s(self) -> float:
        return self._loop.time()

    def wall_s(self) -> float:
        return self.wall_offset_s + self._loop.time()

    def stall(self, for_s: float) -> None:
        """The agent is held up: both clocks run on and nothing else does."""
        self._loop.stall(for_s)


def run_virtual(main: Callable[[VirtualClock], Coroutine[Any, Any, T]]) -> T:
    """Run `main(clock)` to its end in virtual time and return its result."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main(VirtualClock(loop)))
    finally:
        pending = asyncio.all_tasks(loop)
        for task in pending:
            task.cancel()
        if pending:
            loop.run_until_complete(asyncio.wait(pending))
        loop.close()
