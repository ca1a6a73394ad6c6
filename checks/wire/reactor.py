"""One edge-triggered epoll for all sockets of the probes, nested in the event loop.

asyncio registers a reader and a writer per wait with two or more system calls each; here a socket is
registered once, and everything that became ready is handled in one wake-up of the loop.
"""

from __future__ import annotations

import asyncio
import math
import select
import time
from functools import lru_cache
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final, Protocol
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from checks.wire.flight import Flight

_BATCH: Final = 512
# So many waits in so short a window, and the reactor works on its grid; so few in a longer one, no more.
_RUSH_S: Final = 0.1
_RUSH_WAITS: Final = 8
_CALM_S: Final = 1.0
_CALM_WAITS: Final = 8
# The scheduler's slots lie on multiples of it too: a tick and a slot share their wake-up.
GRID_S: Final = 0.02
_CROWD: Final = 16
BUFFER_BYTES: Final = 65536
_EDGE: Final = select.EPOLLET
_ENDS: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR | _EDGE
_IN: Final = select.EPOLLIN | select.EPOLLRDHUP | _EDGE
_IN_OUT: Final = _IN | select.EPOLLOUT


class Pollable(Protocol):
    """What the reactor wakes."""

    def woken(self, events: int) -> None:
        """Something of `events` (EPOLL* bits) happened; may be spurious."""
        ...


class Limited(Protocol):
    """What the reactor ends."""

    @property
    def deadline_s(self) -> float:
        """Monotonic time at which it must not wait any longer; infinite, either way, when nothing waits."""
        ...

    def expire(self) -> None:
        """Its deadline passed."""
        ...


class Reactor:
    """Wakes registered sockets. Belongs to one event loop; closing a socket unregisters it.

    While few probes run, each event wakes the loop at once. While many run, the loop is woken on a grid, as
    long as somebody waits, and handles all that happened in between: a wake-up costs more than a probe, and
    the measured latencies come from the kernel. The end of a `guarded` connection always wakes at once.
    """

    __slots__ = (
        "__weakref__",
        "_armed",
        "_batched",
        "_deadlines",
        "_due",
        "_epoll",
        "_guard",
        "_sockets",
        "_ticking",
        "_waits",
        "_window_began_s",
        "buffers",
        "flight",
        "waiting",
    )

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._guard: select.epoll | None = None
        self._sockets: dict[int, Pollable] = {}
        self._batched = False
        self._ticking = False
        # By number of grid step; most are done long before, so a step is cheap to enter and to drop.
        self._deadlines: dict[int, list[Limited]] = {}
        self._due: list[int] = []
        # The step whose timer counts. Nothing here may hold the loop, or neither would ever be freed.
        self._armed = 0
        self._waits = 0
        self._window_began_s = 0.0
        # How many wait for a peer that owes them something.
        self.waiting = 0
        # The look that runs just now without a task; None inside tasks and callbacks.
        self.flight: Flight[Any] | None = None
        # One receive buffer for all: a read is copied out before anything else can run.
        self.buffers = (memoryview(bytearray(BUFFER_BYTES)),)
        self._listen(self._epoll)

    def register(self, fd: int, socket: Pollable, *, writable: bool) -> None:
        """Wake `socket` on every change; `writable` also when it becomes writable."""
        self._sockets[fd] = socket
        self._epoll.register(fd, _IN_OUT if writable else _IN)

    def want_writable(self, fd: int) -> None:
        """From now on wake the socket when it becomes writable, at once if it is."""
        self._epoll.modify(fd, _IN_OUT)

    def guard(self, fd: int) -> None:
        """The end of this registered connection cannot wait for the grid."""
        if self._guard is None:
            self._guard = select.epoll()
            self._listen(self._guard)
        self._guard.register(fd, _ENDS)

    def forget(self, fd: int) -> None:
        """The socket is about to be closed, which removes it from the epoll."""
        self._sockets.pop(fd, None)

    def until(self, deadline_s: float, limited: Limited) -> None:
        """Expire `limited` soon after `deadline_s`, if that is its deadline then: one timer serves all."""
        step = int(deadline_s / GRID_S) + 1
        entered = self._deadlines.get(step)
        if entered is not None:
            entered.append(limited)
            return
        self._deadlines[step] = [limited]
        heappush(self._due, step)
        if self._due[0] == step:
            self._expire_at(step)

    def _expire_at(self, step: int) -> None:
        self._armed = step
        asyncio.get_running_loop().call_at(step * GRID_S, self._expire, step)

    def _expire(self, armed: int) -> None:
        if armed != self._armed:
            return
        # An agent that was held up must not blame others for answers that are here already.
        self._dispatch(self._epoll)
        now_s = time.monotonic()
        while self._due:
            step = self._due[0]
            waiting = [one for one in self._deadlines[step] if -math.inf < one.deadline_s <= step * GRID_S]
            if waiting and step * GRID_S > now_s:
                self._deadlines[step] = waiting
                self._expire_at(step)
                return
            heappop(self._due)
            del self._deadlines[step]
            # In their order: a look that ends by its own deadline tells more than one cut off by a later one.
            for one in sorted(waiting, key=lambda one: one.deadline_s):
                if -math.inf < one.deadline_s <= now_s:
                    one.expire()

    def waits(self) -> None:
        """Somebody starts to wait for a peer: many of these make the reactor work on its grid."""
        self.waiting += 1
        self._waits += 1
        if self._ticking:
            return
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        if self._batched:
            self._next_tick(loop, now_s)
            return
        if now_s - self._window_began_s > _RUSH_S:
            self._window_began_s, self._waits = now_s, 1
        elif self._waits >= _RUSH_WAITS:
            self._batched = True
            loop.remove_reader(self._epoll.fileno())
            self._next_tick(loop, now_s)

    def _next_tick(self, loop: asyncio.AbstractEventLoop, now_s: float) -> None:
        self._ticking = True
        loop.call_at((now_s // GRID_S + 1) * GRID_S, self._tick)

    def _tick(self) -> None:
        crowd = self._dispatch(self._epoll)
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        calm = False
        if now_s - self._window_began_s > _CALM_S:
            calm = self._waits < _CALM_WAITS
            self._window_began_s, self._waits = now_s, 0
        if calm:
            self._batched = self._ticking = False
            self._listen(self._epoll)
        elif crowd >= _CROWD:
            # So many at once need no gathering: go on as fast as they come.
            loop.call_soon(self._tick)
        elif self.waiting:
            self._next_tick(loop, now_s)
        else:
            self._ticking = False

    def _listen(self, epoll: select.epoll) -> None:
        asyncio.get_running_loop().add_reader(epoll.fileno(), self._dispatch, epoll)

    def _dispatch(self, epoll: select.epoll) -> int:
        """Wake everything that is ready; how many that were."""
        ready = epoll.poll(0, _BATCH)
        sockets = self._sockets
        # Found before any is woken: what one closes, the next may open again under the same number.
        for socket, events in [(sockets.get(fd), events) for fd, events in ready]:
            if socket is not None:
                socket.woken(events)
        return len(ready)


# An event loop's one reactor, as asyncio keeps its running loop: a probe finds it without being handed it.
_REACTORS: WeakKeyDictionary[asyncio.AbstractEventLoop, Reactor] = WeakKeyDictionary()


def reactor() -> Reactor:
    """The running loop's reactor, made on first use."""
    return _reactor_of(asyncio.get_running_loop())


@lru_cache(maxsize=1)
def _reactor_of(loop: asyncio.AbstractEventLoop) -> Reactor:
    found = _REACTORS.get(loop)
    if found is None:
        found = _REACTORS[loop] = Reactor()
    return found
