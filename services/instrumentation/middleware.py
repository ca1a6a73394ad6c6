"""What happens around every request: trace, deadline, duration, access line, and errors as problem+json."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware
from multidict import istr

from services.instrumentation.access import AccessLog, client_address
from services.instrumentation.context import (
    RequestContext,
    TraceContext,
    child_of,
    current_request,
    parse_traceparent,
)
from services.instrumentation.deadline import HEADER as DEADLINE
from services.instrumentation.deadline import parse_deadline_s
from services.instrumentation.faults import PATH as FAULT_PATH
from services.instrumentation.faults import FaultSwitch
from services.instrumentation.health import Health
from services.instrumentation.metrics import UNMATCHED, Metrics, known_method
from services.instrumentation.problem import ProblemError, problem_of, problem_response
from services.instrumentation.tracing import Span, Tracer

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

QUIET: Final = frozenset(("/livez", "/readyz", "/startupz", "/health", "/metrics"))
"""Never traced, counted or logged: probes would drown the traffic they watch."""
_CLIENT_CLOSED: Final = 499
_ID_LENGTH: Final = 64
# Ready for multidict: a plain string is folded anew at each look-up.
_TRACEPARENT: Final = istr("traceparent")
_TRACESTATE: Final = istr("tracestate")
_REQUEST_ID: Final = istr("X-Request-ID")
_DEADLINE: Final = istr(DEADLINE)


class RequestMiddleware:
    """The outermost middleware of an instrumented application. Costs a few microseconds a request."""

    def __init__(
        self,
        *,
        metrics: Metrics,
        tracer: Tracer,
        health: Health,
        access: AccessLog | None,
        faults: FaultSwitch | None,
        on_fly: bool,
    ) -> None:
        self._metrics = metrics
        self._tracer = tracer
        self._health = health
        self._access = access
        self._faults = faults
        self._on_fly = on_fly
        # What a route is called, and whether it is one of ours; one entry for each of the application's.
        self._routes: dict[web.AbstractRoute, tuple[str, bool]] = {}

    def build(self) -> Middleware:
        @web.middleware
        async def instrument(request: web.Request, handler: Handler) -> web.StreamResponse:
            route = request.match_info.route
            known = self._routes.get(route) or self._route(route)
            if known[1]:
                return await self._quiet(request, handler)
            start_s = time.monotonic()
            context, parent = self._begin(request, start_s)
            context.route = known[0]
            # aiohttp runs each request in a task and a context of its own: there is nothing to reset.
            current_request.set(context)
            method = known_method(request.method)
            span = self._tracer.server_span(method, context.trace, parent)
            answering = self._metrics.answering
            if method not in answering:
                self._metrics.count_active(method)
            answering[method] += 1
            try:
                if self._faults is None and context.deadline_s is None:
                    response = await handler(request)
                else:
                    response = await self._limited(request, handler, context)
                error_type = str(response.status) if response.status >= 500 else ""
            except Exception as error:
                response, error_type = self._failed(error, request, context)
            except BaseException:
                answering[method] -= 1
                self._end(request, context, span, start_s, "cancelled", None)
                raise
            answering[method] -= 1
            self._end(request, context, span, start_s, error_type, response)
            if not response.prepared:
                response.headers[_REQUEST_ID] = context.request_id
                if self._health.draining:
                    response.force_close()
            return response

        return instrument

    def _route(self, route: web.AbstractRoute) -> tuple[str, bool]:
        resource = route.resource
        if resource is None:
            # aiohttp makes a new one for each unmatched request: not to be remembered.
            return UNMATCHED, False
        name = resource.canonical
        known = self._routes[route] = (name, name in QUIET or name == FAULT_PATH)
        return known

    async def _quiet(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if self._faults is not None and request.path not in {"/metrics", FAULT_PATH}:
                await self._faults.apply(health=True)
            return await handler(request)
        except ProblemError as problem:
            return problem_response(problem)
        except web.HTTPException as error:
            return problem_response(problem_of(error))

    def _begin(self, request: web.Request, start_s: float) -> tuple[RequestContext, TraceContext | None]:
        """What the caller's headers say about the request, and the span it hangs on."""
        headers = request.headers
        given = headers.get(_TRACEPARENT)
        parent = None if given is None else parse_traceparent(given, headers.get(_TRACESTATE, ""))
        trace = child_of(parent, ratio=self._tracer.ratio)
        given = headers.get(_REQUEST_ID)
        context = RequestContext(
            trace, trace.trace_id if given is None else _request_id(given, trace.trace_id)
        )
        if _DEADLINE in headers:
            context.deadline_s = parse_deadline_s(headers, start_s)
        return context, parent

    def _end(
        self,
        request: web.Request,
        context: RequestContext,
        span: Span | None,
        start_s: float,
        error_type: str,
        response: web.StreamResponse | None,
    ) -> None:
        """Tell metrics, trace and access log of a request that was answered or left."""
        spent_s = time.monotonic() - start_s
        status = _CLIENT_CLOSED if response is None else response.status
        trace = context.trace
        self._metrics.server.observe(
            (known_method(request.method), context.route, status, error_type),
            spent_s,
            trace.trace_id if trace.flags & 1 else None,
        )
        if span is not None:
            self._describe(span, request, context, status=status, error_type=error_type)
        if self._access is not None:
            self._access.note(
                request, context, status=status, error_type=error_type, spent_s=spent_s, response=response
            )

    async def _limited(
        self, request: web.Request, handler: Handler, context: RequestContext
    ) -> web.StreamResponse:
        """The handler under the caller's deadline and the fault in force."""
        # asyncio's loops count the same clock as time.monotonic().
        async with asyncio.timeout_at(context.deadline_s):
            if self._faults is not None:
                await self._faults.apply(health=False)
            return await handler(request)

    def _failed(
        self, error: Exception, request: web.Request, context: RequestContext
    ) -> tuple[web.StreamResponse, str]:
        """The answer to an exception, and the error type for metrics: empty when it is the client's."""
        error_type = ""
        response: web.StreamResponse
        if isinstance(error, ProblemError):
            response = problem_response(error)
            if error.status >= 500:
                error_type = error.reason
            else:
                self._metrics.refused.labels(error.reason).inc()
        elif isinstance(error, web.HTTPException):
            if error.status < 400:
                return web.Response(status=error.status, headers=error.headers, text=error.text), ""
            response = problem_response(problem_of(error))
            self._metrics.refused.labels(str(error.status)).inc()
        elif isinstance(error, ConnectionResetError):
            # The client went away while we were streaming to it: not an error of ours.
            response, error_type = web.Response(status=_CLIENT_CLOSED), "cancelled"
        else:
            response, error_type = self._unexpected(error, request, context)
        if request.writer.output_size > 0 and request.transport is not None:
            # A stream broke off: the client must see that, not a second response inside the first.
            request.transport.abort()
        return response, error_type

    def _unexpected(
        self, error: Exception, request: web.Request, context: RequestContext
    ) -> tuple[web.StreamResponse, str]:
        late = context.deadline_s is not None and time.monotonic() >= context.deadline_s
        if isinstance(error, TimeoutError) and late:
            problem = ProblemError(504, "the caller's deadline passed", reason="deadline_exceeded")
            return problem_response(problem), "deadline_exceeded"
        logger.error(
            "request.failed", extra={"route": context.route, "method": request.method}, exc_info=error
        )
        problem = ProblemError(500, "an unexpected error; its log carries this trace_id")
        return problem_response(problem), type(error).__name__

    def _describe(
        self, span: Span, request: web.Request, context: RequestContext, *, status: int, error_type: str
    ) -> None:
        if context.route != UNMATCHED:
            span.name = f"{span.name} {context.route}"
        attributes = span.attributes
        attributes["http.request.method"] = known_method(request.method)
        attributes["http.response.status_code"] = status
        attributes["url.scheme"] = request.scheme
        attributes["url.path"] = request.path
        attributes["http.route"] = context.route
        attributes["client.address"] = client_address(request, on_fly=self._on_fly)
        if context.identity.subject:
            attributes["enduser.id"] = context.identity.subject
        if error_type:
            attributes["error.type"] = error_type
            if status >= 500:
                span.fail(error_type)
        span.finish()


def _request_id(given: str, trace_id: str) -> str:
    """The caller's request id when it is a sane token, else the trace id."""
    if len(given) <= _ID_LENGTH and given.isascii() and given.replace("-", "").isalnum():
        return given
    return trace_id
