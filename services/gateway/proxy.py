"""The streaming proxy: one request in, at most a few calls out, bytes passed through as they come."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Mapping
from typing import Final

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from services.gateway.pool import Instance, InstancePool
from services.instrumentation.access import client_address
from services.instrumentation.client import BodyAbortedError, CallFailedError, Failure, HttpClient
from services.instrumentation.context import current_request
from services.instrumentation.kit import Instrumentation
from services.instrumentation.problem import ProblemError
from services.instrumentation.retry import RetryBudget

logger = logging.getLogger(__name__)

_HOP_BY_HOP: Final = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
# What a client may not tell an upstream: who it is, where it came from, when we give up.
_OURS: Final = (
    "x-auth-",
    "x-forwarded-",
    "forwarded",
    "x-real-ip",
    "fly-",
    "x-request-deadline-ms",
    "via",
    "x-original-",
    "x-rewrite-",
)
_REPLACED: Final = frozenset(
    ("host", "content-length", "traceparent", "tracestate", "x-request-id", "expect")
)
_REPEATABLE: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_TOTAL_S: Final = 10.0
_IDLE_S: Final = {"auth": 10.0, "asset": 30.0, "chat": 60.0}
_PIECE: Final = 64 * 1024


class Proxy:
    """Passes requests to the pools' instances."""

    def __init__(self, kit: Instrumentation, client: HttpClient) -> None:
        self._kit = kit
        self._client = client
        self._budgets: dict[str, RetryBudget] = {}
        self._retries = kit.metrics.counter(
            "gateway_retries_total", "Calls made again elsewhere.", ("service",)
        )

    async def forward(
        self, request: web.Request, pool: InstancePool, credentials: Mapping[str, str]
    ) -> web.StreamResponse:
        """The upstream's answer, streamed. Raises ProblemError when no instance gives one."""
        budget = self._budgets.setdefault(pool.name, RetryBudget())
        budget.deposit()
        headers = self._request_headers(request, credentials)
        tried: set[Instance] = set()
        while True:
            instance = pool.choose(time.monotonic(), tried)
            if instance is None:
                raise ProblemError(
                    503,
                    f"no instance of {pool.name} is known",
                    reason="no_instance",
                    headers={"Retry-After": "1"},
                )
            tried.add(instance)
            started = request.content.total_bytes if request.can_read_body else 0
            try:
                return await self._pass(request, pool, instance, headers)
            except CallFailedError as error:
                pool.failed(instance, time.monotonic())
                unsent = error.failure in {Failure.CONNECT, Failure.BREAKER}
                again = (unsent and started == 0) or (
                    error.failure is Failure.BROKEN and request.method in _REPEATABLE
                )
                if not again or len(tried) >= len(pool.instances) or not budget.withdraw():
                    raise
                self._retries.labels(pool.name).inc()

    async def _pass(
        self, request: web.Request, pool: InstancePool, instance: Instance, headers: CIMultiDict[str]
    ) -> web.StreamResponse:
        base = instance.upstream.url
        # The raw path goes on byte for byte: decoding and encoding it again is how traversal gets through.
        url = URL(f"{base.scheme}://{base.authority}{request.raw_path}", encoded=True)
        instance.in_flight += 1
        try:
            async with self._client.call(
                instance.upstream,
                request.method,
                url,
                headers=headers,
                data=_body(request),
                timeout_s=_TOTAL_S,
                idle_s=_IDLE_S.get(pool.name, 30.0),
            ) as upstream:
                if upstream.status >= 500:
                    pool.failed(instance, time.monotonic())
                else:
                    pool.succeeded(instance)
                return await self._answer(request, upstream)
        finally:
            instance.in_flight -= 1

    def _request_headers(self, request: web.Request, credentials: Mapping[str, str]) -> CIMultiDict[str]:
        named = _named(request.headers.getall("Connection", []))
        headers: CIMultiDict[str] = CIMultiDict()
        for name, value in request.headers.items():
            low = name.lower()
            if low in _HOP_BY_HOP or low in _REPLACED or low in named or low.startswith(_OURS):
                continue
            headers.add(name, value)
        for name in ("Authorization", "X-API-Key"):
            headers.popall(name, None)
        headers.update(credentials)
        context = current_request.get()
        headers["X-Request-ID"] = context.request_id if context else ""
        headers["X-Forwarded-For"] = client_address(request, on_fly=self._kit.settings.on_fly)
        headers["X-Forwarded-Proto"] = "https" if self._kit.settings.on_fly else request.scheme
        headers["X-Forwarded-Host"] = request.host[:255]
        return headers

    async def _answer(self, request: web.Request, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
        named = _named(upstream.headers.getall("Connection", []))
        response = web.StreamResponse(status=upstream.status, reason=upstream.reason)
        for name, value in upstream.headers.items():
            low = name.lower()
            if low not in _HOP_BY_HOP and low not in named and low not in {"server", "date", "x-request-id"}:
                response.headers.add(name, value)
        context = current_request.get()
        if context is not None:
            response.headers["X-Request-ID"] = context.request_id
        if self._kit.health.draining:
            response.force_close()
        if request.method == "HEAD" or upstream.status in {204, 304}:
            await response.prepare(request)
            return response
        if (length := upstream.content_length) is not None and length <= _PIECE:
            return await _whole(upstream, response)
        await response.prepare(request)
        await _pump(upstream, response)
        return response


async def _whole(upstream: aiohttp.ClientResponse, head: web.StreamResponse) -> web.Response:
    # Small answers leave in one write, and a broken one can still become a proper error.
    try:
        body = await upstream.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ProblemError(502, "the answer broke off", reason="upstream_broken") from error
    head.headers.popall("Content-Length", None)
    response = web.Response(body=body, status=upstream.status, reason=upstream.reason, headers=head.headers)
    if head.keep_alive is False:
        response.force_close()
    return response


async def _pump(upstream: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
    try:
        async for piece in upstream.content.iter_any():
            await response.write(piece)
        await response.write_eof()
    except (aiohttp.ClientPayloadError, TimeoutError) as error:
        # The status is out; only cutting the connection tells the client that this is not the end.
        raise ConnectionAbortedError("the upstream broke off") from error


def _body(request: web.Request) -> AsyncIterator[bytes] | None:
    return _pieces(request) if request.can_read_body else None


async def _pieces(request: web.Request) -> AsyncIterator[bytes]:
    try:
        async for piece in request.content.iter_chunked(_PIECE):
            yield piece
    except (OSError, aiohttp.ClientError, web.HTTPException) as error:
        raise BodyAbortedError from error


def _named(values: list[str]) -> set[str]:
    """The headers a Connection header declares hop-by-hop."""
    return {name.strip().lower() for value in values for name in value.split(",")}
