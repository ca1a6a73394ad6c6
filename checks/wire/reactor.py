"""One edge-triggered epoll for all sockets of the probes, nested in the event loop.

asyncio registers a reader and a writer per wait with two or more system calls each; here a socket is
registered once, and everything that became ready is handled in one wake-up of the loop.
"""

from __future__ import annotations

import asyncio
import select
import time
from heapq import heappop, heappush
from typing import Final, Protocol
from weakref import WeakKeyDictionary

_BATCH: Final = 512
# More than this many waits in a window, and the reactor works on its grid.
_WINDOW_S: Final = 0.1
_BUSY_WAITS: Final = 8
_GRID_S: Final = 0.02
_CROWD: Final = 16
BUFFER_BYTES: Final = 65536
IN: Final = select.EPOLLIN | select.EPOLLRDHUP
_EDGE: Final = select.EPOLLET
_OUT: Final = select.EPOLLOUT


class Pollable(Protocol):
    """What the reactor wakes."""

    def woken(self, events: int) -> None:
        """Something of `events` (EPOLL* bits) happened; may be spurious."""
        ...

    @property
    def deadline_s(self) -> float:
        """Monotonic time at which it must not wait any longer."""
        ...

    def expire(self) -> None:
        """Its deadline passed."""
        ...


class Reactor:
    """Wakes registered sockets. Belongs to one event loop; closing a socket unregisters it.

    While few probes run, each event wakes the loop at once. While many run, the loop is woken on a grid and
    handles all that happened in between: a wake-up costs more than a probe, and the measured latencies come
    from the kernel.
    """

    __slots__ = (
        "__weakref__",
        "_batched",
        "_deadlines",
        "_epoll",
        "_expiry",
        "_sequence",
        "_sockets",
        "_waits",
        "_window_began_s",
        "buffer",
    )

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._sockets: dict[int, Pollable] = {}
        self._batched = False
        self._deadlines: list[tuple[float, int, Pollable]] = []
        self._sequence = 0
        self._expiry: asyncio.TimerHandle | None = None
        self._waits = 0
        self._window_began_s = 0.0
        # One receive buffer for all: a read is copied out before anything else can run.
        self.buffer = bytearray(BUFFER_BYTES)
        self._listen(asyncio.get_running_loop())

    def register(self, fd: int, socket: Pollable, *, writable: bool) -> None:
        """Wake `socket` on every change; `writable` also when it becomes writable."""
        self._sockets[fd] = socket
        self._epoll.register(fd, IN | _EDGE | (_OUT if writable else 0))

    def want_writable(self, fd: int) -> None:
        """From now on wake the socket when it becomes writable, at once if it is."""
        self._epoll.modify(fd, IN | _EDGE | _OUT)

    def forget(self, fd: int) -> None:
        """The socket is about to be closed, which removes it from the epoll."""
        self._sockets.pop(fd, None)

    def until(self, deadline_s: float, socket: Pollable) -> None:
        """Expire `socket` at `deadline_s` if that is its deadline then: one timer serves all sockets."""
        self._sequence += 1
        heappush(self._deadlines, (deadline_s, self._sequence, socket))
        if self._expiry is None or deadline_s < self._expiry.when():
            self._set_expiry(deadline_s)

    def _set_expiry(self, deadline_s: float) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = asyncio.get_running_loop().call_at(deadline_s, self._expire)

    def _expire(self) -> None:
        now_s = time.monotonic()
        # Most sockets were done long before their deadline: those entries are only dropped.
        while self._deadlines and (
            self._deadlines[0][0] <= now_s or self._deadlines[0][2].deadline_s != self._deadlines[0][0]
        ):
            deadline_s, _, socket = heappop(self._deadlines)
            if socket.deadline_s == deadline_s:
                socket.expire()
        self._expiry = None
        if self._deadlines:
            self._set_expiry(self._deadlines[0][0])

    def waits(self) -> None:
        """A probe starts to wait for its peer: many of these make the reactor work on its grid."""
        now_s = time.monotonic()
        if now_s - self._window_began_s > _WINDOW_S:
            self._window_began_s, self._waits = now_s, 0
        self._waits += 1
        if self._waits >= _BUSY_WAITS and not self._batched:
            loop = asyncio.get_running_loop()
            self._batched = True
            loop.remove_reader(self._epoll.fileno())
            loop.call_later(_GRID_S, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        crowd = self._dispatch()
        now_s = loop.time()
        if now_s - self._window_began_s > 2 * _WINDOW_S:
            self._batched = False
            self._listen(loop)
        elif crowd >= _CROWD:
            # So many at once need no gathering: go on as fast as they come.
            loop.call_soon(self._tick, loop)
        else:
            loop.call_at((now_s // _GRID_S + 1) * _GRID_S, self._tick, loop)

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self._epoll.fileno(), self._dispatch)

    def _dispatch(self) -> int:
        """Wake everything that is ready; how many that were."""
        ready = self._epoll.poll(0, _BATCH)
        for fd, events in ready:
            socket = self._sockets.get(fd)
            if socket is not None:
                socket.woken(events)
        return len(ready)


# An event loop's one reactor, as asyncio keeps its running loop: a probe finds it without being handed it.
_REACTORS: WeakKeyDictionary[asyncio.AbstractEventLoop, Reactor] = WeakKeyDictionary()


def reactor() -> Reactor:
    """The running loop's reactor, made on first use and gone with its loop."""
    loop = asyncio.get_running_loop()
    found = _REACTORS.get(loop)
    if found is None:
        found = _REACTORS[loop] = Reactor()
    return found
