"""An SMTP session with one deadline for the whole of it, however slowly the server talks."""

from __future__ import annotations

import smtplib
import socket
import ssl
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class MailSession(smtplib.SMTP):
    """`smtplib` knows a timeout per read only; a server that drips is cut off when the deadline is over."""

    def __init__(self, host: str, port: int, *, deadline_s: float) -> None:
        # `smtplib` sets it too late for a timer that may fire while it connects.
        self.sock: socket.socket | None = None
        self._timer = threading.Timer(deadline_s, self._cut)
        self._timer.daemon = True
        self._timer.start()
        try:
            super().__init__(host, port, timeout=deadline_s)
        except BaseException:
            self._timer.cancel()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            self._timer.cancel()

    def secure(self) -> None:
        """Go on encrypted, the server's name verified."""
        self.starttls(context=ssl.create_default_context())

    def _cut(self) -> None:
        if self.sock is not None:
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)
