"""The access log: one JSON line a request with its authentication context, whatever LOG_LEVEL says."""

from __future__ import annotations

import time
from functools import partial
from typing import Final

import msgspec
from aiohttp import web

from services.instrumentation.context import ANONYMOUS, Identity, RequestContext
from services.instrumentation.logs import LineWriter, timestamp
from services.instrumentation.settings import Settings

_PATH_CHARACTERS: Final = 256
_METHOD_CHARACTERS: Final = 20
_REMEMBERED: Final = 2_048
_EDGE_HEADERS: Final = ("Fly-Client-IP", "X-Forwarded-For", "Forwarded", "Via")

_encode: Final = msgspec.json.Encoder().encode


class AccessLog:
    """Notes each request when it ends; the writer's thread makes the line, of parts most of which are ready.

    An encoder of whole lines, called between two requests, takes four times as long.
    """

    def __init__(self, writer: LineWriter, settings: Settings) -> None:
        self._writer = writer
        self._on_fly = settings.on_fly
        self._texts: dict[str, str] = {}
        self._head = (
            f'"level":"INFO","logger":"access","event":"request","service":{self._text(settings.service)},'
            f'"environment":"{settings.environment.value}"'
        )
        self._second = -1
        self._second_text = ""
        self._nobody = self._caller(ANONYMOUS, "")

    def note(
        self,
        request: web.Request,
        context: RequestContext,
        *,
        status: int,
        error_type: str,
        spent_s: float,
        response: web.StreamResponse | None,
    ) -> None:
        """Queue the line of one request that was answered or left. Never blocks."""
        self._writer.queue(
            partial(
                self._line,
                time.time(),
                context,
                request.method[:_METHOD_CHARACTERS],
                _path(request),
                client_address(request, on_fly=self._on_fly) if self._on_fly else request.remote or "",
                status,
                _length(response),
                spent_s,
                error_type,
            )
        )

    def _line(  # noqa: PLR0913, PLR0917 (a line's facts, in the order of its note)
        self,
        at_s: float,
        context: RequestContext,
        method: str,
        path: str,
        client: str,
        status: int,
        sent_bytes: int,
        spent_s: float,
        error_type: str,
    ) -> bytes:
        text, trace = self._text, context.trace
        known = context.identity is ANONYMOUS and not context.auth_reason
        caller = self._nobody if known else self._caller(context.identity, context.auth_reason)
        error = f',"error_type":{text(error_type)}' if error_type else ""
        second, micro = divmod(int(at_s * 1e6), 1_000_000)
        if second != self._second:
            self._second, self._second_text = second, timestamp(second)[:20]
        return (
            f'{{"timestamp":"{self._second_text}{micro:06d}Z",{self._head},'
            f'"method":{text(method)},"route":{text(context.route)},'
            f'"path":{text(path)},"status":{status},"duration_ms":{spent_s * 1000:.3f},'
            f'"bytes_sent":{sent_bytes},"client":{text(client)},"request_id":{self._id(context)},'
            f'"trace_id":"{trace.trace_id}","span_id":"{trace.span_id}",{caller}{error}}}'
        ).encode()

    def _id(self, context: RequestContext) -> str:
        # Ours is clean and never seen again; a caller's may be a secret that strayed.
        own = context.request_id is context.trace.trace_id
        return f'"{context.request_id}"' if own else self._text(context.request_id)

    def _caller(self, identity: Identity, reason: str) -> str:
        result = "denied" if reason else "anonymous" if identity.kind == "anonymous" else "allowed"
        text = self._text
        scopes = ",".join(map(text, identity.scopes))
        return (
            f'"auth_type":{text(identity.kind)},"auth_subject":{text(identity.subject)},'
            f'"auth_key_id":{text(identity.key_id)},"auth_scopes":[{scopes}],'
            f'"auth_result":"{result}","auth_reason":{text(reason)}'
        )

    def _text(self, value: str) -> str:
        """`value` as JSON with its secrets masked; remembered, for most values come again and again."""
        known = self._texts.get(value)
        if known is not None:
            return known
        if len(self._texts) >= _REMEMBERED:
            self._texts.clear()
        redacted = self._writer.redactor.redact(value)
        # A lone surrogate, from a path of wrong bytes, is escaped.
        clean = redacted.encode("utf-8", "backslashreplace").decode()
        self._texts[value] = found = _encode(clean).decode()
        return found


def client_address(request: web.Request, *, on_fly: bool) -> str:
    """The client's address. Fly's proxy is believed on Fly only; nobody else's header ever is."""
    if on_fly and (address := request.headers.get("Fly-Client-IP")):
        return address[:64]
    return request.remote or ""


def was_forwarded(request: web.Request) -> bool:
    """Whether a proxy passed it on, so that its peer says nothing of where it comes from."""
    return any(name in request.headers for name in _EDGE_HEADERS)


def _path(request: web.Request) -> str:
    """The decoded path without its query. What needs no decoding is not parsed again."""
    raw = request.raw_path
    if "%" in raw or "?" in raw or raw[:1] != "/":
        raw = request.path
    return raw if len(raw) <= _PATH_CHARACTERS else raw[:_PATH_CHARACTERS]


def _length(response: web.StreamResponse | None) -> int:
    if isinstance(response, web.Response) and isinstance(response.body, bytes):
        return len(response.body)
    if response is None:
        return 0
    return response.body_length if response.prepared else response.content_length or 0
