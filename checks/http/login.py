"""Logging in to what is probed: basic, bearer, and OAuth2 client credentials."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote_plus, urlencode

import msgspec
from msgspec.structs import replace

from checks.catalog import ProbeKit
from checks.http.exchange import exchange
from checks.http.options import Auth, OAuth2
from checks.http.request import Request, basic, request_of
from checks.reason import Reason
from checks.secret import Secret
from checks.wire.dial import connect, resolve, secure
from checks.wire.fault import DeadlinePassed, Fault
from checks.wire.journey import Journey
from checks.wire.stream import Stream
from checks.wire.tls_options import TlsOptions

if TYPE_CHECKING:
    from checks.http.options import HttpOptions

_TOKEN_BYTES: Final = 65536
# A token is renewed this long before its end, so that it does not expire on its way.
_MARGIN_S: Final = 10.0
_DEFAULT_LIFE_S: Final = 300.0


class _Token(msgspec.Struct):
    access_token: str
    expires_in: float = _DEFAULT_LIFE_S


class Login:
    """Adds the credentials of `auth` to requests; keeps an OAuth2 token until it ends."""

    def __init__(self, auth: Auth | None, kit: ProbeKit, options: HttpOptions) -> None:
        self._auth = auth
        self._kit = kit
        self._options = options
        self._token: str | None = None
        self._token_ends_s = 0.0

    async def authorized(self, request: Request, *, deadline_s: float = math.inf) -> Request:
        """`request` with an Authorization header for its own origin. Raises Fault(config)."""
        auth = self._auth
        if auth is None:
            return request
        if auth.basic is not None:
            value = basic(auth.basic.username, _secret(auth.basic.password, auth.basic.password_file))
        elif auth.bearer is not None:
            value = f"Bearer {auth.bearer.reveal()}"
        elif auth.bearer_file is not None:
            value = f"Bearer {_secret(None, auth.bearer_file)}"
        else:
            assert auth.oauth2 is not None
            value = f"Bearer {await self._token_of(auth.oauth2, deadline_s)}"
        return replace(request, private=(*request.private, ("authorization", value)))

    def forget(self) -> None:
        """The token was refused: get a new one next time."""
        self._token = None

    async def _token_of(self, oauth2: OAuth2, deadline_s: float) -> str:
        now_s = self._kit.clock.monotonic_s()
        if self._token is not None and now_s < self._token_ends_s:
            return self._token
        try:
            token = await self._fetch(oauth2, deadline_s)
        except Fault as fault:
            if fault.reason is Reason.CONFIG:
                raise
            hint = ": check client_id and client_secret" if fault.reason is Reason.STATUS else ""
            said = f"the token server {_shown(oauth2)} {fault.message}{hint}"
            raise Fault(Reason.CONFIG, f"was not asked: {said}") from fault
        except DeadlinePassed as error:
            said = f"the token server {_shown(oauth2)} did not answer in time"
            raise Fault(Reason.CONFIG, f"was not asked: {said}") from error
        self._token = token.access_token
        self._token_ends_s = now_s + max(0.0, token.expires_in - _MARGIN_S)
        return token.access_token

    async def _fetch(self, oauth2: OAuth2, deadline_s: float) -> _Token:
        form = {"grant_type": "client_credentials"}
        if oauth2.scopes:
            form["scope"] = " ".join(oauth2.scopes)
        if oauth2.audience is not None:
            form["audience"] = oauth2.audience
        # RFC 6749 section 2.3.1: both are form-encoded before they become user name and password.
        secret = _secret(oauth2.client_secret, oauth2.client_secret_file)
        login = basic(quote_plus(oauth2.client_id), quote_plus(secret))
        request = request_of(
            oauth2.token_url,
            method="POST",
            private=(("authorization", login), ("content-type", "application/x-www-form-urlencoded")),
            body=urlencode(form).encode(),
        )
        journey = Journey(deadline_s=deadline_s)
        addresses = await resolve(request.origin.host, "any", self._kit.resolver, journey)
        wire = await connect(addresses, request.origin.port, journey)
        stream: Stream = wire
        try:
            if request.origin.scheme == "https":
                tls = TlsOptions(ca_file=self._options.tls.ca_file)
                stream, _ = await secure(wire, request.origin.host, tls, journey)
            answer = await exchange(
                stream,
                request.head(keep=False) + b"\r\n" + request.body,
                method="POST",
                body_limit=_TOKEN_BYTES,
                journey=journey,
            )
        finally:
            stream.close()
        if answer.head.status != 200:
            raise Fault(Reason.STATUS, f"answers {answer.head.status}")
        try:
            return msgspec.json.decode(answer.body, type=_Token, strict=False)
        except msgspec.DecodeError as error:
            raise Fault(Reason.BODY_MATCH, "sends no access_token") from error


def _shown(oauth2: OAuth2) -> str:
    return request_of(oauth2.token_url).shown


def _secret(value: Secret | None, path: str | None) -> str:
    """The secret itself, from the file if one is named. Raises Fault(config)."""
    if path is None:
        return value.reveal() if value is not None else ""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "it is no text"
        raise Fault(Reason.CONFIG, f"was not asked: the secret in {path} cannot be read: {said}") from error
