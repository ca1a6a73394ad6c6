"""How an answer is written: its head with the headers every answer has, its body whole or in chunks."""

from __future__ import annotations

import asyncio
import gzip
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import Final, cast

from agent.exposition.negotiation import accepts_gzip
from agent.http_head import Head
from agent.web.exchange import Answer, problem

_WRITE_WITHIN_S: Final = 30.0
_COMPRESS_FROM: Final = 1400
_LINGER_S: Final = 1.0
_READ_BYTES: Final = 8 * 1024
_LINE_ENDS: Final = re.compile(r"[\r\n]")
CONTENT_POLICY: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "gaia",
}


async def send_chunks(writer: asyncio.StreamWriter, body: AsyncIterator[bytes], *, chunked: bool) -> None:
    """Write a body as it comes. Raises TimeoutError when the reader takes nothing for 30 s."""
    async with aclosing(cast("AsyncGenerator[bytes, None]", body)) as chunks:
        async for chunk in chunks:
            if chunk:
                writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
                async with asyncio.timeout(_WRITE_WITHIN_S):
                    await writer.drain()
    if chunked:
        writer.write(b"0\r\n\r\n")
        async with asyncio.timeout(_WRITE_WITHIN_S):
            await writer.drain()


async def send_whole(writer: asyncio.StreamWriter, head: Head, answer: Answer, body: bytes) -> bool:
    """Write an answer whose body is there, compressed where it helps; whether the connection goes on."""
    extra: dict[str, str] = {}
    if len(body) >= _COMPRESS_FROM and "Content-Encoding" not in answer.headers:
        extra["Vary"] = "Accept-Encoding"
        if accepts_gzip(head.headers.get("accept-encoding")):
            body = gzip.compress(body, compresslevel=1, mtime=0)
            extra["Content-Encoding"] = "gzip"
    extra["Content-Length"] = str(len(body))
    write_head(writer, answer, extra, keep_alive=head.keep_alive)
    if head.method != "HEAD":
        writer.write(body)
    async with asyncio.timeout(_WRITE_WITHIN_S):
        await writer.drain()
    return head.keep_alive


async def turn_away(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, status: HTTPStatus, detail: str
) -> bool:
    """Answer and close, reading on for a moment: a reset would take the answer from the client."""
    answer = problem(status, detail)
    assert isinstance(answer.body, bytes)
    write_head(writer, answer, {"Content-Length": str(len(answer.body))}, keep_alive=False)
    writer.write(answer.body)
    async with asyncio.timeout(_WRITE_WITHIN_S):
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
    async with asyncio.timeout(_LINGER_S):
        while await reader.read(_READ_BYTES):
            pass
    return False


def write_head(
    writer: asyncio.StreamWriter, answer: Answer, extra: Mapping[str, str], *, keep_alive: bool
) -> None:
    """Write the status line and headers: those every answer has, the answer's own, and `extra`."""
    headers = {
        "Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()),
        **SECURITY_HEADERS,
        "Content-Type": answer.type,
        **answer.headers,
        **extra,
        "Connection": "keep-alive" if keep_alive else "close",
    }
    status = HTTPStatus(answer.status)
    # A handler's text can never end a header line early.
    lines = [f"{name}: {_LINE_ENDS.sub(' ', value)}" for name, value in headers.items()]
    text = f"HTTP/1.1 {status.value} {status.phrase}\r\n" + "\r\n".join(lines) + "\r\n\r\n"
    writer.write(text.encode("latin-1", "replace"))
