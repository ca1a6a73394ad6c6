"""Everything apprise knows: chat, mail, SMS, sent by a process of its own that lives while there is news.

`notify()` has no deadline over a whole message (a receiver that drips holds it for as long as it likes);
the process that hangs in it is killed. Source: apprise 2.2.0, measured.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Final

from alerts.notice import Notice
from alerts.notifiers import apprise_sender as sender
from alerts.notifiers.apprise_words import worded
from alerts.notifiers.notifier import Delivery, NotifyError
from checks.secret import Secret

_WARM_WITHIN_S: Final = 30.0


class AppriseNotifier:
    """One apprise URL."""

    dedups = False

    def __init__(self, options: Secret) -> None:
        self._url = options
        self._process = AppriseProcess()

    def deliver(self, notice: Notice, *, deadline_s: float, ref: str | None = None) -> Delivery:
        del ref
        self._ask(worded(notice, self._scheme()), deadline_s)
        return Delivery()

    def warm(self) -> None:
        self._ask(None, _WARM_WITHIN_S)

    def _ask(self, message: dict[str, str] | None, deadline_s: float) -> None:
        answer = self._process.ask({"url": self._url.reveal(), "message": message}, deadline_s)
        if answer == sender.UNKNOWN_URL:
            raise NotifyError(f"apprise does not understand this {self._scheme()}:// URL", retryable=False)
        if answer not in (sender.SENT, sender.KNOWN):
            # Its own words may carry the URL and so the secret.
            raise NotifyError(f"apprise could not deliver through {self._scheme()}", retryable=True)

    def _scheme(self) -> str:
        return self._url.reveal().partition(":")[0]


class AppriseProcess:
    """At most one sender at a time. It ends by itself when idle; one that misses its deadline is killed."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._ending: Callable[[], object] = _nothing

    def ask(self, question: dict[str, object], deadline_s: float) -> str:
        """One question and its answer. Raises NotifyError, retryable, when none comes within `deadline_s`."""
        until_s = time.monotonic() + deadline_s
        if not self._turn.acquire(timeout=deadline_s):
            raise _silent(deadline_s)
        try:
            answer = self._exchange(json.dumps(question).encode() + b"\n", until_s)
        except OSError as error:
            self._end()
            raise NotifyError(f"the apprise process cannot be used: {error}", retryable=True) from error
        else:
            if answer is None:
                self._end()
                raise _silent(deadline_s)
            return answer
        finally:
            self._turn.release()

    def _exchange(self, line: bytes, until_s: float) -> str | None:
        running = self._started()
        # The URL goes by the pipe: anybody on the machine may read a process's arguments.
        _write(running, line)
        return _read_line(running, until_s)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._running is not None and self._running.poll() is None and not _ended(self._running):
            return self._running
        self._end()
        # A session of its own: Ctrl-C on the agent must not take a page that is on its way.
        self._running = subprocess.Popen(  # noqa: S603  # our own module in our own interpreter
            [sys.executable, "-P", "-m", sender.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        ending = weakref.finalize(self, _kill, self._running)
        # When the agent stops, a message that is on its way may still arrive; then the process ends itself.
        ending.atexit = False
        self._ending = ending
        return self._running

    def _end(self) -> None:
        self._ending()
        self._running = None


def _nothing() -> None:
    """There is no process yet."""


def _silent(deadline_s: float) -> NotifyError:
    return NotifyError(f"apprise gave no answer within {deadline_s:g} s", retryable=True)


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it closed its answers: between two of them there is nothing else to read."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], 0)
    return bool(ready)


def _write(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()


def _read_line(process: subprocess.Popen[bytes], until_s: float) -> str | None:
    """None when the deadline passed first. Raises BrokenPipeError when the process ended."""
    assert process.stdout is not None
    read = b""
    while not read.endswith(b"\n"):
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, until_s - time.monotonic()))
        if not ready:
            return None
        chunk = os.read(process.stdout.fileno(), 4096)
        if not chunk:
            raise BrokenPipeError("it ended without an answer")
        read += chunk
    return read.decode().strip()


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
