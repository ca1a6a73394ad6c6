"""The agent's own looks and log lines, passed on the way that services' telemetry goes: kept, then sent.

Spans are written by hand: OpenTelemetry's SDK would cost 18 MiB and 57 µs for each of them, and a look is
already a finished span when it comes here. They are of kind CLIENT, and log lines are the agent's, so neither
counts as a service's request or ERROR.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from agent.prober import Look
from agent.telemetry.json_lines import Line, to_request
from agent.telemetry.schema import request_class
from agent.telemetry.signals import Rejected, Signal
from checks.finding import State

SERVICE: Final = "gaia-agent"
_EVERY_S: Final = 1.0
_MOST: Final = 4096
_CLIENT: Final = 3
_ERROR: Final = 2

Keep = Callable[[Signal, bytes, bytes], Awaitable[None]]


class OwnTelemetry:
    """Takes looks and lines as they come, keeps them once a second; beyond 4,096 waiting the oldest are lost.

    `share` of the looks become spans, and all that found nothing good; with a share of 0 none at all.
    """

    def __init__(self, *, share: float, lines: deque[bytes], env: str, keep: Keep) -> None:
        self._share = share
        self._lines = lines
        self._env = env
        self._keep = keep
        self._looks: deque[Look] = deque(maxlen=_MOST)

    def looked(self, look: Look) -> None:
        """Take in one look."""
        if not self._share:
            return
        if look.observation.finding.state is not State.UP or random.random() < self._share:  # noqa: S311  # sampling
            self._looks.append(look)

    async def run(self) -> None:
        """Keep what came until cancelled."""
        while True:
            await asyncio.sleep(_EVERY_S)
            looks = [self._looks.popleft() for _ in range(len(self._looks))]
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if looks:
                await self._give(Signal.TRACES, spans_of(looks))
            if lines:
                await self._give(Signal.LOGS, self._records(lines))

    def _records(self, lines: Iterable[bytes]) -> bytes:
        resource = (("service.name", SERVICE), ("deployment.environment.name", self._env))
        return to_request(Line(text=line, read_ns=0, resource=resource) for line in lines)

    async def _give(self, signal: Signal, body: bytes) -> None:
        try:
            await self._keep(signal, body, os.urandom(16))
        except (OSError, Rejected):
            # Lost, and silently: a line about it would be the next to be lost.
            return


def spans_of(looks: Iterable[Look]) -> bytes:
    """An ExportTraceServiceRequest with one span for each look, under the ids that the look itself sent."""
    request: Any = request_class(Signal.TRACES)()
    spans: dict[str, Any] = {}
    for look in looks:
        key = look.observation.target.key
        if key.env not in spans:
            group = request.resource_spans.add()
            for name, value in (("service.name", SERVICE), ("deployment.environment.name", key.env)):
                group.resource.attributes.add(key=name).value.string_value = value
            scope = group.scope_spans.add()
            scope.scope.name = "gaia.probes"
            spans[key.env] = scope.spans
        _fill(spans[key.env].add(), look)
    content: bytes = request.SerializeToString()
    return content


def _fill(span: Any, look: Look) -> None:
    observation, finding = look.observation, look.observation.finding
    key = observation.target.key
    said = next((fact.value for fact in finding.evidence if fact.name == "trace_id"), "")
    trace_id = bytes.fromhex(said) if len(said) == 32 else os.urandom(16)
    span.trace_id = trace_id
    # As the HTTP check sends it: the second half of the trace's id is the look's own span.
    span.span_id = trace_id[8:]
    span.name = f"{key.check} {key.service}"
    span.kind = _CLIENT
    span.start_time_unix_nano = int(observation.at_s * 1e9)
    span.end_time_unix_nano = span.start_time_unix_nano + int(observation.duration_s * 1e9)
    if finding.state is State.DOWN:
        span.status.code = _ERROR
        span.status.message = finding.message
    for name, value in (
        ("gaia.env", key.env),
        ("gaia.service", key.service),
        ("gaia.check", key.check),
        ("gaia.vantage", key.vantage),
        ("gaia.state", finding.state.value),
        ("gaia.reason", finding.reason.value),
        ("gaia.occasion", observation.occasion.value),
        ("server.address", observation.target.address),
    ):
        span.attributes.add(key=name).value.string_value = value
