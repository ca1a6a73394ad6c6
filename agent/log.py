"""The agent's own log: JSON lines on standard error that can neither block the loop nor carry a secret."""

from __future__ import annotations

import logging
import logging.handlers
import queue
import sys
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cached_property
from typing import Final, TextIO

from agent.platform.scope import Scope

_QUEUE_LINES: Final = 10_000
_COPIED_LINES: Final = 4096
_SHORTEST_SECRET: Final = 6
# What these say below WARNING is prose without facts, and at DEBUG it holds the messages themselves.
_QUIET: Final = ("apprise", "urllib3")


def log_level(scopes: Iterable[Scope]) -> str:
    """DEBUG where an environment asks for it, else INFO: what the agent decides is always told."""
    return "DEBUG" if any(scope.environment.log_level == "DEBUG" for scope in scopes) else "INFO"


class LogWriter:
    """Owns the root logger's handler and its thread; `stop` writes what is queued and ends it."""

    def __init__(self, *, level: str, secrets: Iterable[str] = (), stream: TextIO | None = None) -> None:
        self._redactor = _Redactor(secrets)
        lines: queue.Queue[logging.LogRecord] = queue.Queue(_QUEUE_LINES)
        self._handler = _Dropping(lines)
        self._handler.addFilter(_Origin())
        output = logging.StreamHandler(stream or sys.stderr)
        output.setFormatter(_Redacting(self._redactor))
        self._copy = _Copying(output.formatter)
        self._listener = logging.handlers.QueueListener(lines, output, self._copy, respect_handler_level=True)
        root = logging.getLogger()
        root.handlers[:] = [self._handler]
        root.setLevel(level)
        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
        self._listener.start()

    def reconfigure(self, *, level: str, secrets: Iterable[str]) -> None:
        """Apply a reloaded configuration's level and secrets."""
        logging.getLogger().setLevel(level)
        self._redactor.replace(secrets)

    def copy(self, level: str | None) -> deque[bytes]:
        """Where lines of `level` and above are put from now on, the newest 4,096; None for none."""
        self._copy.setLevel(logging.CRITICAL + 1 if level is None else level)
        return self._copy.lines

    @property
    def dropped(self) -> int:
        """Lines lost because standard error did not take them."""
        return self._handler.dropped

    def stop(self) -> None:
        """Write what is queued and give the root logger back."""
        logging.getLogger().removeHandler(self._handler)
        self._listener.stop()


class _Origin(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        moment = datetime.fromtimestamp(record.created, UTC)
        record.timestamp = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return True


class _Dropping(logging.handlers.QueueHandler):
    """A full queue drops the line and counts it: a blocked terminal must not stop the probing."""

    dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        # The queue stays within the process: nothing needs to be made fit for pickling.
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


class _Copying(logging.Handler):
    """Keeps the redacted lines for whoever passes them on."""

    def __init__(self, formatter: logging.Formatter | None) -> None:
        super().__init__(logging.CRITICAL + 1)
        self.setFormatter(formatter)
        self.lines: deque[bytes] = deque(maxlen=_COPIED_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record).encode("utf-8", "replace"))


class _Redactor:
    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets: tuple[str, ...] = ()
        self.replace(secrets)

    def replace(self, secrets: Iterable[str]) -> None:
        # Longest first, so that a secret containing another is masked whole; very short ones mask prose.
        self._secrets = tuple(
            sorted({s for s in secrets if len(s) >= _SHORTEST_SECRET}, key=len, reverse=True)
        )

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


class _Redacting(logging.Formatter):
    def __init__(self, redactor: _Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    @cached_property
    def _inner(self) -> logging.Formatter:
        # Imported by the listener's thread with the first line: the first looks do not wait for it.
        from pythonjsonlogger.json import JsonFormatter

        return JsonFormatter(
            ["timestamp", "levelname", "name", "message"],
            rename_fields={"levelname": "level", "name": "logger", "message": "event"},
        )

    def format(self, record: logging.LogRecord) -> str:
        return self._redactor(self._inner.format(record))
