"""One edge-triggered epoll for all sockets of the probes, nested in the event loop.

asyncio registers a reader and a writer per wait with two or more system calls each; here a socket is
registered once, and everything that became ready is handled in one wake-up of the loop.
"""

from __future__ import annotations

import asyncio
import select
from typing import Final, Protocol
from weakref import WeakKeyDictionary

_BATCH: Final = 512
BUFFER_BYTES: Final = 65536
IN: Final = select.EPOLLIN | select.EPOLLRDHUP
_EDGE: Final = select.EPOLLET
_OUT: Final = select.EPOLLOUT


class Pollable(Protocol):
    """What the reactor wakes."""

    def woken(self, events: int) -> None:
        """Something of `events` (EPOLL* bits) happened; may be spurious."""
        ...


class Reactor:
    """Wakes registered sockets. Belongs to one event loop; closing a socket unregisters it."""

    __slots__ = ("__weakref__", "_epoll", "_sockets", "buffer")

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._sockets: dict[int, Pollable] = {}
        # One receive buffer for all: a read is copied out before anything else can run.
        self.buffer = bytearray(BUFFER_BYTES)

    def fileno(self) -> int:
        return self._epoll.fileno()

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

    def dispatch(self) -> None:
        """Wake everything that is ready."""
        for fd, events in self._epoll.poll(0, _BATCH):
            socket = self._sockets.get(fd)
            if socket is not None:
                socket.woken(events)


# An event loop's one reactor, as asyncio keeps its running loop: a probe finds it without being handed it.
_REACTORS: WeakKeyDictionary[asyncio.AbstractEventLoop, Reactor] = WeakKeyDictionary()


def reactor() -> Reactor:
    """The running loop's reactor, made on first use and gone with its loop."""
    loop = asyncio.get_running_loop()
    found = _REACTORS.get(loop)
    if found is None:
        found = _REACTORS[loop] = Reactor()
        loop.add_reader(found.fileno(), found.dispatch)
    return found
