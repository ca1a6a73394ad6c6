"""The HTTP check: one look at a service, its phases apart, its health document read, its story kept."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from msgspec import Struct
from msgspec.structs import replace

from checks.catalog import ProbeKit
from checks.finding import Finding, State
from checks.http.answer import Answer
from checks.http.exchange import exchange
from checks.http.finding import finding_of
from checks.http.judgement import Expectation
from checks.http.login import Login
from checks.http.options import HttpOptions, secrets_of
from checks.http.request import Request, redirected, request_of
from checks.http.usual import Usual
from checks.reason import Reason
from checks.target import Target
from checks.wire.certificate import Certificate
from checks.wire.dial import CertificateFault, TlsSeen, connect, is_literal, resolve, secure
from checks.wire.fault import DeadlinePassed, Fault, NoSocketLeft, no_socket_left
from checks.wire.flight import in_task
from checks.wire.journey import Journey
from checks.wire.look import timed_out
from checks.wire.redaction import Redactor
from checks.wire.stream import Stream, Wire

if TYPE_CHECKING:
    from checks.http.cookies import Cookies

_FRESH_EVERY: Final = 5
_MOST_ADDRESSES: Final = 32
_UNAUTHORIZED: Final = 401
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

Allowed = Callable[[str, int], bool]


def _no_cookies() -> Cookies:
    # Needed by few: the module is imported when a first redirect is followed.
    from checks.http.cookies import Cookies

    return Cookies()


def fresh_turn(key: str) -> int:
    """Where in the cycle of mixed looks a target begins: all fresh at once make every fifth round dear."""
    return crc32(key.encode()) % _FRESH_EVERY


class Look(Struct, kw_only=True):
    """What one look gathers on its way; it is judged at the end, however it ends."""

    journey: Journey
    trace_id: str = ""
    answer: Answer | None = None
    tls: TlsSeen | None = None
    chain: tuple[Certificate, ...] = ()
    redirects: int = 0
    cookies: Cookies | None = None


class _Held(Struct, frozen=True, kw_only=True):
    """A connection kept between two looks, and what its making showed."""

    wire: Wire
    stream: Stream
    ip: str | None
    tls: TlsSeen | None


class HttpCheck:
    """Probes `options.url`. `allowed(host, port)` may forbid where a redirect leads."""

    __slots__ = (
        "_allowed",
        "_expectation",
        "_held",
        "_kit",
        "_literal",
        "_login",
        "_looks",
        "_options",
        "_plain",
        "_prebuilt",
        "_redactor",
        "_request",
        "_target",
        "_usual",
        "chain",
        "trusted",
    )

    def __init__(
        self, target: Target, options: HttpOptions, kit: ProbeKit, *, allowed: Allowed | None = None
    ) -> None:
        self._target = target
        self._options = options
        self._kit = kit
        self._allowed = allowed
        self._expectation = Expectation(options)
        self._login = Login(options.auth, kit, options)
        self._request = request_of(
            options.url,
            method=options.method,
            private=tuple((name, value.reveal()) for name, value in options.headers.items()),
            body=options.body.reveal().encode() if options.body is not None else b"",
        )
        self._redactor = Redactor(secrets_of(options))
        self._prebuilt: bytes | None = None
        host = self._request.origin.host
        self._literal = (host,) if is_literal(host) else None
        self._plain = not self._expectation.reads_headers
        self._usual: Usual | None = None
        self._held: _Held | None = None
        self._looks = fresh_turn(str(target.key))
        # What the last look was shown, and the way by which it was trusted.
        self.chain: tuple[Certificate, ...] = ()
        self.trusted: tuple[Certificate, ...] = ()

    def probe(self) -> Coroutine[Any, Any, Finding]:
        self._looks += 1
        return self._probe_every_address() if self._options.address == "all" else self._probe_one(None)

    async def _probe_one(self, address: str | None) -> Finding:
        look = Look(journey=Journey.within(self._options.timeout))
        fault: Fault | None = None
        try:
            await self._look(look, address)
        except asyncio.CancelledError as error:
            # The caller's deadline: `observe` tells this with its own.
            error.add_note(look.journey.unfinished)
            raise
        except DeadlinePassed:
            fault = timed_out(look.journey, self._options.timeout)
        except CertificateFault as error:
            fault, look.chain = error, error.chain
        except Fault as error:
            fault = error
        except NoSocketLeft as error:
            return no_socket_left(self._target, error)
        self.chain, self.trusted = look.chain, look.tls.trusted if look.tls is not None else ()
        now_s = self._kit.clock.wall_s()
        if self._usual is not None and fault is None:
            usual = self._usual.again(self._target, self._expectation, look, now_s)
            if usual is not None:
                return usual
        finding = finding_of(self._target, self._expectation, look, fault, now_s=now_s)
        if finding.state is State.UP:
            self._usual = Usual.of(look, finding, self._expectation)
            return finding
        return self._redactor.finding(finding, self._target.address)

    async def _probe_every_address(self) -> Finding:
        from checks.http.addresses import agreement

        await in_task()
        journey = Journey.within(self._options.timeout)
        try:
            host = self._request.origin.host
            found = await resolve(host, self._options.ip, self._kit.resolver, journey)
        except (DeadlinePassed, Fault) as error:
            fault = error if isinstance(error, Fault) else timed_out(journey, self._options.timeout)
            look = Look(journey=journey)
            return finding_of(self._target, self._expectation, look, fault, now_s=self._kit.clock.wall_s())
        addresses = found[:_MOST_ADDRESSES]
        if len(found) > len(addresses):
            journey.note("addresses", f"{len(found)} were found and the first {len(addresses)} probed")
        async with asyncio.TaskGroup() as group:
            looks = [group.create_task(self._probe_one(address)) for address in addresses]
        findings = {address: look.result() for address, look in zip(addresses, looks, strict=True)}
        return agreement(self._target, findings, journey)

    async def _look(self, look: Look, address: str | None) -> None:
        request = self._request
        if self._options.auth is not None:
            request = await self._login.authorized(request, deadline_s=look.journey.deadline_s)
        if self._held is not None and address is None:
            held, self._held = self._held, None
            if self._looks % _FRESH_EVERY == 0 and self._options.connection == "mixed":
                held.stream.close()
            elif await self._ask_held(look, request, held):
                return
        while True:
            answer = await self._ask(look, request, address)
            location = answer.head.get("location")
            if answer.head.status not in _REDIRECTS or location is None:
                if answer.head.status == _UNAUTHORIZED:
                    self._login.forget()
                return
            look.redirects += 1
            if not self._options.redirects:
                return
            request = self._next(look, request, location)
            address = None

    async def _ask_held(self, look: Look, request: Request, held: _Held) -> bool:
        """Ask on the kept connection; False when that is in doubt and a fresh one must tell."""
        look.journey.ip, look.tls = held.ip, held.tls
        look.chain = held.tls.chain if held.tls is not None else ()
        # Half of the time: the rest is for a fresh connection, should this one stay silent.
        held.wire.until(time.monotonic() + self._options.timeout / 2)
        try:
            answer = await self._exchange(look, request, held.stream)
        except (Fault, DeadlinePassed) as error:
            held.stream.close()
            look.journey = Journey(deadline_s=look.journey.deadline_s)
            look.journey.note("kept connection", str(error) or "did not answer in time")
            return False
        except BaseException:
            held.stream.close()
            raise
        self._keep(held, answer)
        if self._expectation.accepts(answer.head.status):
            return True
        look.journey = Journey(deadline_s=look.journey.deadline_s)
        look.answer = None
        return False

    async def _ask(self, look: Look, request: Request, address: str | None) -> Answer:
        """One request over a connection of its own."""
        origin, options, journey = request.origin, self._options, look.journey
        look.tls, look.chain = None, ()
        if options.require_tls and origin.scheme != "https":
            raise Fault(Reason.CONFIG, "is asked without TLS although require_tls is set")
        if address is not None:
            addresses: tuple[str, ...] = (address,)
        elif self._literal is not None and request.origin is self._request.origin:
            addresses = self._literal
        else:
            addresses = await resolve(origin.host, options.ip, self._kit.resolver, journey)
        if options.address == "first":
            addresses = addresses[:1]
        wire = await connect(addresses, origin.port, journey)
        stream: Stream = wire
        tls: TlsSeen | None = None
        try:
            if origin.scheme == "https":
                stream, tls = await secure(wire, origin.host, options.tls, journey)
                look.tls, look.chain = tls, tls.chain
            answer = await self._exchange(look, request, stream)
        except BaseException:
            stream.close()
            raise
        if self._kept and request.origin == self._request.origin:
            self._keep(_Held(wire=wire, stream=stream, ip=journey.ip, tls=tls), answer)
        else:
            stream.close()
        return answer

    @property
    def _kept(self) -> bool:
        return self._options.connection != "fresh" and self._options.address != "all"

    def _keep(self, held: _Held, answer: Answer) -> None:
        if answer.reusable and self._held is None:
            held.wire.until(math.inf)
            self._held = held
        else:
            held.stream.close()

    async def _exchange(self, look: Look, request: Request, stream: Stream) -> Answer:
        look.trace_id, parent = self._kit.trace_ids.draw()
        traced = f"traceparent: 00-{look.trace_id}-{parent}-01\r\n\r\n".encode()
        if look.cookies is not None:
            traced = look.cookies.line(request) + traced
        look.answer = answer = await exchange(
            stream,
            self._head(request) + traced + request.body,
            method=request.method,
            body_limit=self._options.body_limit,
            journey=look.journey,
            plain=self._plain,
        )
        return answer

    def _head(self, request: Request) -> bytes:
        if request is not self._request:
            return request.head(keep=self._kept)
        if self._prebuilt is None:
            self._prebuilt = request.head(keep=self._kept)
        return self._prebuilt

    def _next(self, look: Look, request: Request, location: str) -> Request:
        if look.redirects > self._options.redirects:
            raise Fault(Reason.REDIRECT_LIMIT, f"redirects more than {self._options.redirects} times")
        assert look.answer is not None
        look.cookies = look.cookies or _no_cookies()
        look.cookies.take(request, look.answer.head.fields, now_s=self._kit.clock.wall_s())
        try:
            following = redirected(request, location, look.answer.head.status)
        except ValueError as error:
            raise Fault(
                Reason.REDIRECT_INVALID, f'redirects to "{location.partition("?")[0][:100]}": {error}'
            ) from error
        origin = following.origin
        look.journey.note(f"redirect {look.redirects}", following.shown)
        if origin.scheme == "http" and self._options.require_tls:
            raise Fault(Reason.REDIRECT_INVALID, f"redirects from TLS to plain {following.shown}")
        if self._allowed is not None and not self._allowed(origin.host, origin.port):
            raise Fault(Reason.REDIRECT_INVALID, f"redirects to {origin}, which may not be probed")
        if request.origin.scheme == "https" and origin.scheme == "http":
            following = replace(following, private=())
        return following

    async def close(self) -> None:
        if self._held is not None:
            self._held.stream.close()
            self._held = None
