"""ERROR log records counted by service, logger and exception, and told with one redacted sample."""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from agent.telemetry.redaction import redact
from agent.telemetry.schema import Scalar, scalar
from agent.telemetry.spans import Owner, owner_of
from agent.telemetry.trails import Kept, Trails
from alerts.requests import ErrorLog

ERROR: Final = 17
FATAL: Final = 21
WARN: Final = 13
_LEVELS: Final = ("unspecified", "trace", "debug", "info", "warn", "error", "fatal")
_TEXT_LEVELS: Final = {
    "trace": 1, "debug": 5, "info": 9, "information": 9, "notice": 9, "warn": 13, "warning": 13,
    "error": 17, "err": 17, "critical": 21, "crit": 21, "fatal": 21, "alert": 21, "emerg": 21, "panic": 21,
}  # fmt: skip
_MAX_KINDS: Final = 200
_MAX_PENDING: Final = 1000
_MAX_SAMPLE: Final = 500
_BAD_LEVELS: Final = frozenset({"error", "fatal"})
_OVERFLOW: Final = "__overflow__"
# The parts of a message that differ between two events of one cause.
_VARIABLE: Final = re.compile(
    r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|\b0x[0-9a-fA-F]+|\b[0-9a-fA-F]{16,}\b|\d+(?:\.\d+)?"
    r"|\"[^\"]{0,200}\"|'[^']{0,200}'"
)
_FRAME: Final = re.compile(r'File "([^"]{1,300})", line \d+, in (\S{1,100})')
_FOREIGN: Final = ("site-packages", "dist-packages", "/lib/python", "<frozen")


class _Pending(Struct):
    count: int
    log: ErrorLog


class LogTally:
    """What one request body adds to the counts, held back until the body is safe on disk."""

    __slots__ = ("_errors", "_levels", "_lines", "_table", "oldest_ns", "records", "services", "worst")

    def __init__(self, table: LogTable) -> None:
        self._table = table
        self._levels: dict[tuple[str, str, str], int] = {}
        self._errors: list[tuple[tuple[str, str, str, str], ErrorLog]] = []
        self._lines: list[tuple[bytes, int, str, str, bytes]] = []
        self.services: frozenset[str] = frozenset()
        self.records = 0
        self.worst = 0
        self.oldest_ns = 0

    def add(self, owner: Owner, scope: str, log: Any) -> None:
        """Count one LogRecord."""
        self.records += 1
        severity = log.severity_number or severity_of(log.severity_text)
        at_ns = log.time_unix_nano or log.observed_time_unix_nano
        if at_ns and (not self.oldest_ns or at_ns < self.oldest_ns):
            self.oldest_ns = at_ns
        self.worst = max(self.worst, severity)
        name = _LEVELS[min((severity + 3) // 4, 6)]
        level = (owner.service, owner.env, name)
        self._levels[level] = self._levels.get(level, 0) + 1
        if log.trace_id:
            self._lines.append((log.trace_id, at_ns, owner.service, name, log.SerializeToString()))
        if severity >= ERROR and owner.service not in self._table.own_services:
            self._errors.append(_event(owner, scope, log, fatal=severity >= FATAL))

    def apply(self, at_s: float) -> None:
        """Count it, now that it is kept."""
        self._table.add_levels(self._levels)
        for key, event in self._errors:
            self._table.add_error(key, event, at_s)
        for trace_id, at_ns, service, level, record in self._lines:
            line = Kept(at_s=at_ns / 1e9 if at_ns else at_s, service=service, level=level, record=record)
            self._table.trails.line(trace_id, line, error=level in _BAD_LEVELS)


class LogTable:
    """Counts by level and by cause, and the events not yet given to the rules."""

    def __init__(
        self, trails: Trails, *, env: str, own_services: frozenset[str] = frozenset({"gaia-agent"})
    ) -> None:
        self.trails = trails
        self._env = env
        self.own_services = own_services
        self.levels: dict[tuple[str, str, str], int] = {}
        # (service, env, logger, exception type): capped per table, the rest under one overflow key each.
        self.errors: dict[tuple[str, str, str, str], int] = {}
        self._pending: dict[tuple[str, str], _Pending] = {}

    def add_levels(self, levels: dict[tuple[str, str, str], int]) -> None:
        """Records by service, environment and level."""
        for key, count in levels.items():
            full = key not in self.levels and len(self.levels) >= _MAX_KINDS * len(_LEVELS)
            row = (_OVERFLOW, "", key[2]) if full else key
            self.levels[row] = self.levels.get(row, 0) + count

    def add_error(self, key: tuple[str, str, str, str], event: ErrorLog, at_s: float) -> None:
        """One ERROR record; beyond the cap of causes it is counted as its service's overflow."""
        service, env, _, _ = key
        if key not in self.errors and len(self.errors) >= _MAX_KINDS:
            key = (service, env, _OVERFLOW, _OVERFLOW)
        self.errors[key] = self.errors.get(key, 0) + 1
        if env not in {"", self._env}:
            return
        pending = self._pending.get((service, event.fingerprint))
        if pending is not None:
            pending.count += 1
            if event.fatal and not pending.log.fatal:
                pending.log = replace(pending.log, fatal=True)
        elif len(self._pending) < _MAX_PENDING:
            self._pending[service, event.fingerprint] = _Pending(1, replace(event, env=self._env, at_s=at_s))
        else:
            rest = self._pending.setdefault(
                (service, _OVERFLOW),
                _Pending(0, replace(event, env=self._env, at_s=at_s, fingerprint=_OVERFLOW)),
            )
            rest.count += 1

    def errors_by_service(self) -> dict[str, int]:
        """Records of level ERROR and above, by service."""
        sums: dict[str, int] = {}
        for (service, _, level), count in self.levels.items():
            if level in {"error", "fatal"}:
                sums[service] = sums.get(service, 0) + count
        return sums

    def drain(self) -> tuple[ErrorLog, ...]:
        """The events since the last call, one per service and fingerprint, with their number."""
        drained = tuple(replace(each.log, count=each.count) for each in self._pending.values())
        self._pending.clear()
        return drained

    def tally(self, resource_logs: Iterable[Any], names: dict[str, str]) -> LogTally:
        """What an ExportLogsServiceRequest's resource_logs would add."""
        tally = LogTally(self)
        for resource in resource_logs:
            pairs: dict[str, Scalar] = {pair.key: scalar(pair.value) for pair in resource.resource.attributes}
            owner = owner_of(pairs, names)
            for scope_logs in resource.scope_logs:
                scope = scope_logs.scope.name
                for log in scope_logs.log_records:
                    tally.add(owner, scope, log)
        return tally


def severity_of(text: str) -> int:
    """OTLP's number for a level's name as loggers write it; 0 for an unknown one."""
    return _TEXT_LEVELS.get(text.lower(), 0)


def fingerprint(*, service: str, scope: str, exception: str, stack: str, message: str) -> str:
    """What two events of one cause share: logger, exception type and top own frame, or the masked message."""
    frame = top_frame(stack)
    if exception and frame:
        what = f"{exception}|{frame}"
    else:
        what = f"{exception}|{_VARIABLE.sub('#', message[:500])}"
    return sha256(f"{service}|{scope}|{what}".encode()).hexdigest()[:16]


def top_frame(stack: str) -> str:
    """File and function of the innermost frame of our own code in a Python traceback; empty without one."""
    frames: list[tuple[str, str]] = _FRAME.findall(stack[-16_384:])
    own = [frame for frame in frames if not any(part in frame[0] for part in _FOREIGN)]
    chosen = own or frames
    return f"{chosen[-1][0]}:{chosen[-1][1]}" if chosen else ""


def _event(owner: Owner, scope: str, log: Any, *, fatal: bool) -> tuple[tuple[str, str, str, str], ErrorLog]:
    said = {pair.key: str(scalar(pair.value)) for pair in log.attributes if scalar(pair.value) is not None}
    body = scalar(log.body)
    message = str(body) if body is not None else said.get("exception.message", "")
    exception = said.get("exception.type", "")[:100]
    name = (said.get("logger") or said.get("logger.name") or scope)[:100]
    sample = message if not exception else f"{message} ({exception}: {said.get('exception.message', '')})"
    mark = fingerprint(
        service=owner.service,
        scope=name,
        exception=exception,
        stack=said.get("exception.stacktrace", ""),
        message=redact(message),
    )
    trace_id = bytes(log.trace_id).hex() if len(log.trace_id) == 16 else said.get("trace_id", "")[:32]
    event = ErrorLog(
        env=owner.env,
        service=owner.service,
        at_s=0.0,
        fingerprint=mark,
        sample=redact(sample)[:_MAX_SAMPLE],
        trace_id=trace_id,
        fatal=fatal,
    )
    return (owner.service, owner.env, name, exception), event
