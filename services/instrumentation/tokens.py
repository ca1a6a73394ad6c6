"""Access tokens (RFC 9068), verified with the algorithm bound to the key, never the header's."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import jwt
import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.instrumentation.context import Identity

_LARGEST: Final = 8 * 1024
_LEEWAY_S: Final = 5
_ALGORITHMS: Final = {"ES256": "EC", "RS256": "RSA"}
_SMALLEST_RSA_BITS: Final = 2048
_TYPES: Final = frozenset(("at+jwt", "application/at+jwt", "jwt"))


class Refusal(StrEnum):
    """Why a token is not accepted; a metric label and the access log's `auth_reason`."""

    MISSING = "missing"
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    TYPE = "wrong_type"
    ALGORITHM = "algorithm"
    UNKNOWN_KEY = "unknown_key"
    SIGNATURE = "signature"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    AUDIENCE = "audience"
    ISSUER = "issuer"
    CLAIMS = "claims"
    LIFETIME = "lifetime"
    REVOKED = "revoked"
    API_KEY = "api_key"
    SCOPE = "scope"


class TokenError(Exception):
    """The token is not accepted, for this reason. Never carries any part of the token."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Whom we believe about whom: ours, or an external one such as Supabase."""

    name: str
    audience: str
    jwks_url: str
    longest_s: float = 24 * 3600.0
    grants: bool = False
    """Whether its scopes count: another's word makes nobody an administrator here."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One public key of an issuer, with the only algorithm it may be used for."""

    kid: str
    algorithm: str
    key: Any  # PyJWT hands it back to cryptography; we never look inside
    issuer: Issuer


@dataclass(frozen=True, slots=True)
class Verified:
    """What an accepted token says."""

    identity: Identity
    token_id: str
    expires_at_s: float


class _Header(msgspec.Struct, frozen=True):
    alg: str
    kid: str
    typ: str = "JWT"


def read_keys(document: bytes, issuer: Issuer) -> dict[str, VerificationKey]:
    """The usable keys of a JWKS document by kid. Raises TokenError when there are none."""
    try:
        entries = msgspec.json.decode(document, type=dict[str, Any])["keys"]
        found = [key for entry in entries if (key := _read_key(entry, issuer)) is not None]
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError) as error:
        raise TokenError(Refusal.MALFORMED) from error
    if not found:
        raise TokenError(Refusal.MALFORMED)
    return {key.kid: key for key in found}


def _read_key(entry: Mapping[str, Any], issuer: Issuer) -> VerificationKey | None:
    kid, kind = entry.get("kid"), entry.get("kty")
    algorithm = entry.get("alg") or {"EC": "ES256", "RSA": "RS256"}.get(str(kind))
    if not isinstance(kid, str) or not kid or entry.get("use", "sig") != "sig" or "d" in entry:
        return None
    if _ALGORITHMS.get(str(algorithm)) != kind:
        return None
    try:
        key = jwt.PyJWK(dict(entry), algorithm=algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if kind == "RSA" and getattr(key, "key_size", 0) < _SMALLEST_RSA_BITS:
        return None
    return VerificationKey(kid, str(algorithm), key, issuer)


def kid_of(token: str) -> str:
    """The key id a token names. Raises TokenError for what cannot be ours, before any cryptography."""
    if len(token) > _LARGEST:
        raise TokenError(Refusal.TOO_LARGE)
    try:
        header = msgspec.convert(jwt.get_unverified_header(token), type=_Header)
    except (jwt.PyJWTError, msgspec.ValidationError, ValueError, TypeError, RecursionError) as error:
        raise TokenError(Refusal.MALFORMED) from error
    if header.alg not in _ALGORITHMS:
        raise TokenError(Refusal.ALGORITHM)
    if header.typ.lower() not in _TYPES:
        raise TokenError(Refusal.TYPE)
    return header.kid


def verify(token: str, key: VerificationKey) -> Verified:
    """Check signature and claims with `key`. Raises TokenError."""
    try:
        claims = jwt.decode(
            token,
            key.key,
            algorithms=[key.algorithm],
            audience=key.issuer.audience,
            issuer=key.issuer.name,
            leeway=_LEEWAY_S,
            options={"require": ["exp", "iat", "sub", "aud", "iss"], "enforce_minimum_key_length": True},
        )
    except jwt.PyJWTError as error:
        raise TokenError(_refusal(error)) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise TokenError(Refusal.MALFORMED) from error
    return _verified(claims, key.issuer)


def _refusal(error: jwt.PyJWTError) -> Refusal:
    # Subclasses before their bases.
    for kind, refusal in (
        (jwt.ExpiredSignatureError, Refusal.EXPIRED),
        (jwt.ImmatureSignatureError, Refusal.NOT_YET_VALID),
        (jwt.InvalidAudienceError, Refusal.AUDIENCE),
        (jwt.InvalidIssuerError, Refusal.ISSUER),
        (jwt.InvalidSignatureError, Refusal.SIGNATURE),
        (jwt.InvalidAlgorithmError, Refusal.ALGORITHM),
        (jwt.InvalidTokenError, Refusal.CLAIMS),
    ):
        if isinstance(error, kind) and type(error) is not jwt.DecodeError:
            return refusal
    return Refusal.MALFORMED


def _verified(claims: Mapping[str, Any], issuer: Issuer) -> Verified:
    expires_at_s, issued_at_s = float(claims["exp"]), float(claims["iat"])
    if expires_at_s - issued_at_s > issuer.longest_s:
        raise TokenError(Refusal.LIFETIME)
    identity = Identity("user", str(claims["sub"]))
    if issuer.grants:
        scope = claims.get("scope", "")
        identity = Identity(
            kind="api_key" if claims.get("kind") == "api_key" else "user",
            subject=identity.subject,
            key_id=str(claims.get("key_id", "")),
            scopes=tuple(scope.split()) if isinstance(scope, str) else (),
        )
    return Verified(identity, str(claims.get("jti", "")), expires_at_s)


class SigningKey:
    """A private P-256 key with its public half as a JWK."""

    def __init__(self, kid: str, private: ec.EllipticCurvePrivateKey) -> None:
        self.kid = kid
        self._private = private

    @classmethod
    def generate(cls, kid: str) -> SigningKey:
        return cls(kid, ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_pem(cls, kid: str, pem: bytes, password: bytes | None) -> SigningKey:
        """Raises ValueError when the password or the data is wrong."""
        private = serialization.load_pem_private_key(pem, password)
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise ValueError("not an elliptic-curve key")  # noqa: TRY004 (one kind of failure for callers)
        return cls(kid, private)

    def to_pem(self, password: bytes | None) -> bytes:
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password:
            encryption = serialization.BestAvailableEncryption(password)
        return self._private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )

    def public_jwk(self) -> dict[str, str]:
        public = jwt.algorithms.ECAlgorithm.to_jwk(self._private.public_key(), as_dict=True)
        return {**public, "kid": self.kid, "alg": "ES256", "use": "sig"}

    def sign(self, identity: Identity, *, issuer: str, audience: str, lifetime_s: int, token_id: str) -> str:
        """An access token for `identity`, valid from now for `lifetime_s`."""
        now_s = int(time.time())
        claims = {
            "iss": issuer,
            "aud": audience,
            "sub": identity.subject,
            "iat": now_s,
            "exp": now_s + lifetime_s,
            "jti": token_id,
            "kind": identity.kind,
            "scope": " ".join(identity.scopes),
        }
        if identity.key_id:
            claims["key_id"] = identity.key_id
        return jwt.encode(claims, self._private, "ES256", {"typ": "at+jwt", "kid": self.kid})


def jwks(keys: Sequence[SigningKey]) -> dict[str, list[dict[str, str]]]:
    return {"keys": [key.public_jwk() for key in keys]}
