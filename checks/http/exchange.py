"""One request and its answer on an open stream."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Final

from msgspec import Struct

from checks.finding import Phase
from checks.http.body import Body
from checks.http.response import Head, ResponseParser
from checks.reason import Reason
from checks.wire.dial import tls_fault
from checks.wire.fault import Fault, fault_of
from checks.wire.journey import Journey
from checks.wire.stream import Stream

# A fast hostile server must not hold the loop: after this many reads everybody else has a turn.
_READS_IN_A_ROW: Final = 2


class Answer(Struct, frozen=True, kw_only=True):
    """A whole response. `body` is decoded; `wire_bytes` is its size before decoding."""

    head: Head
    body: bytes
    wire_bytes: int
    reusable: bool


async def exchange(
    stream: Stream, request: bytes, *, method: str, body_limit: int, journey: Journey
) -> Answer:
    """Send `request` and read the answer. Raises Fault; the caller closes the stream."""
    body = Body(limit_bytes=body_limit)
    parser = ResponseParser(method=method, sink=body)
    journey.begin(Phase.PROCESSING)
    sent_s = time.monotonic()
    began_s = sent_s
    reads = 0
    try:
        try:
            await stream.send(request)
        except (BrokenPipeError, ConnectionResetError):
            # It may have answered before it hung up on us.
            journey.note("request", "was not read to its end")
        while not parser.done:
            data = await stream.receive()
            if journey.phase is Phase.PROCESSING and data:
                began_s = stream.arrived_s
                journey.end(began_s - sent_s)
                journey.begin(Phase.TRANSFER)
            if not data:
                parser.end()
                break
            parser.feed(data)
            reads += 1
            if reads % _READS_IN_A_ROW == 0:
                await asyncio.sleep(0)
        body.end()
    except ssl.SSLError as error:
        raise _cut(parser, error) from error
    except OSError as error:
        raise fault_of(error, journey.phase or Phase.TRANSFER) from error
    except Fault:
        if parser.head is not None:
            journey.note("status", str(parser.head.status))
        raise
    journey.end(stream.arrived_s - began_s)
    assert parser.head is not None
    return Answer(head=parser.head, body=body.content(), wire_bytes=body.wire_bytes, reusable=parser.reusable)


def _cut(parser: ResponseParser, error: ssl.SSLError) -> Fault:
    """RFC 9112 section 9.8: an end without close_notify completes only an answer that knew its length."""
    if isinstance(error, ssl.SSLEOFError) or "UNEXPECTED_EOF" in (error.reason or ""):
        try:
            parser.end()
        except Fault as fault:
            return fault
        return Fault(Reason.INCOMPLETE_BODY, "ended TLS without saying so, in a body of unknown length")
    return tls_fault(error)
