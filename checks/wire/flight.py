"""A look without a task: a coroutine that waits on wires is resumed by the reactor itself.

A task, its futures and its timer cost more than the whole of a healthy probe's own work. What needs more of
asyncio than a wire (a timeout, a group, a name look-up) says `await in_task()` first and goes on in a task.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Generator
from types import coroutine
from typing import Any, Final, Generic, TypeVar

from checks.wire.reactor import Reactor, reactor

T = TypeVar("T")

_TASK_PLEASE: Final = object()


@coroutine
def in_task() -> Generator[object, None, None]:
    """Return inside an asyncio task: at once where there is one already."""
    if reactor().flight is not None:
        yield _TASK_PLEASE


class Flight(Generic[T]):
    """Runs `look` to its end, then calls `landed` with its result or with what it raised.

    Past `deadline_s` (monotonic) the look is cancelled and `landed` gets a TimeoutError whose cause is that
    CancelledError. After `cancel` nothing is told.
    """

    __slots__ = ("_cancelled", "_expired", "_landed", "_look", "_reactor", "_task", "deadline_s")

    def __init__(
        self,
        look: Coroutine[Any, Any, T],
        landed: Callable[[T | None, BaseException | None], None],
        *,
        deadline_s: float = math.inf,
    ) -> None:
        self._look = look
        self._landed = landed
        self._reactor: Reactor = reactor()
        self._task: asyncio.Task[T] | None = None
        self._cancelled = False
        self._expired = False
        self.deadline_s = deadline_s

    def start(self) -> None:
        """Run up to the first wait; may land before it returns."""
        if self.deadline_s != math.inf:
            self._reactor.until(self.deadline_s, self)
        self.resume(None)

    def resume(self, error: BaseException | None) -> None:
        """What the look waited for has come, or failed with `error`."""
        before, self._reactor.flight = self._reactor.flight, self
        try:
            wanted = self._look.send(None) if error is None else self._look.throw(error)
        except StopIteration as end:
            result, failure = end.value, None
        except (Exception, asyncio.CancelledError) as raised:
            result, failure = None, raised
        else:
            self._reactor.flight = before
            self._wait_for(wanted)
            return
        self._reactor.flight = before
        self._end(result, failure)

    def _wait_for(self, wanted: object) -> None:
        """A wire resumes us by itself; anything else wants a turn of the loop or a task."""
        if wanted is None:
            asyncio.get_running_loop().call_soon(self._turn)
        elif wanted is _TASK_PLEASE:
            self._task = asyncio.get_running_loop().create_task(self._look)
            self._task.add_done_callback(self._task_done)
        elif wanted is not self._reactor:
            self.resume(RuntimeError(f"a look without a task waits for {wanted!r}: it needs in_task()"))

    def _turn(self) -> None:
        if self.deadline_s != -math.inf:
            self.resume(None)

    def _task_done(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self._end(None, asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            self._end(None, error)
        else:
            self._end(task.result(), None)

    def _end(self, result: T | None, failure: BaseException | None) -> None:
        self.deadline_s = -math.inf
        landed = self._landed
        # The reactor knows this flight until its deadline: what hung on it need not wait for that.
        del self._look, self._landed
        if self._cancelled:
            return
        if self._expired and isinstance(failure, asyncio.CancelledError):
            timeout = TimeoutError()
            timeout.__cause__ = failure
            failure = timeout
        try:
            landed(result, failure)
        except Exception as error:
            # Whoever is told must not stop the others from being woken.
            context = {"message": "the end of a look was not taken in", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)

    def expire(self) -> None:
        """The deadline passed."""
        self._expired = True
        self._stop()

    def cancel(self) -> None:
        """End the look; its connection is closed when this returns, unless it runs in a task by now."""
        self._cancelled = True
        if self.deadline_s != -math.inf:
            self._stop()

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        else:
            self.resume(asyncio.CancelledError())
