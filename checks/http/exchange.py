"""One request and its answer on an open stream."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Final

from checks.finding import Phase
from checks.http.answer import Answer, plain_answer
from checks.http.body import Body
from checks.http.response import ResponseParser
from checks.reason import Reason
from checks.wire.dial import tls_fault
from checks.wire.fault import Fault, fault_of
from checks.wire.journey import Journey
from checks.wire.stream import Stream

# A fast hostile server must not hold the loop: after this many reads everybody else has a turn.
_READS_IN_A_ROW: Final = 2


async def exchange(
    stream: Stream, request: bytes, *, method: str, body_limit: int, journey: Journey, plain: bool = False
) -> Answer:
    """Send `request` and read the answer. Raises Fault; the caller closes the stream.

    `plain` allows the short way for an ordinary answer that came whole; its head then lacks the Date.
    """
    journey.begin(Phase.PROCESSING)
    sent_s = time.monotonic()
    try:
        try:
            await stream.send(request)
        except (BrokenPipeError, ConnectionResetError):
            # It may have answered before it hung up on us.
            journey.note("request", "was not read to its end")
        data = await stream.receive()
    except ssl.SSLError as error:
        raise _cut(ResponseParser(method=method, sink=Body(limit_bytes=body_limit)), error) from error
    except OSError as error:
        raise fault_of(error, Phase.PROCESSING) from error
    if data:
        journey.end(stream.arrived_s - sent_s)
        journey.begin(Phase.TRANSFER)
        answer = plain_answer(data, body_limit) if plain and method != "HEAD" else None
        if answer is not None:
            journey.end(0.0)
            return answer
    return await _read(stream, data, method, body_limit, journey)


async def _read(stream: Stream, data: bytes, method: str, body_limit: int, journey: Journey) -> Answer:
    """The answer that begins with `data`, strictly."""
    body = Body(limit_bytes=body_limit)
    parser = ResponseParser(method=method, sink=body)
    began_s = stream.arrived_s
    reads = 1
    try:
        while data:
            parser.feed(data)
            if parser.done:
                break
            reads += 1
            if reads % _READS_IN_A_ROW == 0:
                await asyncio.sleep(0)
            data = await stream.receive()
        else:
            parser.end()
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
