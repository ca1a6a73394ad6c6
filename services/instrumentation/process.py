"""One service as a process: listens, and leaves without losing a request."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from services.instrumentation.settings import Settings

if TYPE_CHECKING:
    from services.instrumentation.kit import Instrumentation

logger = logging.getLogger(__name__)

# Longer than any proxy in front keeps an idle connection, so that the proxy closes first.
_KEEPALIVE_S: Final = 75.0
_SECOND_SIGNAL: Final = 130
_BACKLOG: Final = 1024
# Ours is the access log; aiohttp formats none for a logger that is off.
_SILENT: Final = logging.getLogger("services.no_access_log")
_SILENT.disabled = True


class ProblemProtocol(RequestHandler):
    """aiohttp's connection, answering malformed requests with problem+json, without a traceback."""

    __slots__ = ("_malformed",)

    def __init__(self, server: web.Server, malformed: Callable[[], None]) -> None:
        super().__init__(
            server, loop=asyncio.get_running_loop(), access_log=_SILENT, keepalive_timeout=_KEEPALIVE_S
        )
        self._malformed = malformed

    def handle_error(
        self,
        request: BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        self._malformed()
        logger.info("request.malformed", extra={"error": type(exc).__name__, "client": request.remote})
        body = {
            "type": "urn:gaia:problem:malformed_request",
            "title": "Bad Request",
            "status": status,
            "detail": "the request is not well-formed HTTP",
        }
        response = web.Response(
            body=msgspec.json.encode(body), status=status, content_type="application/problem+json"
        )
        response.force_close()
        return response


async def serve(app: web.Application, kit: Instrumentation) -> int:
    """Serve until the first SIGTERM or SIGINT, then drain; a second signal exits at once.

    0, or 1 when the port cannot be had.
    """
    settings = kit.settings
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal(name: str) -> None:
        if stop.is_set():
            os._exit(_SECOND_SIGNAL)
        logger.info("service.stopping", extra={"signal": name})
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number.name)
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=True,
        keepalive_timeout=_KEEPALIVE_S,
        shutdown_timeout=settings.shutdown_timeout_s,
    )
    await runner.setup()
    try:
        server = await listen(runner, kit)
    except OSError as error:
        logger.error(  # noqa: TRY400 (the sentence says it all)
            "service.no_port", extra={"port": settings.port, "error": str(error)}
        )
        await runner.cleanup()
        return 1
    logger.info("service.started", extra={"port": kit.port, "version": settings.version, "pid": os.getpid()})
    await stop.wait()
    start_s = time.monotonic()
    await kit.drain()
    await asyncio.sleep(settings.drain_delay_s)
    server.close()
    await runner.cleanup()
    logger.info("service.stopped", extra={"duration_s": round(time.monotonic() - start_s, 3)})
    return 0


async def listen(runner: web.AppRunner, kit: Instrumentation) -> asyncio.Server:
    """Open the port with our protocol on a set-up runner."""
    loop = asyncio.get_running_loop()
    server = runner.server
    assert server is not None

    settings = kit.settings
    malformed = kit.metrics.refused.labels("malformed_request").inc

    def connection() -> ProblemProtocol:
        return ProblemProtocol(server, malformed)

    listening = await loop.create_server(
        connection,
        settings.host,
        settings.port,
        ssl=server_tls(settings),
        backlog=_BACKLOG,
        reuse_address=True,
    )
    kit.port = listening.sockets[0].getsockname()[1]
    return listening


def server_tls(settings: Settings) -> ssl.SSLContext | None:
    """TLS 1.3 when TLS_CERT_FILE is set (`transport: internal-tls`); None for Flycast's HTTP."""
    if settings.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(settings.tls_cert, settings.tls_key)
    return context
