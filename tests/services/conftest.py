"""A session for HTTP, the variables of a platform, and one whole platform in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from tests.servers import NatsServer
from tests.services.running import Running, answers, environment, serving


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(), connector=aiohttp.TCPConnector(limit=0)
    ) as session:
        yield session


@dataclass(frozen=True, slots=True)
class Platform:
    """The four services of one test, over real PostgreSQL and NATS."""

    gateway: Running
    auth: Running
    asset: Running
    chat: Running
    environ: dict[str, str]

    @property
    def url(self) -> str:
        return self.gateway.url

    @property
    def services(self) -> tuple[Running, ...]:
        return (self.gateway, self.auth, self.asset, self.chat)


@pytest.fixture
def platform_environment(
    database_url: str, nats_server: NatsServer, tmp_path: Path, request: pytest.FixtureRequest
) -> dict[str, str]:
    """Variables shared by the services of one test: its own database, its own corner of the broker."""
    developer = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)[:60]
    return environment(
        DATABASE_URL=database_url,
        NATS_URL=nats_server.url,
        GAIA_DEVELOPER=f"{developer}-{tmp_path.name}",
        ASSET_STORAGE=str(tmp_path / "assets"),
    )


@pytest.fixture
async def platform(
    platform_environment: dict[str, str], tmp_path: Path, http: aiohttp.ClientSession
) -> AsyncIterator[Platform]:
    environ = platform_environment
    async with AsyncExitStack() as stack:
        auth = await stack.enter_async_context(serving("auth", environ, tmp_path))
        environ = {**environ, "AUTH_URL": auth.url}
        await answers(http, f"{auth.url}/readyz")
        asset = await stack.enter_async_context(serving("asset", environ, tmp_path))
        chat = await stack.enter_async_context(serving("chat", environ, tmp_path))
        environ |= {"ASSET_URL": asset.url, "CHAT_URL": chat.url}
        gateway = await stack.enter_async_context(serving("gateway", environ, tmp_path))
        for service in (asset, chat, gateway):
            await answers(http, f"{service.url}/readyz")
        yield Platform(gateway, auth, asset, chat, environ)


@dataclass(frozen=True, slots=True)
class User:
    """Somebody signed in."""

    subject: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


async def sign_in(http: aiohttp.ClientSession, url: str, email: str = "ada@example.com") -> User:
    """Sign up through the gateway (or auth itself) and sign in."""
    credentials = {"email": email, "password": "correct horse"}
    async with http.post(f"{url}/api/v1/auth/users", json=credentials) as response:
        subject = (await response.json())["id"]
    async with http.post(f"{url}/api/v1/auth/tokens", json=credentials) as response:
        return User(subject, (await response.json())["access_token"])
