"""The PostgreSQL servers of the suite: the wheel's 18 and Debian's 15, one each per worker."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.local.postgres import LocalPostgres, postgres_binaries

DEBIAN = Path("/usr/lib/postgresql/15/bin")
SETTINGS = {
    "max_prepared_transactions": "5",
    "shared_preload_libraries": "pg_stat_statements",
    "wal_level": "logical",
    "deadlock_timeout": "50ms",
    "max_connections": "60",
}


def binaries(version: str) -> Path:
    """The folder of a PostgreSQL; skips the test where this machine has none."""
    if version == "18":
        return postgres_binaries()
    if not (DEBIAN / "initdb").exists():
        pytest.skip(f"no PostgreSQL 15 in {DEBIAN} (Debian package postgresql-15)")
    return DEBIAN


@pytest.fixture(scope="session", params=["18", "15"])
def pg(request: pytest.FixtureRequest) -> Iterator[LocalPostgres]:
    """A server nobody may break."""
    with tempfile.TemporaryDirectory(prefix="gaia-deep-") as folder:
        server = LocalPostgres(Path(folder) / "pg", binaries=binaries(request.param), settings=SETTINGS)
        server.start()
        server.run_sql(
            "CREATE EXTENSION pg_stat_statements;"
            "CREATE ROLE monitor LOGIN PASSWORD 'monitor' CONNECTION LIMIT 4; GRANT pg_monitor TO monitor;"
            "CREATE ROLE plain LOGIN PASSWORD 'plain'; CREATE DATABASE app;"
        )
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session", params=["18", "15"])
def fresh(request: pytest.FixtureRequest) -> Iterator[Fresh]:
    """A data directory nobody has used, to copy: initdb takes longer than everything else of a start."""
    with tempfile.TemporaryDirectory(prefix="gaia-fresh-") as folder:
        server = LocalPostgres(Path(folder) / "pg", binaries=binaries(request.param))
        server.start()
        server.stop()
        yield Fresh(server.data_dir, server.binaries, int(request.param))


@pytest.fixture
def private(fresh: Fresh) -> Iterator[Private]:
    """Servers of one's own, which a test may break; stopped afterwards whatever happened."""
    with tempfile.TemporaryDirectory(prefix="gaia-own-") as folder:
        made = Private(Path(folder), fresh)
        try:
            yield made
        finally:
            made.stop()


@dataclass(frozen=True, slots=True)
class Fresh:
    """A stopped server's data, and what runs it."""

    data_dir: Path
    binaries: Path
    major: int


class Private:
    """Makes servers of one version in one folder."""

    def __init__(self, folder: Path, fresh: Fresh) -> None:
        self.folder = folder
        self.binaries = fresh.binaries
        self.major = fresh.major
        self._fresh = fresh.data_dir
        self._servers: list[LocalPostgres] = []

    def server(self, name: str = "pg", *, start: bool = True, **settings: str) -> LocalPostgres:
        folder = self.folder / name
        if not folder.exists():
            # With its owner, which is not root.
            subprocess.run(["cp", "-a", self._fresh, folder], check=True)
        made = LocalPostgres(folder, binaries=self.binaries, settings=settings)
        self._servers.append(made)
        if start:
            made.start()
        return made

    def stop(self) -> None:
        for server in reversed(self._servers):
            if server._child is not None and server.child.exit_code() is None:
                server.thaw()
                server.kill()


def is_root() -> bool:
    return os.geteuid() == 0


def certificate(folder: Path) -> tuple[Path, Path]:
    """A key and a certificate for `db.test`, signed by itself."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate")
    key, cert = folder / "server.key", folder / "server.crt"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=db.test",
         "-addext", "subjectAltName=DNS:db.test", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, cert
