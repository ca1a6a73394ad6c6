"""`/api/v1/openapi.json`: OpenAPI 3.1, written from the routes and the very types they answer with."""

from __future__ import annotations

import inspect
import re
from functools import cache, partial

import msgspec

from agent.web.exchange import Answer, Asked, Problem
from agent.web.routes import Route
from agent.web.source import Source

_REFERENCE = "#/components/schemas/{name}"


def openapi_route(routes: tuple[Route, ...]) -> Route:
    """The route that describes `routes`."""
    # Written when first asked for: few agents ever are.
    described = cache(partial(document, routes))

    async def openapi(_: Source, __: Asked) -> Answer:
        """This description."""
        return Answer(body=described())

    return Route(path="/api/v1/openapi.json", handler=openapi)


def document(routes: tuple[Route, ...]) -> bytes:
    """The description of `routes` as JSON."""
    types = {kind for route in routes for kind in (route.answer, route.body) if kind is not None}
    ordered = sorted({*types, Problem}, key=lambda kind: kind.__name__)
    references, schemas = msgspec.json.schema_components(ordered, ref_template=_REFERENCE)
    by_type = dict(zip(ordered, references, strict=True))
    paths: dict[str, dict[str, object]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_type)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "gaia agent",
                "version": "1",
                "description": "Points in time are seconds since 1970 UTC; durations are seconds; null is "
                '"not measured". Fields are added, never renamed or removed.',
            },
            "paths": paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            },
        }
    )


def _operation(route: Route, references: dict[type, dict[str, object]]) -> dict[str, object]:
    refusal = {"application/problem+json": {"schema": references[Problem]}}
    answer: dict[str, object] = {"description": "As described."}
    if route.answer is not None:
        answer["content"] = {"application/json": {"schema": references[route.answer]}}
    operation: dict[str, object] = {
        "summary": (inspect.getdoc(route.handler) or "").split("\n\n")[0],
        "operationId": f"{route.method.lower()}{re.sub(r'[^a-z0-9]+', '_', route.path)}",
        "parameters": [{"name": name, "in": "query", "schema": {"type": "string"}} for name in route.query],
        "responses": {
            "201" if route.writes else "200": answer,
            "default": {"description": "Refused, and why.", "content": refusal},
        },
    }
    if route.body is not None:
        content = {"application/json": {"schema": references[route.body]}}
        operation["requestBody"] = {"required": True, "content": content}
    if route.writes:
        operation["security"] = [{"token": []}]
    return operation
