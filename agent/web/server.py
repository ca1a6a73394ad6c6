"""The agent's HTTP server: limits, headers and tokens; the only file of the web that knows aiohttp."""

from __future__ import annotations

import asyncio
import gzip
import hmac
import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from http import HTTPStatus
from typing import Final, cast

from aiohttp import web
from msgspec import Struct
from msgspec.structs import replace

from agent.exposition.negotiation import accepts_gzip
from agent.web.exchange import EVENT_STREAM, Answer, Asked, Refused, problem
from agent.web.openapi import openapi_route
from agent.web.page.handlers import page_routes
from agent.web.routes import ROUTES, Route
from agent.web.source import Source
from checks.secret import Secret

logger = logging.getLogger(__name__)

_MAX_BODY: Final = 256 * 1024
_MAX_LINE: Final = 8190
_WRITE_WITHIN_S: Final = 30.0
_COMPRESS_FROM: Final = 1400
_KEEP_ALIVE_S: Final = 30.0
_STOP_WITHIN_S: Final = 2.0
_SPARE_CONNECTIONS: Final = 100
_REFUSALS: Final = {
    HTTPStatus.NOT_FOUND: "nothing is at this address; /api/v1/openapi.json lists what is",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: f"the body is larger than {_MAX_BODY} bytes",
}
CONTENT_POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "gaia",
}


class WebOptions(Struct, frozen=True, kw_only=True):
    """Where to listen and whom to let write. Without a token every write is refused."""

    host: str = "127.0.0.1"
    port: int = 9877
    token: Secret | None = None
    max_clients: int = 200
    certificate: str | None = None  # A PEM file; with it the server speaks TLS 1.3 and nothing else.
    private_key: str | None = None


@asynccontextmanager
async def serving(source: Source, options: WebOptions, *, more: tuple[Route, ...] = ()) -> AsyncIterator[int]:
    """Serve until the context ends; gives the port. `more` adds routes of other rooms.

    Raises OSError when the address cannot be bound and ssl.SSLError when the certificate cannot be used.
    """
    door = _Door(source, options)
    app = web.Application(client_max_size=_MAX_BODY, middlewares=[_refusals])
    described = (*ROUTES, *more)
    for route in (*page_routes(), *described, openapi_route(described)):
        if route.method == "GET":
            app.router.add_get(route.path, door.handler(route), allow_head=True)
        else:
            app.router.add_route(route.method, route.path, door.handler(route))
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        handler_cancellation=True,
        keepalive_timeout=_KEEP_ALIVE_S,
        max_line_size=_MAX_LINE,
        max_field_size=_MAX_LINE,
        shutdown_timeout=_STOP_WITHIN_S,
    )
    await runner.setup()
    try:
        listener = await _listen(runner, options)
        try:
            port: int = listener.sockets[0].getsockname()[1]
            logger.info("web.started", extra={"host": options.host, "port": port})
            yield port
        finally:
            listener.close()
            door.close()
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, options: WebOptions) -> asyncio.Server:
    http = runner.server
    assert http is not None
    limit = options.max_clients + _SPARE_CONNECTIONS

    def connection() -> asyncio.BaseProtocol:
        # A flood of idle connections must not take every file descriptor from the probes.
        return http() if len(http.connections) < limit else _Full()

    loop = asyncio.get_running_loop()
    return await loop.create_server(connection, options.host, options.port, ssl=_tls(options), backlog=128)


def _tls(options: WebOptions) -> ssl.SSLContext | None:
    if options.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(options.certificate, options.private_key)
    return context


class _Full(asyncio.Protocol):
    """Closes a connection that is one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


class _Door:
    """Lets requests in: counts streams, checks tokens, turns aiohttp's requests and answers into ours."""

    def __init__(self, source: Source, options: WebOptions) -> None:
        self._source = source
        self._options = options
        self._streams: set[asyncio.Task[object]] = set()

    def close(self) -> None:
        """End the answers that would never end by themselves."""
        for task in self._streams:
            task.cancel()

    def handler(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """The route as aiohttp wants it."""

        async def handle(request: web.Request) -> web.StreamResponse:
            refusal = self._token_missing(request) if route.writes else None
            answer = refusal or await self._answer(route, request)
            if isinstance(answer.body, bytes):
                return _whole(request, answer, answer.body)
            return await self._streamed(request, answer, answer.body)

        return handle

    async def _answer(self, route: Route, request: web.Request) -> Answer:
        try:
            async with asyncio.timeout(route.within_s):
                asked = Asked(
                    path=request.path,
                    query={name: request.query[name] for name in request.query},
                    every={name: tuple(request.query.getall(name)) for name in request.query},
                    headers={name.lower(): value for name, value in request.headers.items()},
                    parameters=dict(request.match_info),
                    body=await request.read() if request.can_read_body else b"",
                )
                answering = asyncio.ensure_future(route.handler(self._source, asked))
                # A reader that leaves cancels its answer, but never a write that has begun.
                return await (asyncio.shield(answering) if route.writes else answering)
        except Refused as refused:
            return problem(refused.status, refused.detail)
        except TimeoutError:
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "the answer took too long; try again")

    def _token_missing(self, request: web.Request) -> Answer | None:
        token = self._options.token
        if not token:
            return problem(HTTPStatus.FORBIDDEN, "writes are off: this agent was given no token")
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.reveal().encode())
        if scheme.lower() == "bearer" and right:
            return None
        refusal = problem(HTTPStatus.UNAUTHORIZED, "send the agent's token: Authorization: Bearer …")
        return replace(refusal, headers={"WWW-Authenticate": 'Bearer realm="gaia"'})

    async def _streamed(
        self, request: web.Request, answer: Answer, body: AsyncIterator[bytes]
    ) -> web.StreamResponse:
        endless = answer.type == EVENT_STREAM
        if endless and len(self._streams) >= self._options.max_clients:
            full = problem(HTTPStatus.SERVICE_UNAVAILABLE, "too many clients follow the events; poll instead")
            assert isinstance(full.body, bytes)
            return _whole(request, replace(full, headers={"Retry-After": "5"}), full.body)
        response = web.StreamResponse(status=answer.status, headers=_headers(answer))
        if request.method == "HEAD":
            await response.prepare(request)
            return response
        task = cast("asyncio.Task[object]", asyncio.current_task())
        if endless:
            self._streams.add(task)
        try:
            await response.prepare(request)
            async with aclosing(cast("AsyncGenerator[bytes, None]", body)) as chunks:
                async for chunk in chunks:
                    async with asyncio.timeout(_WRITE_WITHIN_S):
                        await response.write(chunk)
            await response.write_eof()
        except (ConnectionError, TimeoutError):
            # The reader went away or stopped reading; there is nobody to tell.
            request.protocol.force_close()
        finally:
            self._streams.discard(task)
        return response


def _whole(request: web.Request, answer: Answer, body: bytes) -> web.Response:
    headers = _headers(answer)
    if len(body) >= _COMPRESS_FROM and "Content-Encoding" not in headers:
        headers["Vary"] = "Accept-Encoding"
        if accepts_gzip(request.headers.get("Accept-Encoding")):
            body = gzip.compress(body, compresslevel=1, mtime=0)
            headers["Content-Encoding"] = "gzip"
    return web.Response(status=answer.status, headers=headers, body=body)


def _headers(answer: Answer) -> dict[str, str]:
    return {**SECURITY_HEADERS, "Content-Type": answer.type, **answer.headers}


@web.middleware
async def _refusals(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """What aiohttp itself refuses, and what breaks, told as everything else is: one sentence in JSON."""
    allow: dict[str, str] = {}
    try:
        return await handler(request)
    except web.HTTPException as error:
        status = HTTPStatus(error.status)
        detail = _REFUSALS.get(status, error.reason)
        if isinstance(error, web.HTTPMethodNotAllowed):
            allow = {"Allow": ", ".join(sorted(error.allowed_methods))}
    except Exception:
        logger.exception("web.defect", extra={"path": request.path})
        status, detail = HTTPStatus.INTERNAL_SERVER_ERROR, "the agent failed to answer; its log says why"
    answer = problem(status, detail)
    assert isinstance(answer.body, bytes)
    return web.Response(status=status, headers={**_headers(answer), **allow}, body=answer.body)
