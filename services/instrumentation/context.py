"""W3C trace context and the identity, deadline and request id that travel with one request."""

from __future__ import annotations

import random
import re
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, NamedTuple

_TRACEPARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED: Final = 0x01
_RANDOM: Final = 0x02

_bits: Final = random.getrandbits


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
    if version == "ff" or (version == "00" and rest) or trace_id == "0" * 32 or span_id == "0" * 16:
        return None
    return TraceContext(trace_id, span_id, int(flags, 16), state[:512])


def new_span_id() -> str:
    return f"{_bits(64) or 1:016x}"


def child_of(parent: TraceContext | None, *, ratio: float) -> TraceContext:
    """A new span: in its parent's trace with the parent's sampling, or a new trace sampled at `ratio`."""
    if parent is not None:
        return TraceContext(parent.trace_id, f"{_bits(64) or 1:016x}", parent.flags, parent.state)
    number = _bits(128) or 1
    # The lower 56 bits decide, as in OpenTelemetry's consistent probability sampling.
    sampled = (number & 0xFFFFFFFFFFFFFF) < ratio * 0x100000000000000
    return TraceContext(f"{number:032x}", f"{_bits(64) or 1:016x}", _RANDOM | sampled)


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
