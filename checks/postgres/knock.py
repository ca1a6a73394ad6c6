"""The knock: SSLRequest and start-up packet on a fresh connection, before any driver is imported.

A TCP connect proves nothing: the kernel accepts for a frozen server. One answered byte does.
"""

from __future__ import annotations

import asyncio
import socket
from enum import StrEnum
from typing import Final

from msgspec import Struct

from checks.catalog import Resolver
from checks.clock import Clock
from checks.finding import Phase, PhaseTime
from checks.postgres import wire
from checks.postgres.place import Place
from checks.postgres.wire import ServerError

APPLICATION: Final = "gaia-agent"


class Stage(StrEnum):
    """How far a knock came; the stage that did not end when it failed."""

    RESOLVE = "resolving the name"
    CONNECT = "connecting"
    ENCRYPTION = "asking for encryption"
    STARTUP = "starting a session"
    ANSWERED = "answered"


class Knock(Struct, frozen=True, kw_only=True):
    """What a fresh connection met.

    `address` is the IP or socket path that answered last. `speaks_tls` is None until the server said.
    `offers_tls`: what the server said of TLS, whether we wanted it or not.
    `stray` holds the bytes of a server that speaks something else.
    """

    stage: Stage
    address: str = ""
    speaks_tls: bool | None = None
    offers_tls: bool = False
    phases: tuple[PhaseTime, ...] = ()
    timed_out: bool = False
    closed: bool = False
    failure: OSError | None = None
    stray: bytes = b""
    server_error: ServerError | None = None


class _Ended(Exception):  # noqa: N818 - not an error: the knock is over and says how.
    def __init__(self, **how: object) -> None:
        super().__init__()
        self.how = how


class Knocker:
    """Knocks at one place. `answer_within_s` bounds each step that needs the server, not the whole."""

    def __init__(self, place: Place, resolver: Resolver, clock: Clock) -> None:
        self._place = place
        self._resolver = resolver
        self._clock = clock

    async def knock(self, *, answer_within_s: float) -> Knock:
        """Never raises OSError or TimeoutError: they are what was found."""
        run = _Run(self._place, self._clock, answer_within_s)
        try:
            await run.through(self._resolver)
        except _Ended as ended:
            return run.result(**ended.how)
        except TimeoutError:
            return run.result(timed_out=True)
        except OSError as error:
            return run.result(failure=error)
        finally:
            run.close()
        return run.result()


class _Run:
    def __init__(self, place: Place, clock: Clock, limit_s: float) -> None:
        self.place = place
        self.clock = clock
        self.limit_s = limit_s
        self.stage = Stage.RESOLVE
        self.address = ""
        self.speaks_tls: bool | None = None
        self.offers_tls = False
        self.phases: list[PhaseTime] = []
        self.sock: socket.socket | None = None
        self.loop = asyncio.get_running_loop()

    def result(self, **how: object) -> Knock:
        return Knock(
            stage=self.stage,
            address=self.address,
            speaks_tls=self.speaks_tls,
            offers_tls=self.offers_tls,
            phases=tuple(self.phases),
            **how,  # type: ignore[arg-type]  # field names of Knock, written only in this file.
        )

    def close(self) -> None:
        if self.sock is not None:
            self.sock.close()

    async def through(self, resolver: Resolver) -> None:
        started = self.clock.monotonic_s()
        if self.place.socket_path is not None:
            addresses: tuple[str, ...] = (self.place.socket_path,)
        else:
            async with asyncio.timeout(self.limit_s):
                addresses = await resolver.addresses(self.place.host)
        started = self._phase(Phase.RESOLVE, started)
        self.stage = Stage.CONNECT
        await self._connect(addresses)
        started = self._phase(Phase.CONNECT, started)
        self.stage = Stage.ENCRYPTION
        self.speaks_tls = await self._ask_for_encryption()
        self._phase(Phase.PROCESSING, started)
        if not self.speaks_tls:
            # With TLS the session's own handshake follows at once; a knock there would pay for it twice.
            self.stage = Stage.STARTUP
            await self._start_up()
        self.stage = Stage.ANSWERED

    def _phase(self, phase: Phase, started: float) -> float:
        now = self.clock.monotonic_s()
        self.phases.append(PhaseTime(phase=phase, duration_s=now - started))
        return now

    async def _connect(self, addresses: tuple[str, ...]) -> None:
        last: OSError = OSError("the name has no address")
        for address in addresses:
            self.close()
            self.address = address
            family = _family(address)
            self.sock = socket.socket(family, socket.SOCK_STREAM)
            self.sock.setblocking(False)
            where: object = address if family == socket.AF_UNIX else (address, self.place.port)
            try:
                async with asyncio.timeout(self.limit_s):
                    await self.loop.sock_connect(self.sock, where)  # type: ignore[arg-type]  # a path for AF_UNIX.
            except OSError as error:  # TimeoutError too: the next address may answer.
                last = error
            else:
                if family != socket.AF_UNIX:
                    self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return
        raise last

    async def _ask_for_encryption(self) -> bool:
        # Asked even where plaintext is configured: the cheapest proof of life, without a line in the log.
        await self._send(wire.SSL_REQUEST)
        answer = await self._receive(1)
        if answer == b"E":
            # The one error a server may send here: it could not fork a process for us.
            raise _Ended(server_error=ServerError(sqlstate=wire.INSUFFICIENT_RESOURCES))
        if answer not in (b"S", b"N"):
            raise _Ended(stray=answer)
        self.offers_tls = answer == b"S"
        if self.offers_tls and self.place.tls == "disable":
            # After an `S` only TLS may follow, so a plaintext start-up needs a connection of its own.
            await self._connect((self.address,))
            return False
        return self.offers_tls

    async def _start_up(self) -> None:
        await self._send(
            wire.startup(user=self.place.user, database=self.place.database, application=APPLICATION)
        )
        head = await self._receive(5)
        if head[:1] not in (b"R", b"E"):
            raise _Ended(stray=head)
        try:
            body = await self._receive(wire.message_bytes(head))
        except ValueError:
            raise _Ended(stray=head) from None
        if head[:1] == b"E":
            raise _Ended(server_error=wire.parse_error(body))
        if body == b"\x00\x00\x00\x00":
            await self._send(wire.TERMINATE)

    async def _send(self, data: bytes) -> None:
        assert self.sock is not None
        async with asyncio.timeout(self.limit_s):
            await self.loop.sock_sendall(self.sock, data)

    async def _receive(self, count: int) -> bytes:
        assert self.sock is not None
        got = b""
        async with asyncio.timeout(self.limit_s):
            while len(got) < count:
                piece = await self.loop.sock_recv(self.sock, count - len(got))
                if not piece:
                    raise _Ended(closed=True)
                got += piece
        return got


def _family(address: str) -> socket.AddressFamily:
    if address.startswith("/"):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in address else socket.AF_INET
