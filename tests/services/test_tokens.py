"""Tokens and keys: what is refused, and how rarely keys are fetched."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from services.instrumentation.api_key import new_api_key, parse_api_key
from services.instrumentation.context import Identity
from services.instrumentation.key_cache import KeyCache, Verifier
from services.instrumentation.problem import UnavailableError
from services.instrumentation.settings import Environment
from services.instrumentation.tokens import (
    Issuer,
    Refusal,
    SigningKey,
    TokenError,
    jwks,
    kid_of,
    read_keys,
    verify,
)

ISSUER = Issuer(name="gaia-auth-dev", audience="gaia", jwks_url="http://auth/jwks", grants=True)
KEY = SigningKey.generate("k1")
PRIVATE = serialization.load_pem_private_key(KEY.to_pem(None), None)
assert isinstance(PRIVATE, ec.EllipticCurvePrivateKey)
PUBLIC_PEM = PRIVATE.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
KEYS = read_keys(msgspec.json.encode(jwks([KEY])), ISSUER)


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    full = {
        "iss": "gaia-auth-dev",
        "aud": "gaia",
        "sub": "ada",
        "iat": now,
        "exp": now + 900,
        "jti": "t1",
        **changes,
    }
    return {name: value for name, value in full.items() if value is not None}


def signed(headers: dict[str, Any] | None = None, **changes: Any) -> str:
    assert isinstance(PRIVATE, ec.EllipticCurvePrivateKey)
    return jwt.encode(claims(**changes), PRIVATE, "ES256", {"kid": "k1", "typ": "at+jwt", **(headers or {})})


def forged(header: dict[str, Any], secret: bytes = b"") -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims())]
    body = b".".join(parts)
    signature = base64.urlsafe_b64encode(hmac.new(secret, body, hashlib.sha256).digest()).rstrip(b"=")
    return (body + b"." + (signature if secret else b"")).decode()


def check(token: str) -> Identity:
    kid = kid_of(token)
    if kid not in KEYS:
        raise TokenError(Refusal.UNKNOWN_KEY)
    return verify(token, KEYS[kid]).identity


REFUSED: dict[str, tuple[Callable[[], str], Refusal]] = {
    "alg none": (lambda: forged({"alg": "none", "kid": "k1"}), Refusal.ALGORITHM),
    "HS256 with the public key": (
        lambda: forged({"alg": "HS256", "kid": "k1"}, PUBLIC_PEM),
        Refusal.ALGORITHM,
    ),
    "RS256 on an EC key": (
        lambda: jwt.encode(claims(), rsa.generate_private_key(65537, 2048), "RS256", {"kid": "k1"}),
        Refusal.ALGORITHM,
    ),
    "another key's signature": (
        lambda: jwt.encode(claims(), ec.generate_private_key(ec.SECP256R1()), "ES256", {"kid": "k1"}),
        Refusal.SIGNATURE,
    ),
    "wrong audience": (lambda: signed(aud="bank"), Refusal.AUDIENCE),
    "wrong issuer": (lambda: signed(iss="evil"), Refusal.ISSUER),
    "expired an hour ago": (
        lambda: signed(iat=int(time.time()) - 7200, exp=int(time.time()) - 3600),
        Refusal.EXPIRED,
    ),
    "from the future": (lambda: signed(nbf=int(time.time()) + 600), Refusal.NOT_YET_VALID),
    "unknown kid": (lambda: signed({"kid": "k9"}), Refusal.UNKNOWN_KEY),
    "no kid": (lambda: forged({"alg": "ES256"}), Refusal.MALFORMED),
    "crit": (lambda: signed({"crit": ["bork"], "bork": 1}), Refusal.MALFORMED),
    "wrong type": (lambda: signed({"typ": "secevent+jwt"}), Refusal.TYPE),
    "no subject": (lambda: signed(sub=None), Refusal.CLAIMS),
    "no expiry": (lambda: signed(exp=None), Refusal.CLAIMS),
    "valid for a year": (lambda: signed(exp=int(time.time()) + 365 * 86400), Refusal.LIFETIME),
    "1 MB": (lambda: "a" * 1_000_000, Refusal.TOO_LARGE),
    "nonsense": (lambda: "a.b.c", Refusal.MALFORMED),
    "empty": (lambda: "", Refusal.MALFORMED),
    "deeply nested header": (
        lambda: base64.urlsafe_b64encode(b"[" * 3000).decode().rstrip("=") + ".a.b",
        Refusal.MALFORMED,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_scenario_08_a_bad_token_is_refused_with_its_reason(name: str) -> None:
    make, refusal = REFUSED[name]
    with pytest.raises(TokenError) as error:
        check(make())
    assert error.value.refusal is refusal


def test_a_good_token_says_who_it_is() -> None:
    identity = Identity("api_key", "ada", "key1", ("read", "write"))
    token = KEY.sign(identity, issuer="gaia-auth-dev", audience="gaia", lifetime_s=900, token_id="t1")
    assert check(token) == identity


@given(st.text(max_size=300))
def test_no_text_raises_anything_but_a_refusal(text: str) -> None:
    with pytest.raises(TokenError):
        check(text)


@pytest.mark.parametrize(
    "entry",
    [
        {**KEY.public_jwk(), "alg": "HS256"},
        {**KEY.public_jwk(), "use": "enc"},
        {**KEY.public_jwk(), "x": "!"},
        {**KEY.public_jwk(), "kid": ""},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "k", "alg": "HS256"},
    ],
)
def test_a_strange_key_is_left_out(entry: dict[str, str]) -> None:
    document = msgspec.json.encode({"keys": [entry, SigningKey.generate("good").public_jwk()]})
    assert set(read_keys(document, ISSUER)) == {"good"}


class Auth:
    """An issuer that can be counted, slowed and switched off."""

    def __init__(self) -> None:
        self.keys = [KEY]
        self.fetches = 0
        self.up = True
        self.now = 1000.0

    async def fetch(self, _issuer: Issuer) -> bytes:
        self.fetches += 1
        await asyncio.sleep(0.01)
        if not self.up:
            raise ConnectionError
        return msgspec.json.encode(jwks(self.keys))

    def cache(self) -> KeyCache:
        return KeyCache(ISSUER, self.fetch, clock=lambda: self.now)


async def test_scenario_09_a_new_key_is_picked_up_with_one_fetch_by_a_hundred_requests() -> None:
    auth = Auth()
    cache = auth.cache()
    await cache.get("k1")
    auth.keys.append(SigningKey.generate("k2"))
    found = await asyncio.gather(*(cache.get("k2") for _ in range(100)))
    assert {key.kid for key in found if key} == {"k2"}
    assert auth.fetches == 2


async def test_scenario_09_a_thousand_unknown_ids_cost_one_fetch_in_thirty_seconds() -> None:
    auth = Auth()
    cache = auth.cache()
    await cache.get("k1")
    for number in range(1000):
        auth.now += 0.02
        assert await cache.get(f"random-{number}") is None
    assert auth.fetches == 2
    auth.now += 30
    await cache.get("random")
    assert auth.fetches == 3


async def test_scenario_10_cached_keys_outlive_ten_minutes_without_the_issuer() -> None:
    auth = Auth()
    verifier = Verifier((auth.cache(),))
    await verifier.verify(signed(jti="before"))
    auth.up = False
    auth.now += 600
    assert (await verifier.verify(signed(jti="after"))).token_id == "after"


async def test_scenario_10_without_any_keys_it_is_503_not_401() -> None:
    auth = Auth()
    auth.up = False
    with pytest.raises(UnavailableError):
        await Verifier((auth.cache(),)).verify(signed())


async def test_a_revoked_token_and_a_revoked_keys_tokens_are_refused() -> None:
    cache = Auth().cache()
    verifier = Verifier((cache,))
    tokens = {name: signed(jti=name, key_id=key) for name, key in (("a", ""), ("b", "key1"), ("c", "key2"))}
    for token in tokens.values():
        await verifier.verify(token)
    cache.revoke("a", time.time() + 900)
    cache.revoke("key1", time.time() + 900)
    for name in ("a", "b"):
        with pytest.raises(TokenError) as error:
            await verifier.verify(tokens[name])
        assert error.value.refusal is Refusal.REVOKED
    assert (await verifier.verify(tokens["c"])).token_id == "c"


def test_an_api_key_is_checked_without_asking_anybody() -> None:
    key = new_api_key(Environment.STAGING)
    text = str(key)
    parsed = parse_api_key(text, Environment.STAGING)
    assert parsed is not None
    assert parsed.digest == key.digest
    assert parse_api_key(text, Environment.PRODUCTION) is None
    wrong = text[:-8] + ("A" if text[-8] != "A" else "B") + text[-7:]
    assert parse_api_key(wrong, Environment.STAGING) is None
