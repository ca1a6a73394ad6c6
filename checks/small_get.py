"""One small HTTP GET for control planes and monitoring ports: an answer whole, a limit on everything."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from checks.base_url import DEFAULT_PORTS, check_base
from checks.catalog import Resolver

_MAX_BODY_BYTES: Final = 8 << 20


class Answer(Struct, frozen=True, kw_only=True):
    """Status code and body."""

    status: int
    body: bytes


class SmallGet:
    """GETs below one URL, each on its own connection."""

    def __init__(
        self,
        url: str,
        resolver: Resolver,
        *,
        context: ssl.SSLContext | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Raises ValueError when `url` is not an http(s) URL. `headers` may hold a token: never shown."""
        check_base(url, key="the address")
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or DEFAULT_PORTS[parts.scheme]
        self._path = parts.path.rstrip("/")
        self._context = (context or ssl.create_default_context()) if parts.scheme == "https" else None
        self._resolver = resolver
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers)
        self.shown = f"{self._host}:{self._port}"

    async def get(self, path: str) -> Answer:
        """Raises OSError, or ValueError when it is not HTTP. The caller owns the deadline."""
        addresses = await self._resolver.addresses(self._host)
        reader, writer = await asyncio.open_connection(
            addresses[0],
            self._port,
            ssl=self._context,
            server_hostname=self._host if self._context else None,
            limit=_MAX_BODY_BYTES,
        )
        try:
            writer.write(
                f"GET {self._path}{path} HTTP/1.0\r\nHost: {self._host}\r\n{self._headers}\r\n".encode()
            )
            answer = await reader.readuntil(b"\r\n\r\n")
            body = bytearray()
            while piece := await reader.read(65536):
                body += piece
                if len(body) > _MAX_BODY_BYTES:
                    raise ValueError(f"{path} answers with more than {_MAX_BODY_BYTES} bytes")
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("closed before an answer") from error
        except asyncio.LimitOverrunError as error:
            raise ValueError("the header has no end") from error
        finally:
            writer.transport.abort()
        words = answer.split(None, 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
            raise ValueError("not HTTP")
        return Answer(status=int(words[1]), body=bytes(body))
