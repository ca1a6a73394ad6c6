"""Outgoing HTTP: trace context, deadline, breaker and metrics around every call to one instance."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Final

import aiohttp
from yarl import URL

from services.instrumentation.breaker import Breaker, BreakerOpenError, BreakerPolicy, BreakerState
from services.instrumentation.deadline import HEADER as DEADLINE
from services.instrumentation.deadline import remaining_s
from services.instrumentation.kit import Instrumentation
from services.instrumentation.problem import ProblemError
from services.instrumentation.tracing import Kind, headers_of

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
    """No answer from the upstream: 503, or 504 when time ran out. Nothing was sent if `failure` is BREAKER or
    CONNECT, so such a call may be made again elsewhere.
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

        def changed(before: BreakerState, after: BreakerState) -> None:
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
        start_s = time.monotonic()
        limit_s = remaining_s(timeout_s)
        settled = False
        status, error_type = "", ""
        with self._kit.tracer.span(method, Kind.CLIENT) as span:
            span.set("server.address", upstream.address)
            span.set("http.request.method", method)
            sent = {**(headers or {}), **headers_of(span.context), DEADLINE: str(int(limit_s * 1000))}
            try:
                async with asyncio.timeout(limit_s):
                    response = await self._open().request(
                        method, url, headers=sent, data=data, allow_redirects=False,
                        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=idle_s),
                    )  # fmt: skip
                status = str(response.status)
                spent_s = time.monotonic() - start_s
                settled = True
                if response.status >= 500:
                    error_type = status
                    upstream.breaker.fail(permit, time.monotonic(), spent_s)
                else:
                    upstream.breaker.succeed(permit, time.monotonic(), spent_s)
                span.set("http.response.status_code", response.status)
            except TimeoutError as error:
                settled, error_type = True, Failure.TIMEOUT.value
                # The caller's own deadline says little about the upstream when it left it no time.
                upstream.breaker.fail(permit, time.monotonic(), time.monotonic() - start_s)
                raise CallFailedError(upstream.name, Failure.TIMEOUT) from error
            except aiohttp.ClientConnectorError as error:
                settled, error_type = True, Failure.CONNECT.value
                upstream.breaker.fail(permit, time.monotonic(), time.monotonic() - start_s)
                raise CallFailedError(upstream.name, Failure.CONNECT) from error
            except (aiohttp.ClientError, OSError) as error:
                settled, error_type = True, Failure.BROKEN.value
                upstream.breaker.fail(permit, time.monotonic(), time.monotonic() - start_s)
                raise CallFailedError(upstream.name, Failure.BROKEN) from error
            finally:
                if not settled:
                    upstream.breaker.release(permit)
                    error_type = "cancelled"
                if error_type:
                    span.fail(error_type)
                self._kit.metrics.client.labels(method, upstream.address, status, error_type).observe(
                    time.monotonic() - start_s
                )
        try:
            yield response
        finally:
            # Unread bytes make the connection useless for the next call: release closes it then.
            response.release()

    @asynccontextmanager
    async def probe(self, url: URL, timeout_s: float) -> AsyncIterator[aiohttp.ClientResponse]:
        """A GET past breaker, trace and metrics, for questions about the upstream itself. Raises CallFailedError."""
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
