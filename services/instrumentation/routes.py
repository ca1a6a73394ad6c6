"""Routes that describe themselves: one declaration gives the route and its OpenAPI entry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from services.instrumentation.body import read_body
from services.instrumentation.kit import Instrumentation
from services.instrumentation.problem import ProblemError

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Guard = Callable[[Sequence["Operation"]], Middleware]
"""Makes what lets a request through to an operation, or not."""
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One route: what it takes, what it returns, who may call it."""

    method: str
    path: str
    handler: Handler
    summary: str
    body: type[msgspec.Struct] | None = None
    returns: type[msgspec.Struct] | None = None
    status: int = 200
    public: bool = False
    binary: str = ""
    """`in` or `out` when the body or the answer is bytes."""
    query: tuple[tuple[str, str], ...] = ()
    """Optional query parameters and what they mean."""


def application(
    kit: Instrumentation, title: str, operations: Sequence[Operation], *, guard: Guard | None = None
) -> web.Application:
    """`operations` as an application, described, guarded, instrumented; whoever reads a body limits it."""
    app = web.Application(client_max_size=0)
    if guard is not None:
        app.middlewares.append(guard(operations))
    for operation in operations:
        app.router.add_route(operation.method, operation.path, operation.handler)
    kit.description = openapi(title, kit.settings.version, operations)
    kit.attach(app)
    return app


async def parse_body(request: web.Request, kind: type[T]) -> T:
    """The JSON body as `kind`. Raises ProblemError 400, 408, 413, 415 or 422."""
    if request.content_type not in {"application/json", "application/octet-stream"}:
        raise ProblemError(415, "send application/json", reason="unsupported_media_type")
    data = await read_body(request)
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise ProblemError(422, str(error), reason="invalid_body") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProblemError(400, f"not JSON: {error}", reason="malformed_body") from error


def answer(body: object, status: int = 200) -> web.Response:
    return web.Response(body=_encode(body), status=status, content_type="application/json")


def openapi(title: str, version: str, operations: Sequence[Operation]) -> bytes:
    """The OpenAPI 3.1 description of `operations`."""
    kinds = {kind for operation in operations for kind in (operation.body, operation.returns) if kind}
    ordered = sorted(kinds, key=lambda kind: kind.__name__)
    schemas, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    reference = dict(zip(ordered, schemas, strict=True))
    paths: dict[str, dict[str, object]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation, reference)
    return _encode(
        {
            "openapi": "3.1.0",
            "info": {"title": title, "version": version},
            "paths": paths,
            "components": {
                "schemas": {**components, "Problem": _PROBLEM_SCHEMA},
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                },
            },
        }
    )


_PROBLEM_SCHEMA: Final = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "trace_id": {"type": ["string", "null"]},
    },
}


def _describe(
    operation: Operation, reference: dict[type[msgspec.Struct], dict[str, object]]
) -> dict[str, object]:
    success: dict[str, object] = {"description": operation.summary}
    if operation.returns is not None:
        success["content"] = {"application/json": {"schema": reference[operation.returns]}}
    elif operation.binary == "out":
        success["content"] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    problem = {
        "description": "A problem (RFC 9457).",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    names = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    parameters: list[dict[str, object]] = [
        {"name": name.partition(":")[0], "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ]
    parameters += [
        {"name": name, "in": "query", "required": False, "description": text, "schema": {"type": "string"}}
        for name, text in operation.query
    ]
    described: dict[str, object] = {
        "summary": operation.summary,
        "responses": {str(operation.status): success, "4XX": problem, "503": problem},
        "security": [] if operation.public else [{"bearer": []}, {"apiKey": []}],
    }
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        content: dict[str, object] = {"application/json": {"schema": reference[operation.body]}}
        described["requestBody"] = {"required": True, "content": content}
    elif operation.binary == "in":
        content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        described["requestBody"] = {"required": True, "content": content}
    return described
