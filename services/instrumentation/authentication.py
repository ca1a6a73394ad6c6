"""Who is calling: bearer tokens and the platform's key, checked in every service."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware
from yarl import URL

from services.instrumentation.client import HttpClient
from services.instrumentation.context import Identity, current_request
from services.instrumentation.key_cache import TTL_S, KeyCache, Verifier
from services.instrumentation.kit import Instrumentation
from services.instrumentation.message import Message
from services.instrumentation.messaging import Broker
from services.instrumentation.problem import ProblemError
from services.instrumentation.routes import Operation
from services.instrumentation.settings import Settings
from services.instrumentation.tokens import Issuer, Refusal, TokenError

logger = logging.getLogger(__name__)

AUDIENCE: Final = "gaia"
REVOKED: Final = "auth.revoked"
JWKS_PATH: Final = "/api/v1/auth/.well-known/jwks.json"
PLATFORM: Final = Identity("service", "platform", scopes=("admin",))
_FETCH_S: Final = 2.0
_KEYS_BYTES: Final = 256 * 1024

_SENTENCES: Final = {
    Refusal.MISSING: "a bearer token or an API key is needed",
    Refusal.EXPIRED: "the token has expired: sign in again",
    Refusal.REVOKED: "the token was revoked: sign in again",
    Refusal.API_KEY: "the API key is not valid here",
}


class Revocation(msgspec.Struct, frozen=True):
    """Told to every instance over NATS when a token is revoked."""

    token_id: str
    expires_at_s: float


def issuer_name(settings: Settings) -> str:
    return f"gaia-auth-{settings.environment.alias}"


def issuers(settings: Settings) -> tuple[Issuer, ...]:
    """Ours, and an external one from `EXTERNAL_JWKS_URL` or `SUPABASE_URL`."""
    auth = settings.urls("AUTH_URL")
    found = [
        Issuer(name=issuer_name(settings), audience=AUDIENCE, jwks_url=f"{url}{JWKS_PATH}", grants=True)
        for url in auth[:1]
    ]
    options = settings.options
    if supabase := options.get("SUPABASE_URL", "").rstrip("/"):
        found.append(
            Issuer(
                name=f"{supabase}/auth/v1",
                audience="authenticated",
                jwks_url=f"{supabase}/auth/v1/.well-known/jwks.json",
            )
        )
    if external := options.get("EXTERNAL_JWKS_URL"):
        found.append(
            Issuer(
                name=options.get("EXTERNAL_ISSUER", external),
                audience=options.get("EXTERNAL_AUDIENCE", AUDIENCE),
                jwks_url=external,
            )
        )
    return tuple(found)


def remote_verifier(kit: Instrumentation, client: HttpClient, broker: Broker | None) -> Verifier:
    """A verifier that fetches keys over HTTP, starts with them, and hears of revocations."""
    addresses = {issuer: client.upstream("keys", issuer.jwks_url) for issuer in issuers(kit.settings)}

    async def fetch(issuer: Issuer) -> bytes:
        upstream = addresses[issuer]
        async with client.call(upstream, "GET", URL(issuer.jwks_url), timeout_s=_FETCH_S) as response:
            if response.status != 200:
                raise ProblemError(502, f"the issuer answered {response.status}")
            return await response.content.read(_KEYS_BYTES)

    caches = tuple(KeyCache(issuer, fetch) for issuer in addresses)

    async def keep_fresh() -> None:
        # Warm before the first request, and revocations missed while NATS was away are caught up with.
        while True:
            for cache in caches:
                await cache.refresh()
            await asyncio.sleep(TTL_S if all(cache.loaded for cache in caches) else 1.0)

    kit.in_background("keys", keep_fresh)
    if broker is not None and caches:
        listen_for_revocations(kit, broker, caches[0])
    return Verifier(caches)


def listen_for_revocations(kit: Instrumentation, broker: Broker, cache: KeyCache) -> None:
    async def revoked(message: Message) -> None:
        revocation = msgspec.json.decode(message.data, type=Revocation)
        cache.revoke(revocation.token_id, revocation.expires_at_s)

    broker.subscribe(kit.settings.subject(REVOKED), revoked, template="gaia.{env}.auth.revoked")


class Authenticator:
    """Turns a request's credentials into an Identity, or refuses with 401 (or 503 when it cannot know)."""

    def __init__(self, kit: Instrumentation, verifier: Verifier) -> None:
        self._kit = kit
        self._verifier = verifier
        self._refused = kit.metrics.counter(
            "auth_refusals_total", "Credentials refused, by reason.", ("reason",)
        )

    async def identify(self, request: web.Request) -> Identity:
        """Raises ProblemError 401 or UnavailableError."""
        key = request.headers.get("X-API-Key")
        if key is not None:
            if self.is_platform_key(key):
                return PLATFORM
            raise self.refuse(Refusal.API_KEY)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise self.refuse(Refusal.MISSING)
        try:
            token = token.strip()
            verified = self._verifier.remembered(token) or await self._verifier.verify(token)
        except TokenError as error:
            raise self.refuse(error.refusal) from None
        return verified.identity

    def is_platform_key(self, key: str) -> bool:
        """Whether `key` is this platform's API_KEY, compared in constant time."""
        ours = self._kit.settings.api_key
        return ours is not None and hmac.compare_digest(key.encode(), ours.reveal().encode())

    def refuse(self, refusal: Refusal) -> ProblemError:
        self._refused.labels(refusal.value).inc()
        context = current_request.get()
        if context is not None:
            context.auth_reason = refusal.value
        return ProblemError(
            401,
            _SENTENCES.get(refusal, "the token is not valid here"),
            reason=f"unauthorized_{refusal.value}",
            headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
        )

    def middleware(self, operations: Sequence[Operation]) -> Middleware:
        """Demands an identity for every operation that is not public."""
        guarded = {(operation.method, operation.path) for operation in operations if not operation.public}

        @web.middleware
        async def authenticate(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            context = current_request.get()
            if context is not None and (request.method, context.route) in guarded:
                context.identity = await self.identify(request)
            return await handler(request)

        return authenticate


def caller() -> Identity:
    """The identity of the request in hand. Raises ProblemError 401 when nobody authenticated it."""
    context = current_request.get()
    if context is None or context.identity.kind == "anonymous":
        raise ProblemError(401, _SENTENCES[Refusal.MISSING], reason="unauthorized_missing")
    return context.identity


def demand(scope: str) -> Identity:
    """The caller, if it has `scope`. Raises ProblemError 403."""
    identity = caller()
    if not identity.may(scope):
        context = current_request.get()
        if context is not None:
            context.auth_reason = Refusal.SCOPE.value
        raise ProblemError(403, f'this needs the scope "{scope}"', reason="forbidden")
    return identity
