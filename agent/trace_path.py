"""One request followed: where it failed or was slow, the log lines near it, the numbers of its routes."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

import msgspec

from agent.telemetry.red import RedView, RouteRow
from agent.telemetry.trails import Line, Trail
from agent.web.exchange import Answer, Asked, Handler, Refused, answer_json
from agent.web.routes import Route
from agent.web.source import Source
from alerts.examples import took
from alerts.requests import RequestExample
from alerts.words import clock
from checks.finding import Evidence

_MOST_LINES = 4


class RouteNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """What a route's requests did in the last five minutes. None means not measured."""

    service: str
    route: str
    requests: int
    errors: int
    error_ratio: float | None
    p95_s: float | None


class TracePath(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of one trace: failed and slow requests, log lines, and the routes they were on."""

    trace_id: str
    requests: tuple[RequestExample, ...]
    lines: tuple[Line, ...]
    routes: tuple[RouteNumbers, ...]


Views = Callable[[str, str], RedView | None]


def path_of(trail: Trail, views: Views) -> TracePath:
    """A trail and the numbers of its routes; `views` gives those of an environment's service."""
    places = dict.fromkeys((request.env, request.service, request.route) for request in trail.requests)
    routes = [
        _numbers(service, row)
        for env, service, route in places
        for row in _rows(views(env, service))
        if row.route == route
    ]
    return TracePath(
        trace_id=trail.trace_id, requests=trail.requests, lines=trail.lines, routes=tuple(routes)
    )


def facts(path: TracePath) -> tuple[Evidence, ...]:
    """The same for an alert's card: the routes' numbers, then the worst lines."""
    worst = [line for line in path.lines if line.level in {"error", "fatal"}] or list(path.lines)
    return (
        *(Evidence(name=f"{one.service} {one.route}"[:80], value=numbers_text(one)) for one in path.routes),
        *(
            Evidence(
                name=f"log of {line.service}", value=f"{clock(line.at_s)} {line.level.upper()} {line.text}"
            )
            for line in worst[:_MOST_LINES]
        ),
    )


def path_lines(path: TracePath | None) -> list[str]:
    """For a terminal: where a request went wrong and what was logged there, in order, and its routes."""
    if path is None:
        return []
    requests = [
        (one.at_s, f"{one.service} {one.method} {one.route} {one.status} after {took(one.duration_s)}")
        for one in path.requests
    ]
    logs = [(one.at_s, f"{one.service} {one.level.upper()} {one.text}") for one in path.lines]
    found = [f"    {clock(at_s)}  {text}" for at_s, text in sorted([*requests, *logs])]
    found.extend(f"    {one.service} {one.route}: {numbers_text(one)}" for one in path.routes)
    return found


def numbers_text(one: RouteNumbers) -> str:
    """`12 requests in 5 min, 50 % failed, p95 0.1 s`."""
    parts = [f"{one.requests} requests in 5 min"]
    if one.error_ratio is not None:
        parts.append(f"{one.error_ratio * 100:.3g} % failed")
    if one.p95_s is not None:
        parts.append(f"p95 {one.p95_s:.3g} s")
    return ", ".join(parts)


def trace_route(trails: Callable[[str], Trail | None]) -> Route:
    """`GET /api/v1/trace?id=…` over what `trails` remembers."""
    return Route(path="/api/v1/trace", handler=_handler(trails), answer=TracePath, query=("id",))


def _handler(trails: Callable[[str], Trail | None]) -> Handler:
    async def handle(source: Source, asked: Asked) -> Answer:
        name = asked.query.get("id", "")
        trail = trails(name)
        if trail is None:
            raise Refused(
                HTTPStatus.NOT_FOUND, f'nothing is remembered of a trace "{name[:40]}": look where traces go'
            )
        return answer_json(path_of(trail, source.red))

    return handle


def _rows(view: RedView | None) -> tuple[RouteRow, ...]:
    return view.routes if view is not None else ()


def _numbers(service: str, row: RouteRow) -> RouteNumbers:
    return RouteNumbers(
        service=service,
        route=row.route,
        requests=row.requests,
        errors=row.errors,
        error_ratio=row.error_ratio,
        p95_s=row.p95_s,
    )
