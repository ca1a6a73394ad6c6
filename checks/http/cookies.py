"""Cookies along the redirects of one look, as browsers keep them (RFC 6265); forgotten when it ends."""

from __future__ import annotations

from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from typing import Final

from msgspec import Struct

from checks.http.request import Request
from checks.wire.dial import is_literal

_MOST: Final = 50
_LONGEST: Final = 4096


class _Cookie(Struct, frozen=True, kw_only=True):
    name: str
    value: str
    host: str
    subdomains: bool
    path: str
    secure: bool

    def goes_with(self, request: Request) -> bool:
        host, path = request.origin.host.lower(), request.path.partition("?")[0]
        if host != self.host and not (self.subdomains and host.endswith(f".{self.host}")):
            return False
        if self.secure and request.origin.scheme != "https":
            return False
        return path == self.path or path.startswith(self.path.removesuffix("/") + "/")


class Cookies:
    """What servers set on the way. At most 50 cookies of at most 4 kB each are kept."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str, str], _Cookie] = {}

    def take(self, request: Request, fields: Iterable[tuple[str, str]], *, now_s: float) -> None:
        """Keep what the answer to `request` sets, at wall time `now_s`."""
        for name, value in fields:
            if name == "set-cookie" and len(value) <= _LONGEST:
                self._set(request, value, now_s)

    def line(self, request: Request) -> bytes:
        """The header line for `request`, or nothing; a Cookie header of the user's own is left alone."""
        if any(name.lower() == "cookie" for name, _ in request.private):
            return b""
        # RFC 6265 section 5.4: longer paths first.
        sent = sorted(
            (cookie for cookie in self._kept.values() if cookie.goes_with(request)),
            key=lambda cookie: -len(cookie.path),
        )
        if not sent:
            return b""
        pairs = "; ".join(f"{cookie.name}={cookie.value}" for cookie in sent)
        return b"cookie: " + pairs.encode("latin-1", "replace") + b"\r\n"

    def _set(self, request: Request, text: str, now_s: float) -> None:
        pair, *rest = text.split(";")
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or not name or not f"{name}{value}".isprintable():
            return
        attributes = {
            key.strip().lower(): word.strip() for key, _, word in (part.partition("=") for part in rest)
        }
        host = request.origin.host.lower()
        domain = attributes.get("domain", "").lower().removeprefix(".")
        # A cookie for a whole top-level domain, or for somebody else, is refused.
        own = is_literal(host) or "." not in domain or not host.endswith(f".{domain}")
        if domain not in ("", host) and own:
            return
        path = attributes.get("path", "")
        if not path.startswith("/"):
            path = request.path.partition("?")[0].rpartition("/")[0] or "/"
        key = (domain or host, path, name)
        self._kept.pop(key, None)
        if not _ended(attributes, now_s) and len(self._kept) < _MOST:
            self._kept[key] = _Cookie(
                name=name,
                value=value,
                host=domain or host,
                subdomains=bool(domain) and not is_literal(host),
                path=path,
                secure="secure" in attributes,
            )


def _ended(attributes: dict[str, str], now_s: float) -> bool:
    """Whether the server takes the cookie away; Max-Age wins over Expires."""
    age = attributes.get("max-age", "")
    if age.removeprefix("-").isdigit():
        return age.startswith("-") or not age.strip("0")
    try:
        return parsedate_to_datetime(attributes["expires"]).timestamp() <= now_s
    except (KeyError, ValueError, OverflowError):
        return False
