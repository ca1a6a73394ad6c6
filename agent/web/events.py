"""`/api/v1/events`: what happens, as server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from http import HTTPStatus
from typing import Final

import msgspec

from agent.board import Event
from agent.web.exchange import EVENT_STREAM, Answer, Asked, Refused
from agent.web.source import Source

HEARTBEAT_S: Final = 5.0
_RETRY_MS: Final = 3000
_BATCH_S: Final = 0.05
_MAX_BATCH: Final = 64


async def events(source: Source, asked: Asked) -> Answer:
    """Events after `Last-Event-ID` (or `?after=`), then as they happen; a comment every 5 s of quiet.

    `id` is the event's number, `event` its kind, `data` the event as JSON. `event: reset` says that some
    were missed or that the agent restarted: read /api/v1/status again.
    """
    text = asked.headers.get("last-event-id") or asked.query.get("after")
    if text is not None and not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Refused(HTTPStatus.BAD_REQUEST, "Last-Event-ID must be a number this agent gave")
    return Answer(
        body=_stream(source, source.board.last_seq if text is None else int(text)),
        type=EVENT_STREAM,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _stream(source: Source, after: int) -> AsyncIterator[bytes]:
    yield f"retry: {_RETRY_MS}\nid: {after}\n: hello\n\n".encode()
    async with aclosing(source.board.subscribe(after)) as subscription:
        pending = asyncio.ensure_future(anext(subscription))
        try:
            while True:
                done, _ = await asyncio.wait((pending,), timeout=HEARTBEAT_S)
                if not done:
                    yield b": alive\n\n"
                    continue
                batch = [_frame(source, pending.result())]
                pending = asyncio.ensure_future(anext(subscription))
                # A burst becomes one write: whatever is there within a moment goes along.
                while len(batch) < _MAX_BATCH and (await asyncio.wait((pending,), timeout=_BATCH_S))[0]:
                    batch.append(_frame(source, pending.result()))
                    pending = asyncio.ensure_future(anext(subscription))
                yield b"".join(batch)
        finally:
            pending.cancel()
            await asyncio.wait((pending,))


def _frame(source: Source, event: Event | None) -> bytes:
    if event is None:
        return f"id: {source.board.last_seq}\nevent: reset\ndata: {{}}\n\n".encode()
    # JSON has no raw line feed, so one data line holds it.
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (
        event.seq,
        event.kind.value.encode(),
        msgspec.json.encode(event),
    )
