"""One GET of a plain page with hard limits, on the engine that probes: no thread, no framework."""

from __future__ import annotations

import time

from msgspec import Struct

from checks.catalog import Resolver
from checks.http.exchange import exchange
from checks.http.request import Request, request_of
from checks.wire.dial import connect, resolve, secure
from checks.wire.fault import DeadlinePassed, Fault, NoSocketLeft
from checks.wire.journey import Journey
from checks.wire.stream import Stream
from checks.wire.tls_options import TlsOptions


class FetchError(Exception):
    """The page could not be had; the text says what came instead."""


class Page(Struct, frozen=True, kw_only=True):
    """A 200's body, decoded, and its content type."""

    content_type: str
    body: bytes


def page_request(url: str, *, accept: str) -> Request:
    """The request for `url`, built once."""
    return request_of(url, private=(("accept", accept), ("accept-encoding", "gzip")))


async def fetch(request: Request, *, resolver: Resolver, max_bytes: int, deadline_s: float) -> Page:
    """GET on a connection of its own within `deadline_s` seconds. Raises FetchError; leaves nothing open."""
    journey = Journey(deadline_s=time.monotonic() + deadline_s)
    try:
        addresses = await resolve(request.origin.host, "any", resolver, journey)
        stream: Stream
        stream = wire = await connect(addresses, request.origin.port, journey)
        try:
            if request.origin.scheme == "https":
                stream, _ = await secure(wire, request.origin.host, TlsOptions(), journey)
            head = request.head(keep=False) + b"\r\n"
            answer = await exchange(stream, head, method="GET", body_limit=max_bytes, journey=journey)
        finally:
            stream.close()
    except DeadlinePassed:
        raise FetchError(f"no answer within {deadline_s:g} s") from None
    except Fault as fault:
        raise FetchError(fault.message) from fault
    except NoSocketLeft as error:
        raise FetchError("the agent has no socket left") from error
    if answer.head.status != 200:
        raise FetchError(f"HTTP {answer.head.status}")
    return Page(content_type=answer.head.get("content-type") or "", body=answer.body)
