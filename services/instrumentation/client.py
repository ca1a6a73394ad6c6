"""Outgoing HTTP: trace context, deadline, breaker and metrics around every call to one instance."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

import aiohttp
from multidict import CIMultiDict, istr
from yarl import URL

from services.instrumentation.breaker import Breaker, BreakerOpenError, BreakerPolicy, BreakerState, Permit
from services.instrumentation.deadline import HEADER as DEADLINE
from services.instrumentation.deadline import remaining_s
from services.instrumentation.kit import Instrumentation
from services.instrumentation.problem import ProblemError
from services.instrumentation.tracing import Kind, Span, headers_of

_CONNECT_S: Final = 1.0
_POOL: Final = 512
# Shorter than our servers keep idle connections, so that we never write into one being closed.
_IDLE_S: Final = 15.0
_DEADLINE: Final = istr(DEADLINE)


class Failure(StrEnum):
    """Why a call got no answer."""

    BREAKER = "breaker_open"
    CONNECT = "connect_failed"
    BROKEN = "connection_broken"
    TIMEOUT = "timeout"


class CallFailedError(ProblemError):
    """No answer from the upstream: 503, or 504 when time ran out.

    Nothing was sent if `failure` is BREAKER or CONNECT, so such a call may be made again elsewhere.
    """

    def __init__(self, name: str, failure: Failure, retry_after_s: float = 1.0) -> None:
        timeout = failure is Failure.TIMEOUT
        super().__init__(
            504 if timeout else 503,
            f"{name} did not answer in time" if timeout else f"{name} cannot be reached now",
            reason=f"upstream_{failure.value}",
            headers={"Retry-After": str(max(1, round(retry_after_s + 0.49)))},
        )
        self.failure = failure


class BodyAbortedError(Exception):
    """Raised by the iterator of a request's body when its own source failed: no fault of the upstream."""

    def __init__(self, problem: ProblemError) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class _Request(NamedTuple):
    method: str
    url: URL
    headers: CIMultiDict[str]
    data: bytes | AsyncIterator[bytes] | None
    limit_s: float
    """Ours; what the caller's deadline leaves may be less."""
    idle_s: float | None

    @property
    def streams(self) -> bool:
        """Whether a body of any length comes in pieces: then nobody can say when it will be answered."""
        return self.data is not None and not isinstance(self.data, bytes)


class Upstream:
    """One instance of a service: its address and its breaker."""

    def __init__(self, name: str, url: str, breaker: Breaker) -> None:
        self.name = name
        self.url = URL(url)
        self.origin = str(self.url.origin())
        """Scheme, host and port as they stand before a path; an IPv6 address in brackets."""
        self.address = address_of(self.url)
        self.breaker = breaker


def address_of(url: URL) -> str:
    """Host and port, an IPv6 address in brackets."""
    return f"{url.host_subcomponent}:{url.port}"


class HttpClient:
    """A pool of connections shared by all upstreams of one service."""

    def __init__(self, kit: Instrumentation) -> None:
        self._kit = kit
        self._session: aiohttp.ClientSession | None = None
        labels = ("upstream", "server_address")
        metrics = kit.metrics
        self._state = metrics.gauge("circuit_breaker_state", "0 closed, 1 half open, 2 open.", labels)
        self._transitions = metrics.counter(
            "circuit_breaker_transitions_total", "Changes of state.", (*labels, "to")
        )
        self._rejected = metrics.counter("circuit_breaker_rejected_total", "Calls not made.", labels)
        kit.on_close(self.close)

    def upstream(self, name: str, url: str, policy: BreakerPolicy | None = None) -> Upstream:
        """An instance with its own breaker, whose state and transitions are series."""
        address = address_of(URL(url))
        gauge = self._state.labels(name, address)
        gauge.set(0)

        def changed(_before: BreakerState, after: BreakerState) -> None:
            gauge.set(after.number)
            self._transitions.labels(name, address, after.value).inc()

        return Upstream(
            name, url, Breaker(policy, jitter=lambda: random.uniform(-1, 1), on_transition=changed)
        )

    def forget(self, upstream: Upstream) -> None:
        """Drop the series of an instance that is gone: addresses come and go with every deployment."""
        names = (upstream.name, upstream.address)
        for state in BreakerState:
            self._transitions.remove(*names, state.value)
        self._state.remove(*names)
        self._rejected.remove(*names)
        self._kit.metrics.client.remove(lambda labels: labels[1] == upstream.address)

    def call(
        self,
        upstream: Upstream,
        method: str,
        url: URL,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | AsyncIterator[bytes] | None = None,
        timeout_s: float = 10.0,
        idle_s: float | None = 30.0,
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """The response once its headers are there; the body streams, `idle_s` at most between two pieces.

        Without `idle_s` the caller watches the body: a timer of aiohttp's own costs 10 us a call.
        Entering raises CallFailedError. A cancelled call is no evidence against the upstream.
        """
        sent = CIMultiDict(headers or ())
        return _Call(self, upstream, _Request(method, url, sent, data, timeout_s, idle_s))

    async def send(self, upstream: Upstream, request: _Request) -> aiohttp.ClientResponse:
        """The response's head. Raises CallFailedError."""
        try:
            permit = upstream.breaker.acquire(time.monotonic())
        except BreakerOpenError as error:
            self._rejected.labels(upstream.name, upstream.address).inc()
            raise CallFailedError(upstream.name, Failure.BREAKER, error.retry_after_s) from None
        limit_s = remaining_s(request.limit_s)
        with self._kit.tracer.span(request.method, Kind.CLIENT) as span:
            span.set("server.address", upstream.address)
            span.set("http.request.method", request.method)
            request.headers.update(headers_of(span.context))
            if limit_s < request.limit_s or not request.streams:
                request.headers[_DEADLINE] = str(int(limit_s * 1000))
            return await self._request(upstream, permit, request, span=span, limit_s=limit_s)

    async def _request(
        self, upstream: Upstream, permit: Permit, request: _Request, *, span: Span, limit_s: float
    ) -> aiohttp.ClientResponse:
        """Send, and settle the permit one way or another before returning or raising."""
        breaker, start_s = upstream.breaker, time.monotonic()
        status, error_type = "", "cancelled"
        try:
            response = await self._exchange(request, limit_s)
            status = str(response.status)
            now = time.monotonic()
            error_type = status if response.status >= 500 else ""
            settle = breaker.fail if error_type else breaker.succeed
            settle(permit, now, now - start_s)
            span.set("http.response.status_code", response.status)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            if isinstance(error.__cause__, BodyAbortedError):
                raise error.__cause__.problem from error
            failure = _failure_of(error)
            error_type = failure.value
            # A caller that left it no time says nothing about the upstream.
            if failure is not Failure.TIMEOUT or limit_s >= request.limit_s:
                now = time.monotonic()
                breaker.fail(permit, now, now - start_s)
            raise CallFailedError(upstream.name, failure) from error
        else:
            return response
        finally:
            breaker.release(permit)  # Whoever was not settled above: cancelled, or no evidence.
            if error_type:
                span.fail(error_type)
            self._kit.metrics.client.observe(
                (request.method, upstream.address, status, error_type), time.monotonic() - start_s
            )

    async def _exchange(self, request: _Request, limit_s: float) -> aiohttp.ClientResponse:
        """`limit_s` from now, or from the last piece of a body that is on its way."""
        async with asyncio.timeout(limit_s) as limit:
            data = request.data
            if data is not None and not isinstance(data, bytes) and limit_s >= request.limit_s:
                data = _prolonging(data, limit, limit_s)
            return await self._open().request(
                request.method,
                request.url,
                headers=request.headers,
                data=data,
                allow_redirects=False,
                timeout=_timeout(request.idle_s),
            )

    @asynccontextmanager
    async def probe(self, url: URL, timeout_s: float) -> AsyncIterator[aiohttp.ClientResponse]:
        """A GET past breaker, trace and metrics: a question about the upstream. Raises CallFailedError."""
        name = address_of(url)
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._open().get(
                    url,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
                ) as response,
            ):
                yield response
        except TimeoutError as error:
            raise CallFailedError(name, Failure.TIMEOUT) from error
        except aiohttp.ClientConnectorError as error:
            raise CallFailedError(name, Failure.CONNECT) from error
        except (aiohttp.ClientError, OSError) as error:
            raise CallFailedError(name, Failure.BROKEN) from error

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=_POOL, limit_per_host=0, keepalive_timeout=_IDLE_S, ssl=self._tls()
                ),
                # The body passes through as it is: decoded bytes under an encoded header break the client.
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent", "Accept-Encoding", "Accept"),
            )
        return self._session

    def _tls(self) -> ssl.SSLContext | bool:
        settings = self._kit.settings
        if settings.tls_ca is None:
            return True
        context = ssl.create_default_context(cafile=settings.tls_ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return context

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


class _Call:
    """One call as an `async with` block; a generator's would cost two microseconds more."""

    __slots__ = ("_client", "_request", "_response", "_upstream")

    def __init__(self, client: HttpClient, upstream: Upstream, request: _Request) -> None:
        self._client = client
        self._upstream = upstream
        self._request = request
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> aiohttp.ClientResponse:
        self._response = await self._client.send(self._upstream, self._request)
        return self._response

    async def __aexit__(self, *_error: object) -> None:
        if self._response is not None:
            # Unread bytes make the connection useless for the next call: release closes it then.
            self._response.release()


async def _prolonging(
    pieces: AsyncIterator[bytes], limit: asyncio.Timeout, limit_s: float
) -> AsyncIterator[bytes]:
    """The same pieces. Each shows that the upstream still reads; the source has its own limit."""
    loop = asyncio.get_running_loop()

    def until(when_s: float | None) -> None:
        with suppress(RuntimeError):  # The answer may come, and end the limit, before the body does.
            limit.reschedule(when_s)

    until(None)
    async for piece in pieces:
        until(loop.time() + limit_s)
        yield piece
        until(None)
    until(loop.time() + limit_s)


@lru_cache(maxsize=32)
def _timeout(idle_s: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=idle_s)


def _failure_of(error: Exception) -> Failure:
    # aiohttp's ServerTimeoutError is a TimeoutError; TimeoutError itself is an OSError.
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return Failure.CONNECT
    return Failure.TIMEOUT if isinstance(error, TimeoutError) else Failure.BROKEN
