"""One HTTP request with a deadline for the whole of it, on the standard library.

The first page must not wait 160 ms for an HTTP client to be imported; `http.client` in the channel's own
thread takes 2 ms, and a slow drip of a response is cut by the deadline, not by a timeout per read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from alerts.notifiers.notifier import NotifyError

if TYPE_CHECKING:
    from http.client import HTTPConnection

_BODY_LIMIT: Final = 65_536
_RETRYABLE: Final = frozenset({408, 425, 429})
_MAX_RETRY_AFTER_S: Final = 3600.0


class Answer(Struct, frozen=True, kw_only=True):
    """What came back."""

    status: int
    body: bytes


def warm() -> None:
    """Import what `request` needs."""
    import http.client
    import ssl  # noqa: F401  # imported for its effect: the first TLS page must not wait for it

    del http


def request(
    method: str,
    url: str,
    *,
    deadline_s: float,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send one request and return a 2xx answer. Redirects are not followed.

    Raises NotifyError for any other status (408, 425, 429 and 5xx are retryable, Retry-After is honoured),
    and for a URL, a connection or an answer that fails. The URL appears in no message: it may be a secret.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NotifyError("the URL is not http:// or https://", retryable=False)
    started = time.monotonic()
    connection = _connection(parts, deadline_s)
    cut = threading.Timer(deadline_s, _cut, (connection,))
    cut.daemon = True
    cut.start()
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        sent = {"User-Agent": "gaia", "Connection": "close", **_auth(parts), **(headers or {})}
        connection.request(method, target, body=body or None, headers=sent)
        response = connection.getresponse()
        answer = Answer(status=response.status, body=response.read(_BODY_LIMIT))
        retry_after = response.getheader("Retry-After")
    except (OSError, ValueError, _http_exception()) as error:
        if time.monotonic() - started >= deadline_s:
            raise NotifyError(
                f"{parts.hostname} did not answer within {deadline_s:g} s", retryable=True
            ) from error
        raise NotifyError(f"{parts.hostname}: {_words(error)}", retryable=True) from error
    finally:
        cut.cancel()
        connection.close()
    if time.monotonic() - started >= deadline_s:
        # An answer that was cut reads like a short one; whether it was taken is not known.
        raise NotifyError(f"{parts.hostname} did not finish within {deadline_s:g} s", retryable=True)
    if not 200 <= answer.status < 300:
        retryable = answer.status in _RETRYABLE or answer.status >= 500
        raise NotifyError(
            f"{parts.hostname} answered {answer.status}: {_excerpt(answer.body)}",
            retryable=retryable,
            status=answer.status,
            retry_after_s=_retry_after_s(retry_after),
        )
    return answer


def _connection(parts: SplitResult, deadline_s: float) -> HTTPConnection:
    from http.client import HTTPConnection, HTTPSConnection

    assert parts.hostname is not None
    if parts.scheme == "http":
        return HTTPConnection(parts.hostname, parts.port, timeout=deadline_s)
    import ssl

    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return HTTPSConnection(parts.hostname, parts.port, timeout=deadline_s, context=context)


def _cut(connection: HTTPConnection) -> None:
    """End a request that takes too long in small bites; its reader then sees a closed socket."""
    import socket

    sock = connection.sock
    if sock is not None:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def _http_exception() -> type[Exception]:
    from http.client import HTTPException

    return HTTPException


def _auth(parts: SplitResult) -> dict[str, str]:
    if parts.username is None:
        return {}
    from base64 import b64encode
    from urllib.parse import unquote

    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}


def _retry_after_s(value: str | None) -> float | None:
    if value is None:
        return None
    with suppress(ValueError):
        return min(max(0.0, float(value)), _MAX_RETRY_AFTER_S)
    from email.utils import parsedate_to_datetime  # `http.client` has long imported it by now.

    with suppress(ValueError, TypeError):
        return min(max(0.0, parsedate_to_datetime(value).timestamp() - time.time()), _MAX_RETRY_AFTER_S)
    return None


def _excerpt(body: bytes) -> str:
    return " ".join(body[:200].decode("utf-8", "replace").split())


def _words(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
