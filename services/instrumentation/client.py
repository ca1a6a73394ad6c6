"""Outgoing HTTP: trace context, deadline, breaker and metrics around every call to one instance."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import aiohttp
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
    """Raised by the iterator of a request's body when its own source broke off: no fault of the upstream."""


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    url: URL
    headers: Mapping[str, str]
    data: bytes | AsyncIterator[bytes] | None
    limit_s: float
    idle_s: float
    own_limit: bool
    """Whether the limit is ours, not what a caller's deadline left."""


class Upstream:
    """One instance of a service: its address and its breaker."""

    def __init__(self, name: str, url: str, breaker: Breaker) -> None:
        self.name = name
        self.url = URL(url)
        self.address = f"{self.url.host}:{self.url.port}"
        self.breaker = breaker


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
        address = f"{URL(url).host}:{URL(url).port}"
        gauge = self._state.labels(name, address)
        gauge.set(0)

        def changed(_before: BreakerState, after: BreakerState) -> None:
            gauge.set(after.number)
            self._transitions.labels(name, address, after.value).inc()

        return Upstream(
            name, url, Breaker(policy, jitter=lambda: random.uniform(-1, 1), on_transition=changed)
        )

    @asynccontextmanager
    async def call(
        self,
        upstream: Upstream,
        method: str,
        url: URL,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | AsyncIterator[bytes] | None = None,
        timeout_s: float = 10.0,
        idle_s: float = 30.0,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response once its headers are there; the body streams, `idle_s` at most between two pieces.

        Raises CallFailedError. A cancelled call is no evidence against the upstream.
        """
        try:
            permit = upstream.breaker.acquire(time.monotonic())
        except BreakerOpenError as error:
            self._rejected.labels(upstream.name, upstream.address).inc()
            raise CallFailedError(upstream.name, Failure.BREAKER, error.retry_after_s) from None
        limit_s = remaining_s(timeout_s)
        with self._kit.tracer.span(method, Kind.CLIENT) as span:
            span.set("server.address", upstream.address)
            span.set("http.request.method", method)
            sent = {**(headers or {}), **headers_of(span.context), DEADLINE: str(int(limit_s * 1000))}
            request = _Request(method, url, sent, data, limit_s, idle_s, own_limit=limit_s >= timeout_s)
            response = await self._request(upstream, permit, request, span)
        try:
            yield response
        finally:
            # Unread bytes make the connection useless for the next call: release closes it then.
            response.release()

    async def _request(
        self, upstream: Upstream, permit: Permit, request: _Request, span: Span
    ) -> aiohttp.ClientResponse:
        """Send, and settle the permit one way or another before returning or raising."""
        breaker, start_s = upstream.breaker, time.monotonic()
        status, error_type = "", "cancelled"
        try:
            response = await self._send(request)
            status = str(response.status)
            now = time.monotonic()
            error_type = status if response.status >= 500 else ""
            settle = breaker.fail if error_type else breaker.succeed
            settle(permit, now, now - start_s)
            span.set("http.response.status_code", response.status)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            if isinstance(error.__cause__, BodyAbortedError):
                raise ProblemError(400, "the body broke off", reason="body_aborted") from error
            failure = _failure_of(error)
            error_type = failure.value
            # A caller that left it no time says nothing about the upstream.
            if failure is not Failure.TIMEOUT or request.own_limit:
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

    async def _send(self, request: _Request) -> aiohttp.ClientResponse:
        async with asyncio.timeout(request.limit_s):
            return await self._open().request(
                request.method,
                request.url,
                headers=request.headers,
                data=request.data,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=request.idle_s),
            )

    @asynccontextmanager
    async def probe(self, url: URL, timeout_s: float) -> AsyncIterator[aiohttp.ClientResponse]:
        """A GET past breaker, trace and metrics: a question about the upstream. Raises CallFailedError."""
        name = f"{url.host}:{url.port}"
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


def _failure_of(error: Exception) -> Failure:
    # aiohttp's ServerTimeoutError is a TimeoutError; TimeoutError itself is an OSError.
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return Failure.CONNECT
    return Failure.TIMEOUT if isinstance(error, TimeoutError) else Failure.BROKEN
