"""Where NATS servers are and how to enter: parsed connection URLs."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from checks.secret import Secret

_DEFAULT_PORT: Final = 4222
_NOTHING: Final = Secret("")


class Place(Struct, frozen=True, kw_only=True):
    """One server. With `tls`, a server that offers none is told, and no password is sent to it."""

    host: str
    port: int
    tls: bool = False
    user: str = ""
    password: Secret = _NOTHING
    token: Secret = _NOTHING

    @property
    def shown(self) -> str:
        """What people are shown: no user, password or token."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_urls(url: Secret) -> tuple[Place, ...]:
    """The servers of a comma-separated list of `nats://` or `tls://` URLs.

    Raises ValueError with the remedy; its text never holds a password.
    """
    return tuple(_parse(written.strip()) for written in url.reveal().split(",") if written.strip())


def _parse(written: str) -> Place:
    parts = urlsplit(written if "://" in written else f"nats://{written}")
    if parts.scheme not in ("nats", "tls"):
        raise ValueError(f'a NATS URL starts with "nats://" or "tls://", not "{parts.scheme}://"')
    try:
        port = parts.port or _DEFAULT_PORT
    except ValueError as error:
        raise ValueError("the port of a NATS URL is a number from 1 to 65535") from error
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return Place(
        host=parts.hostname or "localhost",
        port=port,
        tls=parts.scheme == "tls",
        user=user if password else "",
        password=Secret(password),
        # A lone user part is a token, as every NATS client reads it.
        token=Secret("" if password else user),
    )
