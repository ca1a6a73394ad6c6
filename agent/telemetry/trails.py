"""What is remembered of single requests: by trace, those that failed or were slow, and log lines near them.

In memory and bounded; the whole trace is where telemetry is passed on to. A line of a trace that nobody has
complained about yet is kept for a while, for the complaint often comes after it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from msgspec import Struct, field

from agent.telemetry.redaction import redact
from agent.telemetry.schema import record_text
from agent.telemetry.series import SeriesKey
from alerts.requests import RequestExample

_MAX_MARKED: Final = 256
_MAX_QUIET_LINES: Final = 4096
_MAX_ENTRIES: Final = 24
_MAX_TEXT: Final = 400
_MAX_RECORD: Final = 2048
_MAX_EXAMPLES: Final = 100


class Line(Struct, frozen=True, kw_only=True):
    """One log record of a trace."""

    at_s: float
    service: str
    level: str
    text: str


class Kept(Struct, frozen=True, kw_only=True):
    """A log record as it came: read only when somebody asks."""

    at_s: float
    service: str
    level: str
    record: bytes


class Trail(Struct, frozen=True, kw_only=True):
    """Failed and slow requests and log lines of one trace, each in order of time."""

    trace_id: str
    requests: tuple[RequestExample, ...] = ()
    lines: tuple[Line, ...] = ()


class _Trace(Struct):
    requests: list[RequestExample] = field(default_factory=list)
    lines: list[Kept] = field(default_factory=list)


class Trails:
    """Takes in what is counted; `slow_s` is when a request is worth remembering though it did not fail."""

    def __init__(self, *, env: str, slow_s: float = 2.0) -> None:
        self._env = env
        self.slow_s = slow_s
        self._marked: OrderedDict[bytes, _Trace] = OrderedDict()
        self._quiet: OrderedDict[bytes, _Trace] = OrderedDict()
        self._quiet_lines = 0
        self._examples: dict[tuple[str, bool], RequestExample] = {}

    def request(
        self, key: SeriesKey, *, trace_id: bytes, duration_s: float, at_s: float, failed: bool
    ) -> None:
        """A request that failed or was slow."""
        example = RequestExample(
            env=self._env,
            service=key.service,
            at_s=at_s,
            trace_id=trace_id.hex(),
            method=key.method,
            route=key.route,
            status=key.status,
            duration_s=duration_s,
            failed=failed,
        )
        trace = self._mark(trace_id)
        if len(trace.requests) < _MAX_ENTRIES:
            trace.requests.append(example)
        if len(self._examples) < _MAX_EXAMPLES or (key.service, failed) in self._examples:
            self._examples[key.service, failed] = example

    def line(self, trace_id: bytes, line: Kept, *, error: bool) -> None:
        """A log record that names its trace; `error` marks the trace. Very long ones are left out."""
        if len(line.record) > _MAX_RECORD:
            return
        trace = self._mark(trace_id) if error else self._marked.get(trace_id)
        quiet = trace is None
        if trace is None:
            trace = self._quiet.get(trace_id)
        if trace is None:
            trace = self._quiet[trace_id] = _Trace()
        if len(trace.lines) < _MAX_ENTRIES:
            trace.lines.append(line)
            self._quiet_lines += quiet
        while self._quiet_lines > _MAX_QUIET_LINES:
            self._quiet_lines -= len(self._quiet.popitem(last=False)[1].lines)

    def drain(self) -> tuple[RequestExample, ...]:
        """The newest failed and the newest slow request of each service since the last call."""
        drained = tuple(self._examples.values())
        self._examples.clear()
        return drained

    def trail(self, trace_id: str) -> Trail | None:
        """What is remembered of a trace, redacted; None when nothing is."""
        try:
            raw = bytes.fromhex(trace_id)
        except ValueError:
            return None
        trace = self._marked.get(raw) or self._quiet.get(raw)
        if trace is None:
            return None
        lines = (
            Line(
                at_s=line.at_s,
                service=line.service,
                level=line.level,
                text=redact(record_text(line.record))[:_MAX_TEXT],
            )
            for line in trace.lines
        )
        return Trail(
            trace_id=trace_id.lower(),
            requests=tuple(sorted(trace.requests, key=lambda request: request.at_s)),
            lines=tuple(sorted(lines, key=lambda line: line.at_s)),
        )

    def _mark(self, trace_id: bytes) -> _Trace:
        trace = self._marked.get(trace_id)
        if trace is None:
            trace = self._marked[trace_id] = self._quiet.pop(trace_id, _Trace())
            self._quiet_lines -= len(trace.lines)
            if len(self._marked) > _MAX_MARKED:
                self._marked.popitem(last=False)
        return trace
