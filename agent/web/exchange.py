"""One request and its answer as the handlers see them: no framework, so that a handler is a function."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final, TypeAlias

import msgspec
from msgspec import Struct, field

from agent.web.source import Source

JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
EVENT_STREAM: Final = "text/event-stream"
TEXT: Final = "text/plain; charset=utf-8"


class Asked(Struct, frozen=True, kw_only=True):
    """A request. `headers` has lower-case names; `query` the first value of each parameter, `every` all."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    every: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)  # The {parts} of the route's path.
    body: bytes = b""


class Answer(Struct, frozen=True, kw_only=True):
    """A response: bytes at once, or chunks as they come."""

    body: bytes | AsyncIterator[bytes]
    type: str = JSON
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


Handler: TypeAlias = Callable[[Source, Asked], Awaitable[Answer]]


class Refused(Exception):  # noqa: N818 - it is an answer, not a failure
    """The request cannot be answered as asked; `detail` says why and what to do."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 9457 problem details."""

    title: str
    status: int
    detail: str
    type: str = "about:blank"


def answer_json(value: object, *, status: int = HTTPStatus.OK) -> Answer:
    """`value` as JSON."""
    return Answer(body=msgspec.json.encode(value), status=status)


def problem(status: HTTPStatus, detail: str) -> Answer:
    """A refusal with one sentence."""
    body = msgspec.json.encode(Problem(title=status.phrase, status=status, detail=detail))
    return Answer(body=body, type=PROBLEM, status=status)


def number(asked: Asked, name: str, *, default: float, low: float, high: float) -> float:
    """A numeric query parameter within its limits. Raises Refused when it is none."""
    text = asked.query.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise Refused(HTTPStatus.BAD_REQUEST, f"{name} must be a number from {low:g} to {high:g}")
    return value
