"""One GET of a plain page over HTTP/1.1 with hard limits on size; the caller owns the deadline."""

from __future__ import annotations

import asyncio
import ssl
import zlib
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

_HEAD_LIMIT: Final = 32 * 1024


class FetchError(Exception):
    """The page could not be had; the text says what came instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A 200's body, decoded, and its content type."""

    content_type: str
    body: bytes


async def fetch(url: str, *, max_bytes: int, accept: str) -> Page:
    """GET `url` on a connection of its own. Raises FetchError, OSError; nothing stays open on cancel."""
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    context = ssl.create_default_context() if secure else None
    reader, writer = await asyncio.open_connection(
        host, parts.port or (443 if secure else 80), ssl=context, limit=_HEAD_LIMIT
    )
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\nAccept: {accept}\r\n"
            f"Accept-Encoding: gzip\r\nUser-Agent: gaia\r\nConnection: close\r\n\r\n".encode("ascii")
        )
        status, headers = await _head(reader)
        if status != 200:
            raise FetchError(f"HTTP {status}")
        body = await _body(reader, headers, max_bytes)
        if headers.get("content-encoding", "identity").lower() == "gzip":
            body = _inflate(body, max_bytes)
        return Page(content_type=headers.get("content-type", ""), body=body)
    except (asyncio.LimitOverrunError, asyncio.IncompleteReadError, ValueError) as error:
        raise FetchError(f"not a whole HTTP answer: {type(error).__name__}") from error
    finally:
        writer.close()


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    version, status = lines[0].split(" ", 2)[:2]
    if version not in {"HTTP/1.1", "HTTP/1.0"}:
        raise FetchError(f"not HTTP/1: {lines[0][:60]}")
    pairs = (line.partition(":") for line in lines[1:] if line)
    return int(status), {name.strip().lower(): value.strip() for name, _, value in pairs}


async def _body(reader: asyncio.StreamReader, headers: dict[str, str], max_bytes: int) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = bytearray()
        while size := int((await reader.readline()).split(b";")[0], 16):
            _check(len(body) + size, max_bytes)
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        return bytes(body)
    if "content-length" in headers:
        length = int(headers["content-length"])
        _check(length, max_bytes)
        return await reader.readexactly(length)
    body = bytearray()
    while part := await reader.read(64 * 1024):
        body += part
        _check(len(body), max_bytes)
    return bytes(body)


def _inflate(body: bytes, max_bytes: int) -> bytes:
    decoder = zlib.decompressobj(31)
    try:
        plain = decoder.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise FetchError("broken gzip") from error
    _check(len(plain), max_bytes)
    if not decoder.eof:
        raise FetchError("gzip ends early")
    return plain


def _check(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise FetchError(f"larger than {max_bytes} bytes")
