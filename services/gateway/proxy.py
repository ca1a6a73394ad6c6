"""The streaming proxy: one request in, at most a few calls out, bytes passed through as they come."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from functools import lru_cache
from typing import Final

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, MultiMapping, istr
from yarl import URL

from services.gateway.pool import Instance, InstancePool
from services.gateway.relay import Relay
from services.instrumentation.access import client_address
from services.instrumentation.body import body_pieces
from services.instrumentation.client import BodyAbortedError, CallFailedError, Failure, HttpClient
from services.instrumentation.context import current_request
from services.instrumentation.kit import Instrumentation
from services.instrumentation.problem import ProblemError
from services.instrumentation.retry import RetryBudget
from services.instrumentation.settings import duration

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
    (
        "authorization",
        "content-length",
        "expect",
        "host",
        "traceparent",
        "tracestate",
        "x-api-key",
        "x-request-id",
    )
)
_RESET: Final = frozenset(("server", "date", "x-request-id"))
_PLAIN_CONNECTION: Final = frozenset(("keep-alive", "close", ""))
_CONNECTION: Final = istr("Connection")
_CONTENT_LENGTH: Final = istr("Content-Length")
_REQUEST_ID: Final = istr("X-Request-ID")
_FORWARDED_FOR: Final = istr("X-Forwarded-For")
_FORWARDED_PROTO: Final = istr("X-Forwarded-Proto")
_FORWARDED_HOST: Final = istr("X-Forwarded-Host")
_REPEATABLE: Final = frozenset(("GET", "HEAD", "OPTIONS"))
_TOTAL_S: Final = 10.0
_IDLE_S: Final = {"auth": 10.0, "asset": 30.0, "chat": 60.0}
_PIECE: Final = 64 * 1024


class Proxy:
    """Passes requests to the pools' instances."""

    def __init__(self, kit: Instrumentation, client: HttpClient) -> None:
        self._kit = kit
        self._client = client
        self.relay = Relay()
        self._budgets: dict[str, RetryBudget] = {}
        # A chat's events may pause for longer than a download.
        options = kit.settings.options
        self._idle_s = {name: duration(options, "UPSTREAM_IDLE", idle_s) for name, idle_s in _IDLE_S.items()}
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
        # The raw path goes on byte for byte: decoding and encoding it again is how traversal gets through.
        url = URL(instance.upstream.origin + request.raw_path, encoded=True)
        instance.in_flight += 1
        try:
            async with self._client.call(
                instance.upstream,
                request.method,
                url,
                headers=headers,
                data=_body(request),
                timeout_s=_TOTAL_S,
                idle_s=None,
            ) as upstream:
                if upstream.status >= 500:
                    pool.failed(instance, time.monotonic())
                else:
                    pool.succeeded(instance)
                return await self._answer(request, upstream, self._idle_s[pool.name])
        finally:
            instance.in_flight -= 1

    def _request_headers(self, request: web.Request, credentials: Mapping[str, str]) -> CIMultiDict[str]:
        given = request.headers
        headers = _passed(given, _may_pass_up)
        headers.update(credentials)
        context = current_request.get()
        headers[_REQUEST_ID] = context.request_id if context else ""
        on_fly = self._kit.settings.on_fly
        headers[_FORWARDED_FOR] = client_address(request, on_fly=on_fly)
        headers[_FORWARDED_PROTO] = "https" if on_fly else request.scheme
        headers[_FORWARDED_HOST] = request.host[:255]
        return headers

    async def _answer(
        self, request: web.Request, upstream: aiohttp.ClientResponse, idle_s: float
    ) -> web.StreamResponse:
        headers = _passed(upstream.headers, _may_pass_down)
        context = current_request.get()
        if context is not None:
            headers[_REQUEST_ID] = context.request_id
        bodiless = request.method == "HEAD" or upstream.status in {204, 304}
        length = upstream.content_length
        response: web.StreamResponse
        if not bodiless and length is not None and length <= _PIECE:
            response = await _whole(upstream, headers, idle_s)
        else:
            response = web.StreamResponse(status=upstream.status, reason=upstream.reason, headers=headers)
        if self._kit.health.draining:
            response.force_close()
        if not isinstance(response, web.Response):
            await response.prepare(request)
            if not bodiless:
                await self.relay.pass_on(upstream, response, idle_s)
        return response


def _passed(headers: MultiMapping[str], may_pass: Callable[[str], bool]) -> CIMultiDict[str]:
    """A copy without what belongs to one connection, or what `may_pass` refuses."""
    passed = CIMultiDict([pair for pair in headers.items() if may_pass(pair[0])])
    for value in headers.getall(_CONNECTION, ()):
        if value.lower() not in _PLAIN_CONNECTION:
            for name in value.split(","):
                passed.popall(name.strip(), None)
    return passed


# The same few names come again and again: what becomes of each is decided once.
@lru_cache(maxsize=512)
def _may_pass_up(name: str) -> bool:
    low = name.lower()
    return not (low in _HOP_BY_HOP or low in _REPLACED or low.startswith(_OURS))


@lru_cache(maxsize=512)
def _may_pass_down(name: str) -> bool:
    low = name.lower()
    return not (low in _HOP_BY_HOP or low in _RESET)


async def _whole(upstream: aiohttp.ClientResponse, headers: CIMultiDict[str], idle_s: float) -> web.Response:
    # Small answers leave in one write, and a broken one can still become a proper error.
    try:
        if upstream.content.is_eof():
            body = await upstream.read()  # It came with the head: no need for a timer.
        else:
            async with asyncio.timeout(idle_s):
                body = await upstream.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ProblemError(502, "the answer broke off", reason="upstream_broken") from error
    headers.popall(_CONTENT_LENGTH, None)
    return web.Response(body=body, status=upstream.status, reason=upstream.reason, headers=headers)


def _body(request: web.Request) -> AsyncIterator[bytes] | None:
    return _pieces(request) if request.can_read_body else None


async def _pieces(request: web.Request) -> AsyncIterator[bytes]:
    try:
        async for piece in body_pieces(request, _PIECE):
            yield piece
    except ProblemError as error:
        raise BodyAbortedError(error) from error
    except (OSError, aiohttp.ClientError, web.HTTPException) as error:
        raise BodyAbortedError(ProblemError(400, "the body broke off", reason="body_aborted")) from error
