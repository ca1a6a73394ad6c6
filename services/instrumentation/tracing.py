"""Spans that cost microseconds: plain objects, handed to OpenTelemetry only when sampled."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import Token
from enum import IntEnum
from types import TracebackType
from typing import Protocol, Self

from services.instrumentation.context import TraceContext, child_of, current_trace, trace_in_hand

Value = str | int | float | bool
"""What an attribute may hold."""


class Kind(IntEnum):
    """OpenTelemetry's span kinds, by their numbers in the SDK."""

    INTERNAL = 0
    SERVER = 1
    CLIENT = 2
    PRODUCER = 3
    CONSUMER = 4


class Exporter(Protocol):
    """Takes finished, sampled spans. Must not block."""

    def export(self, span: Span) -> None: ...

    def close(self, timeout_s: float) -> None: ...


class Span(AbstractContextManager["Span"]):
    """One timed step of a trace. As a context manager it is the current span of its block."""

    __slots__ = (
        "_exporter", "_token", "attributes", "context", "end_ns", "error", "events", "kind", "links", "name",
        "parent", "start_ns",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        kind: Kind,
        *,
        context: TraceContext,
        parent: TraceContext | None,
        exporter: Exporter | None,
        links: Sequence[TraceContext] = (),
    ) -> None:
        self.name = name
        self.kind = kind
        self.context = context
        self.parent = parent
        self.links = links
        self.attributes: dict[str, Value] = {}
        self.events: list[tuple[str, int, Mapping[str, Value]]] = []
        self.error: str | None = None
        self.start_ns = 0
        self.end_ns = 0
        self._exporter = exporter
        self._token: Token[TraceContext | None] | None = None

    @property
    def recording(self) -> bool:
        """Whether attributes will be seen by anyone."""
        return self._exporter is not None

    def set(self, key: str, value: Value) -> None:
        if self._exporter is not None:
            self.attributes[key] = value

    def event(self, name: str, attributes: Mapping[str, Value]) -> None:
        if self._exporter is not None:
            self.events.append((name, time.time_ns(), attributes))

    def fail(self, error_type: str) -> None:
        """Mark the span as failed; the type is a class name or a status code, never a message."""
        self.error = error_type

    def __enter__(self) -> Self:
        self._token = current_trace.set(self.context)
        if self._exporter is not None:
            self.start_ns = time.time_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            current_trace.reset(self._token)
        if kind is not None and self.error is None:
            self.error = kind.__name__
        self.finish()

    def finish(self) -> None:
        """End the span now and hand it over; the context manager does it by itself."""
        if self._exporter is not None:
            self.end_ns = time.time_ns()
            self._exporter.export(self)


class Tracer:
    """Starts spans: children of the current one, of `parent`, or of nothing."""

    def __init__(self, *, ratio: float, exporter: Exporter | None = None) -> None:
        self.ratio = ratio
        self.exporter = exporter

    def span(
        self,
        name: str,
        kind: Kind = Kind.INTERNAL,
        *,
        parent: TraceContext | None = None,
        links: Sequence[TraceContext] = (),
        root: bool = False,
    ) -> Span:
        """A new span; `root` starts a new trace even when one is current (a redelivered message)."""
        above = None if root else (parent or trace_in_hand())
        context = child_of(above, ratio=self.ratio)
        exporter = self.exporter if context.flags & 1 else None
        return Span(name, kind, context=context, parent=above, exporter=exporter, links=links)

    def server_span(self, name: str, context: TraceContext, parent: TraceContext | None) -> Span | None:
        """A started span for a request whose context is made; None when nobody would see it."""
        if self.exporter is None or not context.flags & 1:
            return None
        span = Span(name, Kind.SERVER, context=context, parent=parent, exporter=self.exporter)
        span.start_ns = time.time_ns()
        return span

    def close(self, timeout_s: float = 2.0) -> None:
        """Send what is still queued, within `timeout_s`."""
        if self.exporter is not None:
            self.exporter.close(timeout_s)


def headers_of(context: TraceContext | None) -> dict[str, str]:
    """W3C headers that carry `context` over HTTP or NATS; empty without one."""
    if context is None:
        return {}
    headers = {"traceparent": context.traceparent}
    if context.state:
        headers["tracestate"] = context.state
    return headers
