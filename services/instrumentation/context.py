"""W3C trace context and the identity, deadline and request id that travel with one request."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, NamedTuple

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED: Final = 0x01
_RANDOM: Final = 0x02
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16
_DRAWN: Final = 128


class TraceContext(NamedTuple):
    """One position in a trace (W3C Trace Context level 2). `state` is the opaque tracestate."""

    trace_id: str
    span_id: str
    flags: int
    state: str = ""

    @property
    def sampled(self) -> bool:
        return bool(self.flags & _SAMPLED)

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"


def parse_traceparent(value: str | None, state: str = "") -> TraceContext | None:
    """The context in a `traceparent` header; None when absent or invalid (then a new trace starts)."""
    if value is None or (match := _TRACEPARENT.fullmatch(value.strip())) is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest) or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return TraceContext(trace_id, span_id, int(flags, 16), state[:512])


def child_of(parent: TraceContext | None, *, ratio: float) -> TraceContext:
    """A new span: in its parent's trace with the parent's sampling, or a new trace sampled at `ratio`."""
    trace_id, span_id = next(_ids)
    if parent is not None:
        return TraceContext(parent.trace_id, span_id, parent.flags, parent.state)
    # The lower 56 bits decide, as in OpenTelemetry's consistent probability sampling.
    sampled = ratio >= 1 or (ratio > 0 and int(trace_id[18:], 16) < ratio * 0x100000000000000)
    return TraceContext(trace_id, span_id, _RANDOM | sampled)


def _draw_ids() -> Iterator[tuple[str, str]]:
    """Trace and span ids without end, drawn by the hundred: one at a time costs a microsecond."""
    while True:
        text = random.randbytes(_DRAWN * 24).hex()
        for start in range(0, len(text), 48):
            trace_id, span_id = text[start : start + 32], text[start + 32 : start + 48]
            if trace_id != _NO_TRACE and span_id != _NO_SPAN:
                yield trace_id, span_id


_ids: Final = _draw_ids()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who makes a request. `kind` is anonymous, user, api_key or service."""

    kind: str
    subject: str = ""
    key_id: str = ""
    scopes: tuple[str, ...] = ()

    def may(self, scope: str) -> bool:
        return "admin" in self.scopes or scope in self.scopes


ANONYMOUS: Final = Identity("anonymous")


class RequestContext:
    """What is known about the request in hand; mutable: routing and authentication fill it in."""

    __slots__ = ("auth_reason", "deadline_s", "identity", "request_id", "route", "trace")

    def __init__(self, trace: TraceContext, request_id: str) -> None:
        self.trace = trace
        self.request_id = request_id
        self.identity = ANONYMOUS
        self.auth_reason = ""
        self.deadline_s: float | None = None
        self.route = "__unmatched__"


current_trace: ContextVar[TraceContext | None] = ContextVar("current_trace", default=None)
current_request: ContextVar[RequestContext | None] = ContextVar("current_request", default=None)


def trace_in_hand() -> TraceContext | None:
    """The position of the span in hand, else of the request in hand, else None."""
    trace = current_trace.get()
    if trace is None and (context := current_request.get()) is not None:
        return context.trace
    return trace
