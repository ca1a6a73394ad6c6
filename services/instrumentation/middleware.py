"""What happens around every request: trace, deadline, duration, access line, and errors as problem+json."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from services.instrumentation.context import (
    RequestContext,
    child_of,
    current_request,
    current_trace,
    parse_traceparent,
)
from services.instrumentation.deadline import HEADER as DEADLINE
from services.instrumentation.deadline import parse_deadline_s
from services.instrumentation.faults import PATH as FAULT_PATH
from services.instrumentation.faults import FaultSwitch
from services.instrumentation.health import Health
from services.instrumentation.logs import AccessLine, LineWriter, access_fields, encode, timestamp
from services.instrumentation.metrics import UNMATCHED, Metrics, known_method
from services.instrumentation.problem import ProblemError, problem_of, problem_response
from services.instrumentation.settings import Settings
from services.instrumentation.tracing import Span, Tracer

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

QUIET: Final = frozenset(("/livez", "/readyz", "/startupz", "/health", "/metrics"))
"""Never traced, counted or logged: probes would drown the traffic they watch."""
_CLIENT_CLOSED: Final = 499
_ID_LENGTH: Final = 64


class RequestMiddleware:
    """The outermost middleware of an instrumented application. Costs a few microseconds a request."""

    def __init__(
        self,
        settings: Settings,
        *,
        metrics: Metrics,
        tracer: Tracer,
        health: Health,
        access: LineWriter | None,
        faults: FaultSwitch | None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._tracer = tracer
        self._health = health
        self._access = access
        self._faults = faults
        self._service = settings.service
        self._environment = settings.environment.value

    def build(self) -> Middleware:
        @web.middleware
        async def instrument(request: web.Request, handler: Handler) -> web.StreamResponse:
            path = request.path
            if path in QUIET or path == FAULT_PATH:
                return await self._quiet(request, handler)
            return await self._measured(request, handler)

        return instrument

    async def _quiet(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if self._faults is not None and request.path not in {"/metrics", FAULT_PATH}:
                await self._faults.apply(health=True)
            return await handler(request)
        except ProblemError as problem:
            return problem_response(problem)
        except web.HTTPException as error:
            return problem_response(problem_of(error))

    async def _measured(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        start_s = time.monotonic()
        headers = request.headers
        given = headers.get("traceparent")
        parent = None if given is None else parse_traceparent(given, headers.get("tracestate", ""))
        method = known_method(request.method)
        trace = child_of(parent, ratio=self._tracer.ratio)
        context = RequestContext(trace, _request_id(headers.get("X-Request-ID"), trace.trace_id))
        if DEADLINE in headers:
            context.deadline_s = parse_deadline_s(headers, start_s)
        resource = request.match_info.route.resource
        if resource is not None:
            context.route = resource.canonical
        span = self._tracer.server_span(method, trace, parent)
        request_token, trace_token = current_request.set(context), current_trace.set(trace)
        self._metrics.began(method)
        status, error_type, response = _CLIENT_CLOSED, "cancelled", None
        try:
            if self._faults is None and context.deadline_s is None:
                response = await handler(request)
            else:
                response = await self._limited(request, handler, context)
            error_type = str(response.status) if response.status >= 500 else ""
        except Exception as error:
            response, error_type = self._failed(error, request, context)
        finally:
            self._metrics.ended(method)
            spent_s = time.monotonic() - start_s
            if response is not None:
                status = response.status
            exemplar = trace.trace_id if trace.flags & 1 else None
            self._metrics.observe_request(method, context.route, status, error_type, spent_s, exemplar)
            if span is not None:
                self._describe(span, request, context, status=status, error_type=error_type)
            if self._access is not None:
                self._log(
                    request, context, status=status, error_type=error_type, spent_s=spent_s, sent=response
                )
            current_trace.reset(trace_token)
            current_request.reset(request_token)
        if not response.prepared:
            response.headers["X-Request-ID"] = context.request_id
            if self._health.draining:
                response.force_close()
        return response

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
        attributes["client.address"] = client_address(request, on_fly=self._settings.on_fly)
        if context.identity.subject:
            attributes["enduser.id"] = context.identity.subject
        if error_type:
            attributes["error.type"] = error_type
            if status >= 500:
                span.fail(error_type)
        span.finish()

    def _log(
        self,
        request: web.Request,
        context: RequestContext,
        *,
        status: int,
        error_type: str,
        spent_s: float,
        sent: web.StreamResponse | None,
    ) -> None:
        access = self._access
        if access is None:
            return
        result, reason = access_fields(context)
        identity, trace = context.identity, context.trace
        redact = access.redactor.redact
        line = AccessLine(
            timestamp=timestamp(time.time()),
            level="INFO",
            service=self._service,
            environment=self._environment,
            method=request.method[:20],
            route=context.route,
            path=redact(request.path[:256]),
            status=status,
            duration_ms=round(spent_s * 1000, 3),
            bytes_sent=_length(sent),
            client=client_address(request, on_fly=self._settings.on_fly),
            request_id=redact(context.request_id),
            trace_id=trace.trace_id,
            span_id=trace.span_id,
            auth_type=identity.kind,
            auth_subject=redact(identity.subject),
            auth_key_id=identity.key_id,
            auth_scopes=identity.scopes,
            auth_result=result,
            auth_reason=reason,
            error_type=error_type,
        )
        try:
            access.write_clean(encode(line))
        except UnicodeEncodeError:
            # A path with lone surrogates: percent-encoded it says the same.
            access.write_clean(encode(_ascii_path(line, redact(request.raw_path))))


def _ascii_path(line: AccessLine, raw_path: str) -> AccessLine:
    return msgspec.structs.replace(line, path=raw_path.encode("ascii", "backslashreplace").decode()[:256])


def client_address(request: web.Request, *, on_fly: bool) -> str:
    """The client's address. Fly's proxy is believed on Fly only; nobody else's header ever is."""
    if on_fly and (address := request.headers.get("Fly-Client-IP")):
        return address[:64]
    return request.remote or ""


def _request_id(given: str | None, trace_id: str) -> str:
    """The caller's request id when it is a sane token, else the trace id."""
    if given and len(given) <= _ID_LENGTH and given.isascii() and given.replace("-", "").isalnum():
        return given
    return trace_id


def _length(response: web.StreamResponse | None) -> int:
    if response is None:
        return 0
    return response.body_length if response.prepared else response.content_length or 0
