"""Whom a request comes from, decided once at the door; behind it there are only tokens."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

import msgspec
from aiohttp import web

from services.gateway.pool import InstancePool
from services.instrumentation.api_key import parse_api_key
from services.instrumentation.authentication import PLATFORM, Authenticator
from services.instrumentation.client import HttpClient
from services.instrumentation.context import ANONYMOUS, Identity
from services.instrumentation.key_cache import Verifier
from services.instrumentation.kit import Instrumentation
from services.instrumentation.problem import ProblemError, UnavailableError
from services.instrumentation.tokens import Refusal, TokenError

_TOKENS: Final = "/api/v1/auth/tokens"
_PUBLIC: Final = frozenset(
    (
        ("POST", "/api/v1/auth/users"),
        ("POST", _TOKENS),
        ("GET", "/api/v1/auth/.well-known/jwks.json"),
    )
)
_EXCHANGED: Final = 4_096
_EXCHANGED_S: Final = 60.0
_EXCHANGE_S: Final = 3.0


class _Token(msgspec.Struct, frozen=True):
    access_token: str


class Door:
    """Checks credentials and says what to send upstream in their place."""

    def __init__(
        self, kit: Instrumentation, *, verifier: Verifier, client: HttpClient, auth: InstancePool
    ) -> None:
        self._kit = kit
        self._verifier = verifier
        self._authenticator = Authenticator(kit, verifier)
        self._client = client
        self._auth = auth
        self._exchanged: OrderedDict[bytes, tuple[str, float]] = OrderedDict()

    async def admit(self, request: web.Request) -> tuple[Identity, Mapping[str, str]]:
        """(who, headers for the upstream). Raises ProblemError 401, or UnavailableError."""
        key = request.headers.get("X-API-Key")
        if key is not None and self._authenticator.is_platform_key(key):
            return PLATFORM, {"X-API-Key": key}
        if key is not None and (request.method, request.path) == ("POST", _TOKENS):
            self._check_form(key)
            return ANONYMOUS, {"X-API-Key": key}
        if key is not None:
            token = await self._exchange(key)
            try:
                return (await self._verifier.verify(token)).identity, {"Authorization": f"Bearer {token}"}
            except TokenError as error:
                raise self._authenticator.refuse(error.refusal) from None
        if "Authorization" not in request.headers and (request.method, request.path) in _PUBLIC:
            return ANONYMOUS, {}
        identity = await self._authenticator.identify(request)
        return identity, {"Authorization": request.headers["Authorization"]}

    def _check_form(self, text: str) -> None:
        # Typos and other environments' keys end here, without a call.
        if parse_api_key(text, self._kit.settings.environment) is None:
            raise self._authenticator.refuse(Refusal.API_KEY)

    async def _exchange(self, text: str) -> str:
        """A token for an API key, asked of auth at most once a minute per key."""
        self._check_form(text)
        digest = hashlib.sha256(text.encode()).digest()
        now = time.monotonic()
        known = self._exchanged.get(digest)
        if known is not None and known[1] > now:
            return known[0]
        instance = self._auth.choose(now, set())
        if instance is None:
            raise UnavailableError("API keys cannot be checked now", reason="auth_unavailable")
        url = instance.upstream.url.with_path(_TOKENS)
        async with self._client.call(
            instance.upstream, "POST", url, headers={"X-API-Key": text}, timeout_s=_EXCHANGE_S
        ) as response:
            if response.status in {401, 403}:
                raise self._authenticator.refuse(Refusal.API_KEY)
            if response.status != 200:
                raise UnavailableError("API keys cannot be checked now", reason="auth_unavailable")
            try:
                token = msgspec.json.decode(await response.read(), type=_Token).access_token
            except msgspec.DecodeError as error:
                raise ProblemError(502, "auth answered nonsense", reason="auth_malformed") from error
        self._exchanged[digest] = (token, now + _EXCHANGED_S)
        if len(self._exchanged) > _EXCHANGED:
            self._exchanged.popitem(last=False)
        return token
