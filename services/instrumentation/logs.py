"""JSON lines on stdout: RFC 3339 UTC, trace ids, redacted, written by a thread of their own."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import msgspec

from services.instrumentation.context import trace_in_hand
from services.instrumentation.redaction import Redactor
from services.instrumentation.settings import Settings

_LIMIT_LINES: Final = 10_000
_BATCH_LINES: Final = 256
_GATHER_S: Final = 0.02
_CLOSE_S: Final = 2.0
# Every attribute of a LogRecord: what is not among them came in through `extra`.
_RECORD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_RESERVED: Final = frozenset(("timestamp", "level", "logger", "event", "service", "environment"))

Line = bytes | Callable[[], bytes]
"""A finished line, or what makes it: lines made by the hundred cost half of lines made one by one."""

encode: Final = msgspec.json.Encoder(enc_hook=repr).encode


class LineWriter:
    """Writes whole lines from its own thread, so that no pipe blocks the loop; when full drops and counts.

    The thread wakes at most fifty times a second: waking it for every line costs more than the line.
    """

    def __init__(self, redactor: Redactor, descriptor: int = 1) -> None:
        self.dropped = 0
        self.redactor = redactor
        self._descriptor = descriptor
        self._lines: deque[Line] = deque()
        self._woken = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Queue one line without its newline, its secrets masked. Never blocks."""
        self.queue(self.redactor.redact(line.decode("utf-8", "replace")).encode("utf-8", "replace"))

    def queue(self, line: Line) -> None:
        """The same for a line whose secrets are masked already, or will be when the thread asks for it."""
        if len(self._lines) >= _LIMIT_LINES:
            self.dropped += 1
            return
        self._lines.append(line)
        if not self._woken.is_set():
            self._woken.set()

    def close(self) -> None:
        """Write what is queued, for at most two seconds."""
        self._closing.set()
        self._woken.set()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while True:
            self._woken.wait()
            self._closing.wait(_GATHER_S)
            # Cleared before the queue is read: a line that comes now wakes us again.
            self._woken.clear()
            closing = self._closing.is_set()
            while self._lines:
                count = min(len(self._lines), _BATCH_LINES)
                if not self._put([self._lines.popleft() for _ in range(count)]):
                    return
            if closing:
                return

    def _put(self, batch: list[Line]) -> bool:
        data = b"\n".join([line if isinstance(line, bytes) else _rendered(line) for line in batch]) + b"\n"
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:  # The reader is gone: there is nobody left to tell.
            return False
        return True


def _rendered(line: Callable[[], bytes]) -> bytes:
    try:
        return line()
    except Exception as error:  # One bad line may not end the thread that writes all others.
        return to_json({"event": "log.unrenderable", "level": "ERROR", "error": type(error).__name__})


def timestamp(seconds: float) -> str:
    """RFC 3339 in UTC with microseconds."""
    whole = int(seconds)
    return f"{_second(whole)}.{int((seconds - whole) * 1_000_000):06d}Z"


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def to_json(fields: Mapping[str, object]) -> bytes:
    """One JSON line of anything: NaN becomes null, bytes base64, lone surrogates are escaped."""
    try:
        return encode(fields)
    except Exception:  # A fact's own repr may raise anything; the line must not be lost for it.
        return encode(_plain(fields, depth=6))


def _plain(value: object, *, depth: int) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value if not isinstance(value, int) or abs(value) < 1 << 63 else str(value)
    if depth == 0:
        return "..."
    if isinstance(value, Mapping):
        return {_text(key): _plain(item, depth=depth - 1) for key, item in list(value.items())[:200]}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, depth=depth - 1) for item in list(value)[:200]]
    return _text(value)


def _text(value: object) -> str:
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception as error:
        text = f"<unprintable {type(value).__name__}: {type(error).__name__}>"
    return text.encode("utf-8", "backslashreplace").decode()


class JsonHandler(logging.Handler):
    """A record as one JSON line: event, facts from `extra`, trace ids of the request or span in hand."""

    def __init__(self, writer: LineWriter, settings: Settings) -> None:
        super().__init__()
        self._writer = writer
        self._service = settings.service
        self._environment = settings.environment.value
        self._text = settings.log_format == "text"

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields: dict[str, object] = {
                "timestamp": timestamp(record.created),
                "level": record.levelname,
                "logger": record.name,
                "event": record.getMessage(),
                "service": self._service,
                "environment": self._environment,
            }
            trace = trace_in_hand()
            if trace is not None:
                fields["trace_id"], fields["span_id"] = trace.trace_id, trace.span_id
                fields["trace_flags"] = f"{trace.flags:02x}"
            for key, value in vars(record).items():
                if key not in _RECORD:
                    # A fact may not pass for the line's own time, level or event.
                    fields[f"extra_{key}" if key in _RESERVED else key] = value
            if record.exc_info and record.exc_info[0] is not None:
                fields["error_type"] = record.exc_info[0].__name__
                fields["exception"] = _TRACEBACKS.formatException(record.exc_info)
            self._writer.write(_as_text(fields) if self._text else to_json(fields))
        except Exception:
            self.handleError(record)


_TRACEBACKS: Final = logging.Formatter()


def _as_text(fields: Mapping[str, object]) -> bytes:
    head = f"{fields['timestamp']} {fields['level']:<7} {fields['logger']}: {fields['event']}"
    facts = " ".join(
        f"{key}={value}"
        for key, value in fields.items()
        if key not in {"timestamp", "level", "logger", "event", "service", "environment"}
    )
    return f"{head} {facts}".encode("utf-8", "backslashreplace")


def set_up_logging(settings: Settings, redactor: Redactor) -> LineWriter:
    """Route the root logger through one JSON writer on stdout. Call once per process."""
    writer = LineWriter(redactor)
    root = logging.getLogger()
    root.handlers[:] = [JsonHandler(writer, settings)]
    root.setLevel(settings.log_level)
    # Their DEBUG lines repeat what our spans and metrics already say, several per request.
    for noisy in ("asyncio", "aiohttp", "nats", "asyncpg", "urllib3", "opentelemetry"):
        logging.getLogger(noisy).setLevel(max(logging.INFO, root.level))
    return writer
