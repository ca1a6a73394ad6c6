"""Auth over real PostgreSQL and NATS: signing in, keys, rotation, revocation."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from services.instrumentation.api_key import parse_api_key
from services.instrumentation.settings import Environment
from tests.services.conftest import Platform, sign_in
from tests.services.running import PLATFORM_KEY, answers, serving
from tests.waiting import until

ADMIN = {"X-API-Key": PLATFORM_KEY}


async def status(http: aiohttp.ClientSession, method: str, url: str, **options: object) -> int:
    async with http.request(method, url, **options) as response:  # type: ignore[arg-type]
        return response.status


async def test_wrong_passwords_unknown_users_and_taken_addresses_are_refused(
    platform: Platform, http: aiohttp.ClientSession
) -> None:
    await sign_in(http, platform.url)
    users, tokens = f"{platform.url}/api/v1/auth/users", f"{platform.url}/api/v1/auth/tokens"
    ada = {"email": "ada@example.com", "password": "correct horse"}
    assert await status(http, "POST", users, json=ada) == 409
    assert await status(http, "POST", tokens, json={**ada, "password": "wrong horse"}) == 401
    assert await status(http, "POST", tokens, json={**ada, "email": "bob@example.com"}) == 401
    assert await status(http, "POST", tokens, json={**ada, "email": "ADA@example.com"}) == 200
    async with http.get(f"{platform.auth.url}/metrics") as response:
        assert "horse" not in await response.text()
    assert "horse" not in "".join(running.log.read_text() for running in platform.services)


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[]", "application/json", 422),
        (b'{"email":"a@b.c"}', "application/json", 422),
        (b'{"email":"a@b.c","password":"long enough","admin":true}', "application/json", 422),
        (b'{"email":"nobody","password":"long enough"}', "application/json", 422),
        (b'{"email":"a@b.c","password":"short"}', "application/json", 422),
        (b'{"email":"a\\u0000@b.c","password":"long enough"}', "application/json", 422),
        (b'{"email":"a@b.c","password":"long enough \\ud800"}', "application/json", 400),
        (b"a=b", "application/x-www-form-urlencoded", 415),
        (b'"' + b"a" * 70_000 + b'"', "application/json", 413),
        (b"[" * 60_000, "application/json", 422),
    ],
)
async def test_a_bad_body_is_a_problem_never_a_500(
    body: bytes, content_type: str, expected: int, platform: Platform, http: aiohttp.ClientSession
) -> None:
    async with http.post(
        f"{platform.url}/api/v1/auth/users", data=body, headers={"Content-Type": content_type}
    ) as response:
        assert response.status == expected
        assert response.content_type == "application/problem+json"
        assert (await response.json(content_type=None))["trace_id"]


async def test_an_api_key_works_everywhere_until_it_is_revoked(
    platform: Platform, http: aiohttp.ClientSession
) -> None:
    user = await sign_in(http, platform.url)
    keys = f"{platform.url}/api/v1/auth/api-keys"
    made = []
    for name in ("old", "new"):
        async with http.post(keys, json={"name": name}, headers=user.headers) as response:
            assert response.status == 201
            made.append(await response.json())
    # Two are active so that one can replace the other; a third is too many.
    assert await status(http, "POST", keys, json={"name": "more"}, headers=user.headers) == 409
    assert parse_api_key(made[0]["key"], Environment.DEVELOPMENT) is not None
    async with http.get(keys, headers=user.headers) as response:
        assert [key.get("key") for key in (await response.json())["keys"]] == [None, None]
    with_key = {"X-API-Key": made[0]["key"]}
    assert await status(http, "GET", f"{platform.url}/api/v1/assets", headers=with_key) == 200
    assert await status(http, "DELETE", f"{keys}/{made[0]['id']}", headers=user.headers) == 204
    await until(lambda: platform.gateway.sample("messaging_client_consumed_messages_total", REVOKED) == 1)
    assert await status(http, "GET", f"{platform.url}/api/v1/assets", headers=with_key) == 401
    other = {"X-API-Key": made[1]["key"]}
    assert await status(http, "GET", f"{platform.url}/api/v1/assets", headers=other) == 200
    assert made[0]["key"] not in "".join(running.log.read_text() for running in platform.services)


REVOKED = {"messaging_system": "nats", "messaging_destination_name": "gaia.{env}.auth.revoked"}


async def test_signing_out_is_known_to_every_service_at_once(
    platform: Platform, http: aiohttp.ClientSession
) -> None:
    user = await sign_in(http, platform.url)
    assert await status(http, "GET", f"{platform.asset.url}/api/v1/assets", headers=user.headers) == 200
    current = f"{platform.url}/api/v1/auth/tokens/current"
    assert await status(http, "DELETE", current, headers=user.headers) == 204
    told = "messaging_client_consumed_messages_total"
    listeners = (platform.asset, platform.chat, platform.gateway)
    await until(lambda: all(running.sample(told, REVOKED) == 1 for running in listeners))
    assert await status(http, "GET", f"{platform.asset.url}/api/v1/assets", headers=user.headers) == 401
    assert await status(http, "GET", f"{platform.url}/api/v1/chat/rooms", headers=user.headers) == 401


async def test_the_platforms_key_has_no_token_to_revoke_whatever_stands_beside_it(
    platform: Platform, http: aiohttp.ClientSession
) -> None:
    headers = {"X-API-Key": PLATFORM_KEY, "Authorization": "Bearer nonsense"}
    async with http.delete(f"{platform.auth.url}/api/v1/auth/tokens/current", headers=headers) as response:
        assert (response.status, (await response.json(content_type=None))["type"]) == (
            400,
            "urn:gaia:problem:no_token",
        )


async def test_a_revocation_missed_on_nats_is_read_with_the_keys(
    platform: Platform, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    user = await sign_in(http, platform.url)
    await status(http, "DELETE", f"{platform.url}/api/v1/auth/tokens/current", headers=user.headers)
    async with serving("asset", platform.environ, tmp_path) as late:
        await answers(http, f"{late.url}/readyz")
        assert await status(http, "GET", f"{late.url}/api/v1/assets", headers=user.headers) == 401


async def test_scenario_09_rotation_keeps_old_tokens_valid_and_new_ones_verify_with_one_fetch(
    platform: Platform, http: aiohttp.ClientSession
) -> None:
    before = await sign_in(http, platform.url)
    fetches = "http_server_request_duration_seconds_count"
    jwks = {
        "http_request_method": "GET", "http_route": "/api/v1/auth/.well-known/jwks.json",
        "http_response_status_code": "200", "error_type": "",
    }  # fmt: skip
    # The key after next is unknown to everyone; two rotations make it sign.
    for _ in range(2):
        assert (
            await status(http, "POST", f"{platform.auth.url}/api/v1/auth/keys/rotate", headers=ADMIN) == 200
        )
    after = await sign_in(http, platform.auth.url, "bob@example.com")
    fetched = platform.auth.sample(fetches, jwks)
    results = await asyncio.gather(*(
        status(http, "GET", f"{platform.asset.url}/api/v1/assets", headers=after.headers) for _ in range(100)
    ))  # fmt: skip
    assert set(results) == {200}
    assert platform.auth.sample(fetches, jwks) == fetched + 1
    assert await status(http, "GET", f"{platform.asset.url}/api/v1/assets", headers=before.headers) == 200


async def test_only_admins_rotate_keys(platform: Platform, http: aiohttp.ClientSession) -> None:
    user = await sign_in(http, platform.url)
    assert await status(http, "POST", f"{platform.url}/api/v1/auth/keys/rotate", headers=user.headers) == 403


async def test_private_keys_lie_encrypted_in_the_database(
    platform: Platform, http: aiohttp.ClientSession
) -> None:
    import asyncpg

    connection = await asyncpg.connect(platform.environ["DATABASE_URL"])
    rows = await connection.fetch("select pem, state from auth.signing_keys order by state")
    await connection.close()
    assert [row["state"] for row in rows] == ["current", "next"]
    assert all(row["pem"].startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----") for row in rows)


async def test_scenario_10_without_auth_cached_keys_verify_and_a_fresh_instance_says_503(
    platform: Platform, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    user = await sign_in(http, platform.url)
    await platform.auth.stop()
    assert await status(http, "GET", f"{platform.asset.url}/api/v1/assets", headers=user.headers) == 200
    async with serving("asset", platform.environ, tmp_path) as fresh:
        await answers(http, f"{fresh.url}/readyz")
        async with http.get(f"{fresh.url}/api/v1/assets", headers=user.headers) as response:
            assert response.status == 503
            assert (await response.json(content_type=None))["type"] == "urn:gaia:problem:keys_unavailable"
