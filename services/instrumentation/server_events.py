"""Server-sent events as bytes (WHATWG HTML, section 9.2)."""

from __future__ import annotations

from typing import Final

CONTENT_TYPE: Final = "text/event-stream"


def event(name: str, number: int | None, data: bytes) -> bytes:
    """One event; `number` is its id, which a client that comes back sends as Last-Event-ID."""
    head = f"event: {name}\n" if number is None else f"id: {number}\nevent: {name}\n"
    return head.encode() + b"data: " + data + b"\n\n"


GOODBYE: Final = event("goodbye", None, b'{"reconnect":true}')
"""An end the client understands: it comes back at once and continues where it was."""
