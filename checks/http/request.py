"""The bytes of a request, built once and sent as often as needed."""

from __future__ import annotations

import base64
from typing import Final
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from msgspec import Struct
from msgspec.structs import replace

USER_AGENT: Final = "gaia-agent/0.1"
_PATH_SAFE: Final = "%/:=&?~#+!$,;'@()*[]"
_PORTS: Final = {"http": 80, "https": 443}


class Origin(Struct, frozen=True, kw_only=True):
    """Scheme, host and port: what credentials belong to."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        """As in the Host header: without the scheme's own port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if _PORTS[self.scheme] == self.port else f"{host}:{self.port}"


class Request(Struct, frozen=True, kw_only=True):
    """One request; `private` headers go to `origin` only, never along a redirect to another."""

    origin: Origin
    path: str
    method: str = "GET"
    private: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    @property
    def shown(self) -> str:
        """The URL without its query."""
        return f"{self.origin.scheme}://{self.origin}{self.path.partition('?')[0]}"

    def head(self, *, keep: bool) -> bytes:
        """Everything before the blank line, which the caller adds after its own headers."""
        lines = [f"{self.method} {self.path} HTTP/1.1"]
        given = {name.lower() for name, _ in self.private}
        defaults = (
            ("host", str(self.origin)),
            ("user-agent", USER_AGENT),
            ("accept", "application/health+json, application/json;q=0.9, */*;q=0.8"),
            ("accept-encoding", "gzip, deflate"),
            ("connection", "keep-alive" if keep else "close"),
        )
        lines += [f"{name}: {value}" for name, value in defaults if name not in given]
        lines += [f"{name}: {value}" for name, value in self.private]
        if self.body or self.method in ("POST", "PUT", "PATCH"):
            lines.append(f"content-length: {len(self.body)}")
        return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n"


def request_of(url: str, **parts: object) -> Request:
    """A request for `url`, which was checked before."""
    split = urlsplit(url)
    host = (split.hostname or "").rstrip(".")
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    port = split.port or _PORTS[split.scheme]
    path = quote(urlunsplit(("", "", split.path or "/", split.query, "")), safe=_PATH_SAFE)
    request = Request(origin=Origin(scheme=split.scheme, host=host, port=port), path=path)
    return replace(request, **parts)


def redirected(request: Request, location: str, status: int) -> Request:
    """The request that `location` asks for. Raises ValueError when it leads nowhere HTTP goes.

    RFC 9110 section 15.4: 303 becomes GET, and so does a POST after 301 and 302, as browsers do.
    """
    url = urljoin(f"{request.origin.scheme}://{request.origin}{request.path}", location)
    split = urlsplit(url)
    if split.scheme not in _PORTS or not split.hostname or split.port == 0:
        raise ValueError(f"{split.scheme or 'nothing'}: is no scheme to follow")
    following = request_of(url)
    same = following.origin == request.origin or _upgrades(request.origin, following.origin)
    becomes_get = status == 303 or (status in (301, 302) and request.method == "POST")
    return replace(
        following,
        method="GET" if becomes_get and request.method != "HEAD" else request.method,
        body=b"" if becomes_get else request.body,
        private=request.private if same else (),
    )


def _upgrades(origin: Origin, following: Origin) -> bool:
    """Whether a redirect leads the same host's plain port to its TLS port: it may keep what it was sent."""
    return (
        (origin.scheme, following.scheme) == ("http", "https")
        and origin.host.lower() == following.host.lower()
        and (origin.port == _PORTS["http"], following.port == _PORTS["https"]) == (True, True)
    )


def basic(username: str, password: str) -> str:
    """The Authorization value of RFC 7617."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode("ascii")
