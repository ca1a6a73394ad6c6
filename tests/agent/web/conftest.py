"""A served platform and a client that reads it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from agent.web.server import WebOptions, serving
from agent.web.source import Source
from checks.secret import Secret
from tests.agent.web.platform import Platform, small

TOKEN = "open-sesame"


@asynccontextmanager
async def client_of(source: Source, *, max_clients: int = 200) -> AsyncIterator[aiohttp.ClientSession]:
    """A session against a real server on a free port."""
    options = WebOptions(port=0, token=Secret(TOKEN), max_clients=max_clients)
    async with (
        serving(source, options) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}", timeout=aiohttp.ClientTimeout(total=10)) as session,
    ):
        yield session


@pytest.fixture
def platform() -> Platform:
    return small()


@pytest.fixture
async def client(platform: Platform) -> AsyncIterator[aiohttp.ClientSession]:
    async with client_of(platform) as session:
        yield session
