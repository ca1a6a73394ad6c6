"""Tokens of somebody else's issuer, believed by configuration alone."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from services.instrumentation.authentication import Authenticator, caller, remote_verifier
from services.instrumentation.client import HttpClient
from services.instrumentation.kit import Instrumentation
from services.instrumentation.routes import Operation, answer, application
from tests.services.running import Running, environment, serving

SUPABASE_KEY = ec.generate_private_key(ec.SECP256R1())
PARTNER_KEY = rsa.generate_private_key(65537, 2048)
SUPABASE_PATH = "/supabase/auth/v1/.well-known/jwks.json"


def public_keys(kid: str, key: EllipticCurvePrivateKey | RSAPrivateKey) -> dict[str, Any]:
    if isinstance(key, RSAPrivateKey):
        public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        return {"keys": [{**public, "kid": kid, "alg": "RS256", "use": "sig"}]}
    public = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {"keys": [{**public, "kid": kid, "alg": "ES256", "key_ops": ["verify"]}]}


@pytest.fixture
async def issuers() -> AsyncIterator[str]:
    """Both issuers' key documents on one server; its URL."""
    app = web.Application()

    async def supabase(_request: web.Request) -> web.Response:
        return web.json_response(public_keys("s1", SUPABASE_KEY))

    async def partner(_request: web.Request) -> web.Response:
        return web.json_response(public_keys("p1", PARTNER_KEY))

    app.router.add_get(SUPABASE_PATH, supabase)
    app.router.add_get("/partner/keys", partner)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def shop(kit: Instrumentation) -> web.Application:
    """Anybody's application behind the kit's authentication."""

    async def who(_request: web.Request) -> web.Response:
        identity = caller()
        return answer({"subject": identity.subject, "kind": identity.kind, "scopes": identity.scopes})

    operations = (Operation(method="GET", path="/who", handler=who, summary="Who calls."),)
    authenticator = Authenticator(kit, remote_verifier(kit, HttpClient(kit), None))
    return application(kit, "Shop", operations, guard=authenticator.middleware)


def token(url: str, issuer: str, **changes: Any) -> str:
    now = int(time.time())
    name, audience = (
        (f"{url}/supabase/auth/v1", "authenticated")
        if issuer == "supabase"
        else ("https://partner.example", "gaia-partners")
    )
    claims = {"iss": name, "aud": audience, "sub": "ada", "iat": now, "exp": now + 3600, **changes}
    if issuer == "supabase":
        # As Supabase makes them: a role, a session, no `typ` of RFC 9068.
        claims |= {"role": "authenticated", "session_id": "x", "is_anonymous": False}
        return jwt.encode(claims, SUPABASE_KEY, "ES256", {"kid": "s1", "typ": "JWT"})
    return jwt.encode(claims, PARTNER_KEY, "RS256", {"kid": "p1"})


def configured(url: str) -> dict[str, str]:
    return environment(
        SUPABASE_URL=f"{url}/supabase/", EXTERNAL_JWKS_URL=f"{url}/partner/keys",
        EXTERNAL_ISSUER="https://partner.example", EXTERNAL_AUDIENCE="gaia-partners",
    )  # fmt: skip


async def ask(http: aiohttp.ClientSession, running: Running, bearer: str) -> tuple[int, dict[str, Any]]:
    async with http.get(f"{running.url}/who", headers={"Authorization": f"Bearer {bearer}"}) as response:
        return response.status, await response.json(content_type=None)


@pytest.mark.parametrize("issuer", ["supabase", "partner"])
async def test_a_configured_issuers_user_is_let_in_without_any_scope_it_claims(
    issuer: str, issuers: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with serving("shop", configured(issuers), tmp_path, shop) as running:
        claims = token(issuers, issuer, scope="admin", kind="api_key", key_id="k")
        assert await ask(http, running, claims) == (200, {"subject": "ada", "kind": "user", "scopes": []})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"aud": "gaia"}, "audience"),
        ({"aud": "anon"}, "audience"),
        ({"iss": "https://evil.example"}, "issuer"),
        ({"iss": "gaia-auth-dev"}, "issuer"),
        ({"exp": 1}, "expired"),
        ({"exp": int(time.time()) + 90 * 86400}, "lifetime"),
    ],
)
@pytest.mark.parametrize("issuer", ["supabase", "partner"])
async def test_its_key_vouches_for_nothing_but_its_own_name_and_audience(
    issuer: str,
    changes: dict[str, Any],
    reason: str,
    issuers: str,
    tmp_path: Path,
    http: aiohttp.ClientSession,
) -> None:
    async with serving("shop", configured(issuers), tmp_path, shop) as running:
        status, problem = await ask(http, running, token(issuers, issuer, **changes))
        assert (status, problem["type"]) == (401, f"urn:gaia:problem:unauthorized_{reason}")
        assert running.sample("auth_refusals_total", {"reason": reason}) == 1


async def test_without_the_configuration_it_is_a_stranger(
    issuers: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    only_partner = {name: value for name, value in configured(issuers).items() if name != "SUPABASE_URL"}
    async with serving("shop", only_partner, tmp_path, shop) as running:
        status, problem = await ask(http, running, token(issuers, "supabase"))
        assert (status, problem["type"]) == (401, "urn:gaia:problem:unauthorized_unknown_key")
