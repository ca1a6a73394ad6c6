"""One client's connection: malformed, slow and stalled ones are refused, counted and ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from services.instrumentation.settings import Settings

logger = logging.getLogger(__name__)

# Longer than any proxy in front keeps an idle connection, so that the proxy closes first.
KEEPALIVE_S: Final = 75.0
# How long the rest of a refused body is read and thrown away, so that the client sees the answer.
_LINGERING_S: Final = 1.0
# Ours is the access log; aiohttp formats none for a logger that is off.
_SILENT: Final = logging.getLogger("services.no_access_log")
_SILENT.disabled = True

Refused = Callable[[str], None]
"""Told the reason of each refusal."""


class ClientConnection(RequestHandler):
    """aiohttp's connection with limits of time, answering what is no request with problem+json."""

    __slots__ = ("_began", "_head_s", "_head_timer", "_refused", "_send_s", "_send_timer")

    def __init__(self, server: web.Server, settings: Settings, refused: Refused) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=_SILENT,
            keepalive_timeout=KEEPALIVE_S,
            lingering_time=_LINGERING_S,
        )
        self._refused = refused
        self._head_s = settings.header_timeout_s
        self._send_s = settings.send_timeout_s
        self._head_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self._began = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._head_timer = self._loop.call_later(self._head_s, self._give_up_waiting)

    def connection_lost(self, exc: BaseException | None) -> None:
        for timer in (self._head_timer, self._send_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        waiter = self._waiter
        if waiter is None or waiter.done():
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None
        else:
            # Bytes came, and still there is no whole head: from its first byte on it has so long.
            self._began = True
            if self._head_timer is None:
                self._head_timer = self._loop.call_later(self._head_s, self._give_up_waiting)

    def pause_writing(self) -> None:
        """The client does not read what we send: it has so long to go on."""
        super().pause_writing()
        if self._send_timer is None:
            self._send_timer = self._loop.call_later(self._send_s, self._give_up_sending)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        if isinstance(exc, LineTooLong):
            problem = _Problem(431, "Request Header Fields Too Large", "headers_too_large", _TOO_LARGE)
        else:
            problem = _Problem(status, "Bad Request", "malformed_request", _MALFORMED)
        self._tell(problem.reason, type(exc).__name__)
        response = web.Response(
            body=problem.body, status=problem.status, content_type="application/problem+json"
        )
        response.force_close()
        return response

    def _give_up_waiting(self) -> None:
        if self.transport is None:
            return
        if self._began:
            self._tell(_SLOW.reason, "")
            self.transport.write(_SLOW.message)
        self.force_close()

    def _give_up_sending(self) -> None:
        if self.transport is not None:
            self._tell("slow_reader", "")
            self.transport.abort()

    def _tell(self, reason: str, error: str) -> None:
        self._refused(reason)
        peer = self.peername
        client = peer[0] if isinstance(peer, tuple) else ""
        logger.info("request.refused", extra={"reason": reason, "error": error, "client": client})


class _Problem:
    """An answer to what never became a request: there is no trace to name."""

    def __init__(self, status: int, title: str, reason: str, detail: str) -> None:
        self.status = status
        self.reason = reason
        self.body: Final = msgspec.json.encode(
            {"type": f"urn:gaia:problem:{reason}", "title": title, "status": status, "detail": detail}
        )
        self.message: Final = (
            f"HTTP/1.1 {status} {title}\r\nContent-Type: application/problem+json\r\n"
            f"Content-Length: {len(self.body)}\r\nConnection: close\r\n\r\n"
        ).encode() + self.body


_MALFORMED: Final = "the request is not well-formed HTTP"
_TOO_LARGE: Final = "the request line and each header may be 8 KiB at most"
_SLOW: Final = _Problem(408, "Request Timeout", "slow_headers", "the request's head did not arrive in time")
