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
    """Knocks at one place. `answer_within_s` bounds each step that needs the server, not the whole.

    A server that accepts TLS and is hung up on writes a line into its log. Once it has said that it speaks
    TLS, it is asked for another encryption instead, whose answer is as good a proof of life.
    """

    def __init__(self, place: Place, resolver: Resolver, clock: Clock) -> None:
        self._place = place
        self._resolver = resolver
        self._clock = clock
        self._offers_tls = False
        self._knows_gss = True

    def forget_tls(self) -> None:
        """Ask for TLS again: a log-in that relied on it failed."""
        self._offers_tls = False

    async def is_accepting(self, *, answer_within_s: float) -> bool:
        """Whether a new connection gets its first byte in time; nothing is said of what the byte means."""
        run = _Run(self._place, self._clock, answer_within_s, known_tls=self._asks_quietly)
        try:
            async with asyncio.timeout(answer_within_s):
                await run.reach(self._resolver)
                await run.ask_for_encryption()
        except (_Ended, OSError):  # TimeoutError too.
            return False
        finally:
            run.close()
        return True

    async def knock(self, *, answer_within_s: float) -> Knock:
        """Never raises OSError or TimeoutError: they are what was found."""
        quietly = self._asks_quietly
        knock = await self._knock(answer_within_s, known_tls=quietly)
        unknown = knock.closed or knock.stray or knock.server_error is not None
        if quietly and unknown and knock.stage is Stage.ENCRYPTION:
            knock = await self._knock(answer_within_s, known_tls=False)
            # What stands there, an older pooler say, may know the usual request only.
            self._knows_gss = knock.stage is Stage.ENCRYPTION
        self._offers_tls = knock.offers_tls
        return knock

    @property
    def _asks_quietly(self) -> bool:
        return self._offers_tls and self._knows_gss

    async def _knock(self, answer_within_s: float, *, known_tls: bool) -> Knock:
        run = _Run(self._place, self._clock, answer_within_s, known_tls=known_tls)
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
    def __init__(self, place: Place, clock: Clock, limit_s: float, *, known_tls: bool) -> None:
        self.known_tls = known_tls
        self.place = place
        self.clock = clock
        self.limit_s = limit_s
        self.stage = Stage.RESOLVE
        self.address = ""
        self.speaks_tls: bool | None = None
        self.offers_tls = known_tls
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
        started = await self.reach(resolver)
        self.speaks_tls = await self.ask_for_encryption()
        self._phase(Phase.PROCESSING, started)
        if not self.speaks_tls:
            # With TLS the session's own handshake follows at once; a knock there would pay for it twice.
            self.stage = Stage.STARTUP
            await self._start_up()
        self.stage = Stage.ANSWERED

    async def reach(self, resolver: Resolver) -> float:
        """Resolve and connect; gives the monotonic second of the connection."""
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
        return started

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

    async def ask_for_encryption(self) -> bool:
        """Whether TLS follows. Asked even where plaintext is configured: the cheapest proof of life."""
        await self._send(wire.GSSENC_REQUEST if self.known_tls else wire.SSL_REQUEST)
        answer = await self._receive(1)
        if self.known_tls and answer in (b"G", b"N"):
            return await self._after_offer()
        if answer == b"E":
            # The one error a server may send here: it could not fork a process for us.
            raise _Ended(server_error=ServerError(sqlstate=wire.INSUFFICIENT_RESOURCES))
        if answer not in (b"S", b"N"):
            raise _Ended(stray=answer)
        self.offers_tls = answer == b"S"
        return self.offers_tls and await self._after_offer()

    async def _after_offer(self) -> bool:
        """Whether TLS follows, now that the server speaks it."""
        if self.place.tls != "disable":
            return True
        # After an `S` only TLS may follow, so a plaintext start-up needs a connection of its own.
        await self._connect((self.address,))
        return False

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
