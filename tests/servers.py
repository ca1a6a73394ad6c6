"""Real servers for tests: shared ones per pytest worker, and private ones a test may break.

Fixtures (session, one set per xdist worker): `postgres_server`, `nats_server`. Never break these.
Fixture `database_url`: a fresh database of the shared server for one test.
Private ones: `private_postgres(tmp_path)` / `private_nats(tmp_path)`, async context managers; their value
has start, stop, kill, freeze, thaw, restart, pid, url. `nats_cluster(tmp_path)`: three of them as one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.local.nats import LocalNats
from agent.local.ports import free_ports
from agent.local.postgres import LocalPostgres


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """The shared server: superuser `postgres`, password `postgres`, scram over TCP, trust over the socket."""

    server: LocalPostgres
    _names: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def port(self) -> int:
        return self.server.port

    def create_database(self) -> str:
        """A new empty database for one test; its URL."""
        name = f"test_{next(self._names)}"
        self.server.run_sql(f"CREATE DATABASE {name}")
        return self.server.url_of(database=name)


@dataclass(frozen=True, slots=True)
class NatsServer:
    """The shared server: no password, JetStream in files, monitoring."""

    server: LocalNats

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def monitor_url(self) -> str:
        return self.server.monitor_url


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    # Not tmp_path_factory: its long names leave no room for a unix socket.
    with tempfile.TemporaryDirectory(prefix="gaia-pg-") as folder:
        server = LocalPostgres(Path(folder) / "pg")
        server.start()
        try:
            yield PostgresServer(server)
        finally:
            server.stop()


@pytest.fixture(scope="session")
def nats_server() -> Iterator[NatsServer]:
    with tempfile.TemporaryDirectory(prefix="gaia-nats-") as folder:
        server = LocalNats(Path(folder) / "nats")
        server.start()
        try:
            yield NatsServer(server)
        finally:
            server.stop()


@pytest.fixture
def database_url(postgres_server: PostgresServer) -> str:
    return postgres_server.create_database()


@asynccontextmanager
async def private_postgres(
    folder: Path, *, settings: Mapping[str, str] | None = None, binaries: Path | None = None
) -> AsyncIterator[LocalPostgres]:
    """A started server of one's own, for a test that breaks it."""
    server = LocalPostgres(folder / "pg", settings=settings, binaries=binaries)
    try:
        await server.start_async()
        yield server
    finally:
        server.stop()


@asynccontextmanager
async def private_nats(
    folder: Path, *, users: Mapping[str, str] | None = None, extra_config: str = "", name: str = "nats"
) -> AsyncIterator[LocalNats]:
    """A started server of one's own, for a test that breaks it."""
    server = LocalNats(folder / name, users=users, extra_config=extra_config, name=name)
    try:
        await server.start_async()
        yield server
    finally:
        server.stop()


@asynccontextmanager
async def nats_cluster(folder: Path) -> AsyncIterator[list[LocalNats]]:
    """Three started servers that form one cluster with JetStream."""
    ports = free_ports(3)
    routes = json.dumps([f"nats://127.0.0.1:{port}" for port in ports])
    async with AsyncExitStack() as stack:
        contexts = [
            private_nats(
                folder,
                name=f"n{number}",
                extra_config=f'cluster: {{name: c, listen: "127.0.0.1:{port}", routes: {routes}}}',
            )
            for number, port in enumerate(ports, start=1)
        ]
        yield list(await asyncio.gather(*(stack.enter_async_context(one) for one in contexts)))
