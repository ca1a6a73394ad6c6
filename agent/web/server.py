"""The agent's HTTP server: limits, headers, tokens, streams; on asyncio alone.

aiohttp's server would cost 14 MiB and half a second before the first page (measured); the handlers are plain
functions and need none of it. RFC 9112, read strictly: anything ambiguous is 400 and the connection closes.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final, cast
from urllib.parse import parse_qs, unquote

from msgspec import Struct
from msgspec.structs import replace

from agent.http_head import Head, HeadError, parse_head
from agent.web.exchange import EVENT_STREAM, Answer, Asked, Refused, problem
from agent.web.openapi import openapi_route
from agent.web.page.handlers import page_routes
from agent.web.routes import ROUTES, Route
from agent.web.source import Source
from agent.web.table import NotAllowed, Table
from agent.web.writing import send_chunks, send_whole, turn_away, write_head
from checks.secret import Secret

logger = logging.getLogger(__name__)

_MAX_BODY: Final = 256 * 1024
_MAX_HEAD: Final = 8 * 1024
_TOO_LARGE: Final = f"the body is larger than {_MAX_BODY} bytes"
_MAX_PARAMETERS: Final = 100
_BODY_WITHIN_S: Final = 10.0
_KEEP_ALIVE_S: Final = 30.0
_STOP_WITHIN_S: Final = 2.0
_SPARE_CONNECTIONS: Final = 100


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
    described = (*ROUTES, *more)
    door = _Door(source, options, (*page_routes(), *described, openapi_route(described)))
    server = await asyncio.start_server(
        door.welcome, options.host, options.port, ssl=_tls(options), limit=_MAX_HEAD, backlog=128
    )
    try:
        port: int = server.sockets[0].getsockname()[1]
        logger.info("web.started", extra={"host": options.host, "port": port})
        yield port
    finally:
        server.close()
        await door.close()


def _tls(options: WebOptions) -> ssl.SSLContext | None:
    if options.certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(options.certificate, options.private_key)
    return context


class _Door:
    """Lets connections in, reads their requests and writes the answers."""

    def __init__(self, source: Source, options: WebOptions, routes: Iterable[Route]) -> None:
        self._source = source
        self._options = options
        self._table = Table(routes)
        self._connections: set[asyncio.Task[object]] = set()
        # Those that wait for a request, the one that waits longest first.
        self._idle: dict[asyncio.Task[object], None] = {}
        self._endless = 0

    async def close(self) -> None:
        """End every connection: those between two requests and the streams at once, the others soon."""
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(self._connections, timeout=_STOP_WITHIN_S)

    async def welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end. Raises nothing."""
        task = cast("asyncio.Task[object]", asyncio.current_task())
        try:
            if self._has_place():
                self._connections.add(task)
                while await self._exchange(reader, writer):
                    pass
        except (ConnectionError, TimeoutError, asyncio.IncompleteReadError, ssl.SSLError):
            return  # The reader went away or stopped reading; there is nobody to tell.
        except asyncio.CancelledError:
            return  # The server closes; this task has no other owner.
        finally:
            self._connections.discard(task)
            writer.close()

    def _has_place(self) -> bool:
        """A flood of idle connections takes neither every file descriptor nor the place of one that asks."""
        if len(self._connections) < self._options.max_clients + _SPARE_CONNECTIONS:
            return True
        longest = next(iter(self._idle), None)
        if longest is None:
            return False
        del self._idle[longest]
        self._connections.discard(longest)
        longest.cancel()
        return True

    async def _next_head(self, reader: asyncio.StreamReader) -> Head:
        task = cast("asyncio.Task[object]", asyncio.current_task())
        self._idle[task] = None
        try:
            async with asyncio.timeout(_KEEP_ALIVE_S):
                return parse_head((await reader.readuntil(b"\r\n\r\n"))[:-4])
        finally:
            self._idle.pop(task, None)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; whether the connection goes on."""
        try:
            head = await self._next_head(reader)
        except asyncio.LimitOverrunError:
            return await turn_away(
                reader, writer, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"more than {_MAX_HEAD} bytes"
            )
        except HeadError as error:
            return await turn_away(reader, writer, HTTPStatus.BAD_REQUEST, str(error))
        if head.chunked:
            return await turn_away(
                reader, writer, HTTPStatus.LENGTH_REQUIRED, "send the body with a Content-Length"
            )
        if head.length > _MAX_BODY:
            return await turn_away(
                reader,
                writer,
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the body is larger than {_MAX_BODY} bytes",
            )
        if head.expects_continue:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        async with asyncio.timeout(_BODY_WITHIN_S):
            body = await reader.readexactly(head.length)
        answer = await self._answer(head, body)
        if isinstance(answer.body, bytes):
            return await send_whole(writer, head, answer, answer.body)
        return await self._streamed(reader, writer, head, answer, answer.body)

    async def _answer(self, head: Head, body: bytes) -> Answer:
        try:
            path = unquote(head.path)
            route, parameters = self._table.find(head.method, path)
            refusal = self._token_missing(head) if route.writes else None
            if refusal is not None:
                return refusal
            asked = _asked(head, path, parameters, body)
            async with asyncio.timeout(route.within_s):
                answering = asyncio.ensure_future(route.handler(self._source, asked))
                # A stop cancels an answer, but never a write that has begun.
                return await (asyncio.shield(answering) if route.writes else answering)
        except NotAllowed as refused:
            return replace(problem(refused.status, refused.detail), headers={"Allow": refused.allowed})
        except Refused as refused:
            return problem(refused.status, refused.detail)
        except TimeoutError:
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "the answer took too long; try again")
        except Exception:
            logger.exception("web.defect", extra={"path": head.path})
            return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the agent failed to answer; its log says why")

    def _token_missing(self, head: Head) -> Answer | None:
        token = self._options.token
        if not token:
            return problem(HTTPStatus.FORBIDDEN, "writes are off: this agent was given no token")
        scheme, _, given = head.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.reveal().encode())
        if scheme.lower() == "bearer" and right:
            return None
        refusal = problem(HTTPStatus.UNAUTHORIZED, "send the agent's token: Authorization: Bearer …")
        return replace(refusal, headers={"WWW-Authenticate": 'Bearer realm="gaia"'})

    async def _streamed(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        head: Head,
        answer: Answer,
        body: AsyncIterator[bytes],
    ) -> bool:
        endless = answer.type == EVENT_STREAM
        if endless and self._endless >= self._options.max_clients:
            full = problem(HTTPStatus.SERVICE_UNAVAILABLE, "too many clients follow the events; poll instead")
            assert isinstance(full.body, bytes)
            return await send_whole(writer, head, replace(full, headers={"Retry-After": "5"}), full.body)
        chunked = head.version == "HTTP/1.1"
        keep_alive = head.keep_alive and chunked and not endless
        extra = {"Transfer-Encoding": "chunked"} if chunked else {}
        write_head(writer, answer, extra, keep_alive=keep_alive)
        if head.method == "HEAD":
            return False
        self._endless += endless
        sending = asyncio.ensure_future(send_chunks(writer, body, chunked=chunked))
        # What follows a stream on its connection is only ever the end: the reader has left.
        leaving = asyncio.ensure_future(reader.read(1)) if endless else None
        try:
            waiting = {sending} if leaving is None else {sending, leaving}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
                return keep_alive
            return False
        finally:
            self._endless -= endless
            for task in filter(None, (sending, leaving)):
                task.cancel()
            await asyncio.wait([task for task in (sending, leaving) if task is not None])


def _asked(head: Head, path: str, parameters: Mapping[str, str], body: bytes) -> Asked:
    try:
        every = parse_qs(head.query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
    except ValueError as error:
        raise Refused(HTTPStatus.BAD_REQUEST, f"more than {_MAX_PARAMETERS} query parameters") from error
    return Asked(
        path=path,
        query={name: values[0] for name, values in every.items()},
        every={name: tuple(values) for name, values in every.items()},
        headers=head.headers,
        parameters=parameters,
        body=body,
    )
