"""A non-blocking stream connection that knows when its bytes really arrived.

Arrival times come from the kernel (SO_TIMESTAMPNS), so a busy or throttled agent does not blame its own
lateness on the target; where the kernel gives none, the time of reading is used.
"""

from __future__ import annotations

import asyncio
import errno
import math
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from types import coroutine
from typing import Any, Final, Protocol

from checks.wire.fault import DeadlinePassed
from checks.wire.reactor import BUFFER_BYTES, Reactor, reactor

_LINUX: Final = sys.platform == "linux"
_SO_TIMESTAMPNS: Final = 35
_STREAM: Final = socket.SOCK_STREAM | getattr(socket, "SOCK_NONBLOCK", 0)
_ANCILLARY_BYTES: Final = 64
_TIMESPEC: Final = struct.Struct("qq")
_TCP_INFO_BYTES: Final = 104
_ESTABLISHED: Final = 1
_UNDER_WAY: Final = (0, errno.EINPROGRESS)
_RTT: Final = struct.Struct("I")
_RTT_OFFSET: Final = 68
# The first SYN is repeated after a second: then the round trip alone says too little.
_SYN_REPEATED_AFTER_S: Final = 0.9
# A larger difference between arrival and reading is a step of the wall clock.
_LARGEST_LAG_S: Final = 60.0
_FAILED: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR

Endpoint = tuple[str, int]


class Stream(Protocol):
    """Bytes both ways, plain or through TLS."""

    @property
    def arrived_s(self) -> float:
        """Monotonic time at which the last received bytes reached this machine."""
        ...

    async def send(self, data: bytes) -> None:
        """Write everything. Raises OSError."""
        ...

    async def receive(self) -> bytes:
        """The next bytes, or b"" at the end. Raises OSError."""
        ...

    def close(self) -> None:
        """Give the socket back at once. May be called twice."""
        ...


class Wire:
    """A TCP connection. One reader at a time; not safe for two tasks."""

    __slots__ = (
        "_closing",
        "_expired",
        "_fd",
        "_reactor",
        "_ready",
        "_registered",
        "_resume",
        "_sock",
        "_writable",
        "arrived_s",
        "connect_s",
        "deadline_s",
        "lag_s",
        "peer",
    )

    def __init__(self, sock: socket.SocketType, peer: Endpoint) -> None:
        self._sock = sock
        self._fd = sock.fileno()
        self._reactor: Reactor = reactor()
        self._registered = False
        self._ready = False
        self._closing = False
        self._expired = False
        self._writable = False
        # Goes on with whoever waits: None, or what went wrong.
        self._resume: Callable[[BaseException | None], None] | None = None
        self.peer = peer
        self.connect_s = 0.0
        self.arrived_s = 0.0
        self.lag_s = 0.0
        self.deadline_s = math.inf

    @classmethod
    async def connect(cls, host: str, port: int, *, deadline_s: float = math.inf) -> Wire:
        """Connect to the literal address `host`. Raises OSError and DeadlinePassed; closes when it fails."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        wire = cls(_socket(family), (host, port))
        if deadline_s != math.inf:
            wire.until(deadline_s)
        started_s = time.monotonic()
        try:
            rtt_s = wire._begin() or await wire._connected()
        except BaseException:
            wire.close()
            raise
        elapsed_s = time.monotonic() - started_s
        # The kernel's own measure of the round trip, unless the SYN had to be repeated.
        use_kernel = 0 < rtt_s < elapsed_s < _SYN_REPEATED_AFTER_S
        wire.connect_s = rtt_s if use_kernel else elapsed_s
        return wire

    def _begin(self) -> float:
        """Send the SYN. On this machine and its nearest neighbours the handshake is over then: its time."""
        code = self._sock.connect_ex(self.peer)
        if code not in _UNDER_WAY:
            raise OSError(code, os.strerror(code))
        state, rtt_s = self._tcp_info()
        return rtt_s if state == _ESTABLISHED else 0.0

    async def _connected(self) -> float:
        """Wait for the handshake; the round trip time it took."""
        self._writable = True
        await self._wait()
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        self._ready = self._closing
        return self._tcp_info()[1]

    def _tcp_info(self) -> tuple[int, float]:
        """The connection's state and the round trip time of its handshake."""
        if not _LINUX:
            return 0, 0.0
        info = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        return info[0], _RTT.unpack_from(info, _RTT_OFFSET)[0] / 1e6

    async def send(self, data: bytes) -> None:
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent != len(data):
            await self._send_rest(memoryview(data)[sent:])

    async def _send_rest(self, view: memoryview) -> None:
        while view:
            # Asked for once: asking again would report a waiting answer again, for ever.
            if not self._writable and self._registered:
                self._reactor.want_writable(self._fd)
            self._writable = True
            await self._wait()
            with suppress(BlockingIOError):
                view = view[self._sock.send(view) :]

    async def receive(self) -> bytes:
        while True:
            if not self._ready or self._expired:
                await self._wait()
            try:
                return self._read()
            except BlockingIOError:
                self._ready = self._closing = False

    def _read(self) -> bytes:
        buffers = self._reactor.buffers
        if not _LINUX:
            size = self._sock.recv_into(buffers[0])
            self.arrived_s = time.monotonic()
        else:
            size, ancillary, _, _ = self._sock.recvmsg_into(buffers, _ANCILLARY_BYTES)
            self.arrived_s = self._arrival(ancillary) if ancillary else time.monotonic()
        # Edge-triggered: a short read empties the socket, and its end was told with the last edge.
        self._ready = size == BUFFER_BYTES or self._closing
        return buffers[0][:size].tobytes()

    def _arrival(self, ancillary: list[tuple[int, int, bytes]]) -> float:
        now_s = time.monotonic()
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
                seconds, nanoseconds = _TIMESPEC.unpack_from(data)
                lag_s: float = time.time() - (seconds + nanoseconds / 1e9)
                if 0 < lag_s < _LARGEST_LAG_S:
                    self.lag_s += lag_s
                    return now_s - lag_s
        return now_s

    @coroutine
    def _wait(self, *, idle: bool = False) -> Generator[Any, None, None]:
        """Until the socket is woken; `idle` when nobody is in a hurry."""
        if self._expired:
            raise DeadlinePassed
        reactor = self._reactor
        if not self._registered:
            self._registered = True
            reactor.register(self._fd, self, writable=self._writable)
        if not idle:
            reactor.waits()
        try:
            if reactor.flight is not None:
                self._resume = reactor.flight.resume
                yield reactor
            else:
                waiter = asyncio.get_running_loop().create_future()
                self._resume = partial(_settle, waiter)
                yield from waiter
        finally:
            self._resume = None
            if not idle:
                reactor.waiting -= 1

    async def ended(self) -> None:
        """Return when the peer has ended the connection; bytes that arrive meanwhile stay for `receive`."""
        while not self._closing:
            await self._wait(idle=True)

    def woken(self, events: int) -> None:
        self._ready = True
        if events & _FAILED:
            self._closing = True
        if self._resume is not None:
            self._resume(None)

    def until(self, deadline_s: float) -> None:
        """From now on no wait lasts longer than monotonic time `deadline_s`; infinity means no deadline."""
        self._expired = False
        self.deadline_s = deadline_s
        if deadline_s != math.inf:
            self._reactor.until(deadline_s, self)

    def expire(self) -> None:
        self._expired = True
        if self._resume is not None:
            self._resume(DeadlinePassed())

    def hold(self, *, user_timeout_s: float) -> None:
        """This connection is watched: its end is told at once.

        A peer that vanished without a word ends it after `user_timeout_s`.
        """
        if not self._registered:
            self._registered = True
            self._reactor.register(self._fd, self, writable=self._writable)
        self._reactor.guard(self._fd)
        if _LINUX:
            milliseconds = round(user_timeout_s * 1000)
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)

    def close(self) -> None:
        if self._fd >= 0:
            self._reactor.forget(self._fd)
            self._fd = -1
            self.deadline_s = math.inf
            self._sock.close()


def _settle(waiter: asyncio.Future[None], error: BaseException | None) -> None:
    if waiter.done():
        return
    if error is None:
        waiter.set_result(None)
    else:
        waiter.set_exception(error)


def _socket(family: socket.AddressFamily) -> socket.SocketType:
    # The C type: what its subclass in Python adds is of no use here, and made for each probe.
    if not _LINUX:
        sock = socket.SocketType(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        return sock
    sock = socket.SocketType(family, _STREAM)
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    return sock
