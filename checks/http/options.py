"""The `http` table of gaia.yaml: what is asked, and what counts as a right answer."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, Literal
from urllib.parse import parse_qsl, quote, urlsplit

import msgspec

from checks.http.condition import Condition, parse_condition
from checks.secret import Secret
from checks.units import Duration, Size
from checks.wire.dial import Family, is_literal
from checks.wire.tls_options import TlsOptions

_STATUS: Final = re.compile(r"[1-9]\d\d|[1-9]xx|[1-9]\d\d-[1-9]\d\d")
_FIELD_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LONGEST_NAME: Final = 253
_LONGEST_LABEL: Final = 63
Connection = Literal["fresh", "kept", "mixed"]
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class Basic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """User name and password (RFC 7617); `password_file` is read again on each probe."""

    username: str
    password: Secret | None = None
    password_file: str | None = None

    def __post_init__(self) -> None:
        if self.password is not None and self.password_file is not None:
            raise ValueError("basic takes password or password_file, not both")


class OAuth2(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The client credentials grant (RFC 6749 section 4.4); the token is kept until it expires.

    `client_secret_file` is read again for each new token.
    """

    token_url: str
    client_id: str
    client_secret: Secret | None = None
    client_secret_file: str | None = None
    scopes: tuple[str, ...] = ()
    audience: str | None = None

    def __post_init__(self) -> None:
        if (self.client_secret is None) == (self.client_secret_file is None):
            raise ValueError("oauth2 takes exactly one of client_secret and client_secret_file")
        check_url(self.token_url)


class Auth(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Exactly one way to log in; `bearer_file` is read again on each probe."""

    basic: Basic | None = None
    bearer: Secret | None = None
    bearer_file: str | None = None
    oauth2: OAuth2 | None = None

    def __post_init__(self) -> None:
        given = [way for way in (self.basic, self.bearer, self.bearer_file, self.oauth2) if way is not None]
        if len(given) != 1:
            raise ValueError("auth takes exactly one of basic, bearer, bearer_file and oauth2")


class Expect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a right answer looks like.

    `status` lists codes (`200`), classes (`2xx`) and ranges (`200-299`), `version` HTTP versions (`1.1`);
    `tls` whether the last answer, after redirects, must come through TLS or must not; header and body
    patterns are regular expressions that must be found somewhere, those of `header_not` and `body_not`
    nowhere, those of `header_if_sent` only where there is such a header; `json` conditions read
    `path.to[0].value == "text"`, with == != < <= > >= ~ (pattern) and `exists`, and `len(path)`.
    """

    tls: bool | None = None
    status: tuple[str | int, ...] = ("2xx",)
    version: tuple[str, ...] = ()
    header: dict[str, str] = {}
    header_not: dict[str, str] = {}
    header_if_sent: dict[str, str] = {}
    body: tuple[str, ...] = ()
    body_not: tuple[str, ...] = ()
    json: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for status in self.status:
            if not _STATUS.fullmatch(str(status)):
                raise ValueError(f'"{status}" is no status: write 200, 2xx or 200-299')
        headers = (self.header, self.header_not, self.header_if_sent)
        for pattern in (*(one for table in headers for one in table.values()), *self.body, *self.body_not):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f'"{pattern}" is no regular expression: {error}') from error
        self.conditions()

    def conditions(self) -> tuple[Condition, ...]:
        return tuple(parse_condition(text) for text in self.json)

    def accepted(self) -> frozenset[int]:
        """Every expected code."""
        return _codes(self.status)


@lru_cache(maxsize=256)
def _codes(statuses: tuple[str | int, ...]) -> frozenset[int]:
    """The codes of a list of statuses: most checks share one."""
    codes: set[int] = set()
    for status in statuses:
        low, _, high = str(status).replace("xx", "00").partition("-")
        top = int(low) + 99 if str(status).endswith("xx") else int(high or low)
        codes.update(range(int(low), top + 1))
    return frozenset(codes)


class HttpOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One HTTP check.

    `address`: probe the first address of the name, every one of them (`all`), or whichever connects first
    when they are tried a quarter of a second apart (`happy`). `connection`: a new one for each probe
    (`fresh`), one kept open (`kept`), or kept with every fifth and every doubtful probe fresh (`mixed`).
    `health`: read health documents (`auto`), insist on one (`require`) or never look (`off`). `heartbeat`:
    how often the sentinel asks on its held connection; `0s` holds none.
    """

    url: str
    method: Method = "GET"
    headers: dict[str, Secret] = {}
    body: Secret | None = None
    expect: Expect = Expect()
    health: Literal["auto", "require", "off"] = "auto"
    slower_than: Duration = Duration(2)
    timeout: Duration = Duration(5)
    tls: TlsOptions = TlsOptions()
    require_tls: bool = False
    auth: Auth | None = None
    redirects: int = 5
    address: Literal["happy", "first", "all"] = "happy"
    ip: Family = "any"
    connection: Connection = "fresh"
    body_limit: Size = Size(1 << 20)
    heartbeat: Duration = Duration(1)

    def __post_init__(self) -> None:
        check_url(self.url)
        if not 0 <= self.redirects <= 20:
            raise ValueError("redirects is a number from 0 to 20")
        for name, value in self.headers.items():
            if not _FIELD_NAME.fullmatch(name) or re.search(r"[\r\n\0]", value.reveal()):
                raise ValueError(f'"{name}" is no header that can be sent')


def secrets_of(options: HttpOptions) -> Iterator[str]:
    """Everything in `options` that nobody may see, as it travels: header values, credentials, query, body."""
    yield from (value.reveal() for value in options.headers.values())
    for _, value in parse_qsl(urlsplit(options.url).query):
        yield value
        yield quote(value, safe="")
    if options.body is not None:
        yield options.body.reveal()
    auth = options.auth
    if auth is None:
        return
    if auth.bearer is not None:
        yield auth.bearer.reveal()
    if auth.basic is not None and auth.basic.password is not None:
        yield auth.basic.password.reveal()
        yield b64encode(f"{auth.basic.username}:{auth.basic.password.reveal()}".encode()).decode()
    if auth.oauth2 is not None and auth.oauth2.client_secret is not None:
        yield auth.oauth2.client_secret.reveal()


def check_url(url: str) -> None:
    """Raises ValueError with the remedy when `url` cannot be probed."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f'"{url}" is no URL: {error}') from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a URL to probe starts with http:// or https:// and names a host")
    if port == 0 or re.search(r"[\x00-\x20\x7f]", url):
        raise ValueError("a URL to probe has no spaces or control characters and no port 0")
    if not _is_host(parts.hostname):
        raise ValueError(f'"{parts.hostname[:100]}" is no host name')
    if parts.username is not None or parts.password is not None:
        raise ValueError("credentials do not belong into the URL: put them under auth")


def _is_host(host: str) -> bool:
    """Whether `host` can be looked up (RFC 1035 section 2.3.4), or is an address."""
    if ":" in host:
        return is_literal(host)
    try:
        name = host.rstrip(".") if host.isascii() else host.rstrip(".").encode("idna").decode("ascii")
    except UnicodeError:
        return False
    return len(name) <= _LONGEST_NAME and all(0 < len(label) <= _LONGEST_LABEL for label in name.split("."))
