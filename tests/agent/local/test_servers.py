from __future__ import annotations

import socket
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from agent.local.child import LocalError
from agent.local.nats import LocalNats
from agent.local.postgres import LocalPostgres
from tests.servers import NatsServer, PostgresServer, private_nats, private_postgres


def _answers(url: str) -> bool:
    where = urlsplit(url)
    try:
        with socket.create_connection((where.hostname or "", where.port or 0), timeout=0.5) as connection:
            return connection.recv(4) == b"INFO" if where.scheme == "nats" else True
    except OSError:
        return False


def test_each_test_gets_its_own_database(postgres_server: PostgresServer) -> None:
    first, second = postgres_server.create_database(), postgres_server.create_database()
    assert first != second
    assert (
        postgres_server.server.run_sql("SELECT current_database()", database=first.rsplit("/", 1)[1]) in first
    )


def test_nats_monitoring_tells_that_jetstream_is_on(nats_server: NatsServer) -> None:
    with urllib.request.urlopen(f"{nats_server.monitor_url}/jsz", timeout=2) as answer:
        assert b'"disabled"' not in answer.read()
    assert _answers(nats_server.url)


async def test_postgres_keeps_data_and_port_over_kill_and_restart(tmp_path: Path) -> None:
    async with private_postgres(tmp_path) as server:
        url, pid = server.url, server.pid
        server.run_sql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
        server.kill()
        assert not _answers(url)
        server.start()
        assert (server.url, server.run_sql("SELECT n FROM kept")) == (url, "7")
        assert server.pid != pid


async def test_frozen_postgres_accepts_and_does_not_answer_until_thawed(tmp_path: Path) -> None:
    async with private_postgres(tmp_path) as server:
        server.freeze()
        with socket.create_connection(("127.0.0.1", server.port), timeout=0.2) as connection:
            connection.sendall(bytes((0, 0, 0, 8, 4, 0xD2, 0x16, 0x2F)))  # SSLRequest
            with pytest.raises(TimeoutError):
                connection.recv(1)
            server.thaw()
            connection.settimeout(5)
            assert connection.recv(1) in {b"N", b"S"}


async def test_frozen_postgres_can_be_stopped_and_killed(tmp_path: Path) -> None:
    async with private_postgres(tmp_path) as server:
        server.freeze()
        server.stop()
        server.start()
        server.freeze()
        server.kill()
        assert not _answers(server.url)


async def test_nats_keeps_its_ports_over_kill_and_restart(tmp_path: Path) -> None:
    async with private_nats(tmp_path, users={"app": "s3cret/"}) as server:
        before = (server.url, server.monitor_url)
        server.kill()
        assert not _answers(server.url)
        await server.start_async()
        assert (server.url, server.monitor_url) == before
        assert server.url == f"nats://app:s3cret%2F@127.0.0.1:{server.port}"
        assert _answers(server.url)


async def test_stop_leaves_no_pid_file_and_no_socket(tmp_path: Path) -> None:
    async with private_postgres(tmp_path) as server:
        pass
    assert not list(server.data_dir.glob(".s.PGSQL*"))
    assert not (server.data_dir / "postmaster.pid").exists()


def test_a_taken_port_is_named_with_the_log(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            LocalError, match=rf"PostgreSQL on port {port} exited with 1 while starting"
        ) as caught:
            LocalPostgres(tmp_path / "pg", port=port).start()
        assert "Address already in use" in str(caught.value)
        with pytest.raises(LocalError, match=rf"NATS on port {port} exited with 1 while starting"):
            LocalNats(tmp_path / "nats", port=port).start()


def test_a_wrong_binary_setting_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAIA_PG_BIN", str(tmp_path))
    monkeypatch.setenv("GAIA_NATS_BIN", str(tmp_path / "none"))
    with pytest.raises(LocalError, match=r"GAIA_PG_BIN=.* has no initdb"):
        LocalPostgres(tmp_path / "pg")
    with pytest.raises(LocalError, match=r"GAIA_NATS_BIN=.* is not an executable file"):
        LocalNats(tmp_path / "nats")
