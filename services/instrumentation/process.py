"""One service as a process: listens, and leaves without losing a request."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import ssl
import time
from typing import TYPE_CHECKING, Final

from aiohttp import web

from services.instrumentation.connection import KEEPALIVE_S, ClientConnection
from services.instrumentation.settings import Settings

if TYPE_CHECKING:
    from services.instrumentation.kit import Instrumentation

logger = logging.getLogger(__name__)

_SECOND_SIGNAL: Final = 130
_BACKLOG: Final = 1024
_TLS_HANDSHAKE_S: Final = 10.0


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
        keepalive_timeout=KEEPALIVE_S,
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
    tls = server_tls(settings)

    def refused(reason: str) -> None:
        kit.metrics.refused.labels(reason).inc()

    def connection() -> ClientConnection:
        return ClientConnection(server, settings, refused)

    listening = await loop.create_server(
        connection,
        settings.host,
        settings.port,
        ssl=tls,
        ssl_handshake_timeout=None if tls is None else _TLS_HANDSHAKE_S,
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
