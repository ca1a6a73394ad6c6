"""A running service asked from outside: where it says how it is, and whether it has metrics."""

from __future__ import annotations

import re
from http.client import HTTPException
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from msgspec import Struct

# In the order in which they tell most.
HEALTH_PATHS: Final = ("/health", "/healthz", "/actuator/health", "/readyz", "/livez", "/ping", "/")
_TIMEOUT_S: Final = 5.0
_MAX_BYTES: Final = 64 * 1024


class Answering(Struct, frozen=True, kw_only=True):
    """`health` is the first path that answers well, None when none does; `why` then says what came."""

    name: str
    url: str
    health: str | None
    metrics: bool
    why: str = ""


def ask(url: str) -> Answering:
    """Try the usual paths of `url` with GET. Raises ValueError when it is no http(s) address."""
    parts = urlsplit(url if "://" in url else f"https://{url}")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f'"{url}" is no http or https address')
    if parts.username or parts.password:
        raise ValueError(
            "the address carries a password: leave it out, the file has its place under http: auth"
        )
    root = f"{parts.scheme}://{parts.netloc}"
    name = _name(parts.hostname)
    wanted = (parts.path,) if parts.path not in {"", "/"} else HEALTH_PATHS
    why = ""
    for path in wanted:
        status, why = _get(root + path)
        if status is not None and status < 400:
            found, text = _get(root + "/metrics")
            metrics = found == 200 and "# TYPE " in text
            return Answering(name=name, url=root, health=path, metrics=metrics)
        if status is None:
            break
    return Answering(name=name, url=root, health=None, metrics=False, why=why)


def _name(host: str) -> str:
    """A name for the service: the first part of its host's name, or its whole address."""
    first = host.removeprefix("www.").split(".")[0]
    word = host if first.isdigit() or ":" in host else first
    return re.sub(r"[^A-Za-z0-9_-]+", "-", word).strip("-")[:60] or "web"


def _get(url: str) -> tuple[int | None, str]:
    """Status and the beginning of the body; None and the reason when nothing came."""
    request = Request(url, headers={"User-Agent": "gaia-init", "Accept": "*/*"})  # noqa: S310  # ask() checked it.
    try:
        with urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310  # As above.
            return answer.status, answer.read(_MAX_BYTES).decode("utf-8", "replace")
    except HTTPError as error:
        return error.code, f"answers {error.code}"
    except (URLError, HTTPException, OSError, ValueError) as error:
        return None, f"does not answer: {' '.join(str(getattr(error, 'reason', error)).split())}"
