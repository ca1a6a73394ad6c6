"""One POST to a backend: the only user of aiohttp's client, imported when the first destination needs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import Struct

if TYPE_CHECKING:
    import aiohttp

_MAX_ANSWER: Final = 64 * 1024


class Reply(Struct, frozen=True, kw_only=True):
    """What a backend answered. `status` 0: nothing came back, `body` says why."""

    status: int
    body: bytes = b""
    retry_after_s: float | None = None


class Post(Protocol):
    """The way to a backend."""

    async def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Send once. Never raises but CancelledError."""
        ...


class HttpPost:
    """Keeps its connections; close it at the end."""

    def __init__(self, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        import aiohttp

        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self._timeout_s)
            self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        try:
            # A redirect would carry the telemetry and its token to an address nobody configured.
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                answer = await response.content.read(_MAX_ANSWER)
                wait_s = _retry_after(response.headers.get("Retry-After"), response.headers.get("Date"))
                return Reply(status=response.status, body=answer, retry_after_s=wait_s)
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError.
            return Reply(status=0, body=f"{type(error).__name__}: {error}".encode()[:200])

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def _retry_after(text: str | None, date: str | None) -> float | None:
    """Seconds, from a number or an HTTP date (RFC 9110, section 10.2.3) by the backend's own clock."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return float(text[:9])
    from email.utils import parsedate_to_datetime  # 8 ms, between the start and the open port.

    try:
        return max(0.0, (parsedate_to_datetime(text) - parsedate_to_datetime(date or "")).total_seconds())
    except (TypeError, ValueError):
        return None
