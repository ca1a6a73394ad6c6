"""Errors as RFC 9457 problem+json, always with the trace id that finds their logs."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from aiohttp import web

from services.instrumentation.context import current_request

_encode = msgspec.json.Encoder().encode


class ProblemError(Exception):
    """Raised by a handler to answer with `status` and a sentence a caller can act on."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        reason: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.reason = reason or HTTPStatus(status).phrase.lower().replace(" ", "_").replace("-", "_")
        self.headers = headers


class UnavailableError(ProblemError):
    """A dependency cannot be reached: 503 with Retry-After."""

    def __init__(self, detail: str, *, reason: str, retry_after_s: float = 1.0) -> None:
        super().__init__(
            503, detail, reason=reason, headers={"Retry-After": str(max(1, round(retry_after_s + 0.49)))}
        )


def problem_response(problem: ProblemError) -> web.Response:
    """The answer to `problem`, with `type`, `title`, `status`, `detail` and the request's `trace_id`."""
    context = current_request.get()
    body = {
        "type": f"urn:gaia:problem:{problem.reason}",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "trace_id": context.trace.trace_id if context else None,
    }
    return web.Response(
        body=_encode(body),
        status=problem.status,
        headers=problem.headers,
        content_type="application/problem+json",
    )


def problem_of(error: web.HTTPException) -> ProblemError:
    """Aiohttp's own errors (404, 405, 413, ...) in the same form."""
    headers = {name: error.headers[name] for name in ("Allow", "Location") if name in error.headers}
    reason = "not_found" if error.status == 404 else ""
    return ProblemError(error.status, error.text or error.reason, reason=reason, headers=headers or None)
