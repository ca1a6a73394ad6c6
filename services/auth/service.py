"""The auth service: sign up, sign in, API keys, signing keys, revocation."""

from __future__ import annotations

import hmac
import logging
import time
from pathlib import Path
from typing import Annotated, Final

import msgspec
from aiohttp import web

from services.auth.key_ring import TOKEN_LIFETIME_S, KeyRing
from services.auth.passwords import Passwords
from services.auth.store import Store
from services.instrumentation.api_key import new_api_key, parse_api_key
from services.instrumentation.authentication import (
    AUDIENCE,
    JWKS_PATH,
    REVOKED,
    Authenticator,
    Revocation,
    caller,
    demand,
    issuer_name,
    listen_for_revocations,
)
from services.instrumentation.context import Identity, current_request
from services.instrumentation.database import Database, UniqueViolationError
from services.instrumentation.health import Criticality
from services.instrumentation.key_cache import KeyCache, Verifier
from services.instrumentation.kit import Instrumentation
from services.instrumentation.messaging import Broker
from services.instrumentation.problem import ProblemError, UnavailableError
from services.instrumentation.registration import Registration
from services.instrumentation.routes import Operation, answer, application, parse_body
from services.instrumentation.tokens import Issuer, Refusal

logger = logging.getLogger(__name__)

_PREFIX: Final = "/api/v1/auth"
_ACTIVE_KEYS: Final = 2

Email = Annotated[str, msgspec.Meta(pattern=r"^[^@\s\x00]{1,64}@[^@\s\x00]{1,190}$", max_length=255)]
Password = Annotated[str, msgspec.Meta(min_length=8, max_length=200)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=r"^[^\x00]*$")]
Scope = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9:]{0,40}$")]


class Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    email: Email
    password: Password


class UserAnswer(msgspec.Struct, frozen=True):
    id: str
    email: str


class TokenAnswer(msgspec.Struct, frozen=True):
    access_token: str
    token_type: str
    expires_in: int


class CallerAnswer(msgspec.Struct, frozen=True):
    subject: str
    kind: str
    key_id: str
    scopes: tuple[str, ...]


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    scopes: Annotated[tuple[Scope, ...], msgspec.Meta(max_length=20)] = ()


class KeyAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    name: str
    scopes: tuple[str, ...]
    created_at: str
    key: str = ""
    """The key itself: only in the answer that created it."""


class KeysAnswer(msgspec.Struct, frozen=True):
    keys: tuple[KeyAnswer, ...]


class RotationAnswer(msgspec.Struct, frozen=True):
    current: str


class AuthService:
    """Handlers over the store and the key ring."""

    def __init__(self, kit: Instrumentation) -> None:
        self._kit = kit
        self._database = Database(kit, schema="auth", migrations=Path(__file__).with_name("migrations"))
        self._broker = Broker(kit, criticality=Criticality.DEGRADED)
        Registration(kit, self._broker)
        self._store = Store(self._database)
        self._ring = KeyRing(kit, self._database)
        self._passwords = Passwords()
        own = Issuer(name=issuer_name(kit.settings), audience=AUDIENCE, jwks_url="", grants=True)
        self._cache = KeyCache(own, self._own_keys)
        self._verifier = Verifier((self._cache,))
        self._authenticator = Authenticator(kit, self._verifier)
        listen_for_revocations(kit, self._broker, self._cache)

    def application(self) -> web.Application:
        guard = self._authenticator.middleware
        return application(self._kit, "Gaia auth", self.operations(), guard=guard)

    def operations(self) -> tuple[Operation, ...]:
        return (
            Operation(
                method="GET", path=JWKS_PATH, handler=self._jwks, summary="The public keys.", public=True
            ),
            Operation(
                method="POST",
                path=f"{_PREFIX}/users",
                handler=self._sign_up,
                summary="Sign up.",
                body=Credentials,
                returns=UserAnswer,
                status=201,
                public=True,
            ),
            Operation(
                method="POST",
                path=f"{_PREFIX}/tokens",
                handler=self._sign_in,
                public=True,
                body=Credentials,
                returns=TokenAnswer,
                summary="Sign in with e-mail and password, or with an API key in X-API-Key.",
            ),
            Operation(
                method="DELETE",
                path=f"{_PREFIX}/tokens/current",
                handler=self._sign_out,
                status=204,
                summary="Revoke the token this request carries.",
            ),
            Operation(
                method="GET",
                path=f"{_PREFIX}/me",
                handler=self._me,
                returns=CallerAnswer,
                summary="Who calls.",
            ),
            Operation(
                method="POST",
                path=f"{_PREFIX}/api-keys",
                handler=self._add_key,
                body=NewKey,
                returns=KeyAnswer,
                status=201,
                summary="Make an API key; two may be active, so that one can replace the other.",
            ),
            Operation(
                method="GET",
                path=f"{_PREFIX}/api-keys",
                handler=self._list_keys,
                returns=KeysAnswer,
                summary="The caller's active API keys.",
            ),
            Operation(
                method="DELETE",
                path=f"{_PREFIX}/api-keys/{{key_id}}",
                handler=self._revoke_key,
                status=204,
                summary="Revoke an API key.",
            ),
            Operation(
                method="POST",
                path=f"{_PREFIX}/keys/rotate",
                handler=self._rotate,
                returns=RotationAnswer,
                summary="Make the next signing key the current one (scope admin).",
            ),
        )

    async def _own_keys(self, _issuer: Issuer) -> bytes:
        revoked = await self._store.revoked_tokens()
        return msgspec.json.encode({**await self._ring.public(), "revoked": revoked})

    async def _jwks(self, _request: web.Request) -> web.Response:
        response = web.Response(body=await self._document(), content_type="application/json")
        response.headers["Cache-Control"] = "public, max-age=60"
        return response

    async def _document(self) -> bytes:
        try:
            revoked = await self._store.revoked_tokens()
        except UnavailableError:
            # The keys in memory still verify what they signed.
            revoked = list(self._cache.revoked.items())
        return msgspec.json.encode({**await self._ring.public(), "revoked": revoked})

    async def _sign_up(self, request: web.Request) -> web.Response:
        body = await parse_body(request, Credentials)
        hashed = await self._passwords.hash(body.password)
        try:
            user = await self._store.add_user(body.email.lower(), hashed)
        except UniqueViolationError:
            raise ProblemError(409, "this address is already signed up", reason="already_exists") from None
        return answer(UserAnswer(user.user_id, user.email), 201)

    async def _sign_in(self, request: web.Request) -> web.Response:
        key = request.headers.get("X-API-Key")
        identity = await (self._by_password(request) if key is None else self._by_key(key))
        context = current_request.get()
        if context is not None:
            context.identity = identity
        token, _ = await self._ring.sign(identity)
        response = answer(TokenAnswer(token, "Bearer", TOKEN_LIFETIME_S))
        response.headers["Cache-Control"] = "no-store"
        return response

    async def _by_password(self, request: web.Request) -> Identity:
        body = await parse_body(request, Credentials)
        user = await self._store.user_by_email(body.email.lower())
        if (
            not await self._passwords.matches(body.password, user.password_hash if user else None)
            or user is None
        ):
            raise ProblemError(
                401, "no user has this address and password", reason="unauthorized_credentials"
            )
        return Identity("user", user.user_id, scopes=user.scopes)

    async def _by_key(self, text: str) -> Identity:
        key = parse_api_key(text, self._kit.settings.environment)
        record = await self._store.active_key(key.key_id) if key else None
        if key is None or record is None or not hmac.compare_digest(record.digest, key.digest):
            raise self._authenticator.refuse(Refusal.API_KEY)
        return Identity("api_key", record.user_id, record.key_id, record.scopes)

    async def _sign_out(self, request: web.Request) -> web.Response:
        if caller().kind == "service":
            raise ProblemError(400, "only a bearer token can be revoked", reason="no_token")
        token = request.headers["Authorization"].partition(" ")[2].strip()
        verified = await self._verifier.verify(token)
        await self._revoke(verified.token_id, max(verified.expires_at_s, time.time()))
        return web.Response(status=204)

    async def _revoke(self, name: str, until_s: float) -> None:
        """Refuse a token, or an API key's tokens, everywhere until `until_s`."""
        await self._store.revoke_token(name, until_s)
        self._cache.revoke(name, until_s)
        try:
            await self._broker.publish(
                self._kit.settings.subject(REVOKED),
                msgspec.json.encode(Revocation(name, until_s)),
                template="gaia.{env}.auth.revoked",
            )
        except UnavailableError:
            # It is stored: the others read it with the keys, within their cache's lifetime.
            logger.warning("revocation.not_announced")

    async def _me(self, _request: web.Request) -> web.Response:
        identity = caller()
        return answer(CallerAnswer(identity.subject, identity.kind, identity.key_id, identity.scopes))

    async def _add_key(self, request: web.Request) -> web.Response:
        identity = _user()
        body = await parse_body(request, NewKey)
        if not set(body.scopes) <= set(identity.scopes):
            raise ProblemError(403, "a key may not have scopes its owner has not", reason="forbidden")
        key = new_api_key(self._kit.settings.environment)
        if not await self._store.add_key(key, identity.subject, body.name, body.scopes, _ACTIVE_KEYS):
            raise ProblemError(409, "two keys are active: revoke one first", reason="too_many_keys")
        created = await self._store.active_key(key.key_id)
        assert created is not None
        return answer(
            KeyAnswer(key.key_id, body.name, body.scopes, created.created_at.isoformat(), str(key)), 201
        )

    async def _list_keys(self, _request: web.Request) -> web.Response:
        records = await self._store.keys_of(_user().subject)
        return answer(
            KeysAnswer(
                tuple(KeyAnswer(r.key_id, r.name, r.scopes, r.created_at.isoformat()) for r in records)
            )
        )

    async def _revoke_key(self, request: web.Request) -> web.Response:
        key_id = request.match_info["key_id"]
        if not await self._store.revoke_key(key_id, _user().subject):
            raise ProblemError(404, "there is no such active key", reason="not_found")
        await self._revoke(key_id, time.time() + TOKEN_LIFETIME_S)
        return web.Response(status=204)

    async def _rotate(self, _request: web.Request) -> web.Response:
        demand("admin")
        kid = await self._ring.rotate()
        await self._cache.refresh()
        return answer(RotationAnswer(kid))


def _user() -> Identity:
    identity = caller()
    if identity.kind == "service":
        raise ProblemError(403, "this belongs to a user", reason="forbidden")
    return identity
