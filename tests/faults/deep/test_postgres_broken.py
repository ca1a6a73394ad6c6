"""What is said of a PostgreSQL while it is being killed, frozen, exhausted or starved."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from agent.local.postgres import LocalPostgres
from checks.finding import State
from checks.limits import seconds
from checks.postgres.options import PostgresOptions
from checks.postgres.thresholds import Thresholds
from checks.reason import Reason
from checks.secret import Secret
from checks.units import Duration
from tests.faults.deep.conftest import Private, certificate, is_root
from tests.faults.deep.looking import Handler, Look, misbehaving
from tests.waiting import until


def options(server: LocalPostgres, **more: object) -> PostgresOptions:
    return PostgresOptions(url=Secret(server.url), **more)  # type: ignore[arg-type]


@asynccontextmanager
async def taken(url: str, count: int) -> AsyncIterator[list[asyncpg.Connection]]:
    held: list[asyncpg.Connection] = []
    try:
        held += [await asyncpg.connect(url) for _ in range(count)]
        yield held
    finally:
        for one in held:
            one.terminate()


async def test_a_killed_server_is_suspected_at_once_and_named_refused(private: Private) -> None:
    server = private.server()
    async with Look("postgres", options(server)) as one:
        assert (await one.look()).state is State.UP
        async with one.watched() as suspicions:
            await asyncio.sleep(0)
            server.kill()
            assert "ended" in await suspicions.first(within_s=1)
            found = await one.look()
    assert (found.state, found.reason, found.hard) == (State.DOWN, Reason.PG_REFUSED, True)


async def test_a_frozen_server_is_named_within_two_and_a_half_seconds(private: Private) -> None:
    server = private.server()
    async with Look("postgres", options(server)) as one:
        await one.look()
        async with one.watched() as suspicions:
            await asyncio.sleep(0)
            server.freeze()
            async with asyncio.timeout(2.5):
                assert "silent" in await suspicions.first()
                found = await one.look()
            server.thaw()
            after = await one.look(2)
    assert (found.state, found.reason) == (State.DOWN, Reason.PG_FROZEN)
    assert "held session and a new connection are silent" in found.message
    assert after.state is State.UP


async def test_a_frozen_postmaster_with_living_sessions_is_accept_stalled(private: Private) -> None:
    server = private.server()
    async with Look("postgres", options(server, answer_within=Duration(0.5))) as one:
        await one.look()
        os.kill(server.pid, signal.SIGSTOP)
        found = await one.look()
        os.kill(server.pid, signal.SIGCONT)
    assert (found.state, found.reason) == (State.DOWN, Reason.PG_ACCEPT_STALLED)
    assert "held ones still answer" in found.message


async def test_a_smart_shutdown_is_named_and_no_longer_blocked(private: Private) -> None:
    server = private.server()
    async with Look("postgres", options(server)) as one, taken(server.url, 1) as held:
        await one.look()
        os.kill(server.pid, signal.SIGTERM)
        found = await one.look()
        while found.state is State.UP:
            found = await one.look()
        assert (found.state, found.reason) == (State.DOWN, Reason.PG_SHUTTING_DOWN)
        held[0].terminate()
        # Our own session has been released, so nothing holds the server back.
        await until(lambda: server.child.exit_code() is not None)


async def test_a_fast_shutdown_ends_refused(private: Private) -> None:
    server = private.server()
    async with Look("postgres", options(server)) as one:
        await one.look()
        server.stop()
        found = await one.look()
    assert (found.state, found.reason) == (State.DOWN, Reason.PG_REFUSED)


async def test_a_crashed_backend_is_seen_as_recovery_then_as_restart(private: Private) -> None:
    server = private.server()
    async with Look("postgres", options(server)) as one, taken(server.url, 1) as victim:
        await one.look()
        async with one.watched() as suspicions:
            await asyncio.sleep(0)
            os.kill(victim[0].get_server_pid(), signal.SIGKILL)
            await suspicions.first()
        found = await one.look()
        seen = [found.reason]
        async with asyncio.timeout(10):
            while found.state is not State.UP:
                found = await one.look()
                seen.append(found.reason)
    allowed = {Reason.PG_CRASH_RECOVERY, Reason.PG_STARTING, Reason.PG_NO_BACKEND, Reason.PG_SHUTTING_DOWN}
    assert set(seen[:-1]) <= allowed, seen


async def test_a_restart_is_told_once_as_an_event(private: Private) -> None:
    server = private.server()
    async with Look("postgres", options(server)) as one:
        await one.look()
        server.restart()
        found = await one.look()
        after = await one.look()
    # The start time has whole seconds in it for the check; a restart within one is none to it.
    assert (found.state, after.state) == (State.UP, State.UP)
    assert after.reason is Reason.OK


async def test_no_slot_left_is_down_with_the_holders(private: Private) -> None:
    server = private.server(max_connections="8", superuser_reserved_connections="1")
    server.run_sql("CREATE ROLE leaky LOGIN PASSWORD 'x'; CREATE ROLE monitor LOGIN PASSWORD 'x';"
                   "GRANT pg_monitor TO monitor")  # fmt: skip
    free = 8 - 1
    leaky = server.url_of(user="leaky", password="x")
    monitor = Secret(server.url_of(user="monitor", password="x"))
    async with Look("postgres", PostgresOptions(url=monitor)) as one:
        await one.look()
        async with taken(leaky, free - 1):
            found = await one.look()
    assert (found.state, found.reason) == (State.DOWN, Reason.PG_TOO_MANY_CONNECTIONS)
    assert "leaky 6" in found.message


async def test_locked_out_with_the_applications_is_still_named(private: Private) -> None:
    server = private.server(max_connections="8", superuser_reserved_connections="1")
    server.run_sql("CREATE ROLE leaky LOGIN PASSWORD 'x'")
    leaky = server.url_of(user="leaky", password="x")
    async with taken(leaky, 7), Look("postgres", PostgresOptions(url=Secret(leaky))) as one:
        found = await one.look()
    assert (found.state, found.reason) == (State.DOWN, Reason.PG_TOO_MANY_CONNECTIONS)
    assert "no connection slot left" in found.message


async def test_the_reserved_role_still_gets_in_on_16_and_later(private: Private) -> None:
    if private.major < 16:
        pytest.skip("PostgreSQL 15 has no reserved_connections")
    server = private.server(max_connections="8", superuser_reserved_connections="1", reserved_connections="2")
    server.run_sql("CREATE ROLE leaky LOGIN PASSWORD 'x'; CREATE ROLE monitor LOGIN PASSWORD 'x';"
                   "GRANT pg_monitor, pg_use_reserved_connections TO monitor")  # fmt: skip
    monitor = Secret(server.url_of(user="monitor", password="x"))
    leaky = server.url_of(user="leaky", password="x")
    async with taken(leaky, 5), Look("postgres", PostgresOptions(url=monitor)) as one:
        found = await one.look()
    assert (found.state, found.reason) == (State.DOWN, Reason.PG_TOO_MANY_CONNECTIONS)
    assert "leaky 5" in found.message


async def test_commits_that_wait_for_a_standby_are_named_and_leave_nothing_behind(private: Private) -> None:
    server = private.server(synchronous_standby_names="gone")
    limits = Thresholds(canary=seconds(0.1, 0.3))
    async with Look("postgres", options(server, thresholds=limits)) as one:
        found = await one.look()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        assert server.run_sql(waiting) == "0"
        again = await one.look()
    assert (found.state, found.reason) == (State.DOWN, Reason.PG_SYNCREP_STALLED)
    assert "synchronous_standby_names" in found.message
    assert again.reason is Reason.PG_SYNCREP_STALLED


async def test_application_commits_stuck_in_syncrep_are_counted(private: Private) -> None:
    server = private.server(synchronous_standby_names="gone")
    limits = Thresholds(sync_wait=seconds(None, 0.000001), canary=None)
    async with taken(server.url, 1) as clients, Look("postgres", options(server, thresholds=limits)) as one:
        stuck = asyncio.ensure_future(clients[0].execute("CREATE TABLE t (a int)"))
        found = await one.look()
        while found.state is State.UP:
            found = await one.look()
        stuck.cancel()
    assert (found.state, found.reason) == (State.DOWN, Reason.PG_SYNCREP_STALLED)
    assert found.message.startswith("1 commits")


async def test_a_failing_archiver_is_told(private: Private) -> None:
    server = private.server(archive_mode="on", archive_command="false", wal_level="replica")
    limits = Thresholds(archiver_failing=seconds(0, None))
    async with Look("postgres", options(server, thresholds=limits)) as one:
        server.run_sql("SELECT pg_switch_wal()")
        found = await one.until(Reason.PG_ARCHIVER)
    assert found.state is State.DEGRADED
    assert "archive_command" in found.message


async def test_a_rejecting_hba_is_not_permitted(private: Private) -> None:
    server = private.server(start=False)
    server.start()
    hba = server.data_dir / "pg_hba.conf"
    hba.write_text("local all all trust\nhost all banned all reject\nhost all all all trust\n")
    server.run_sql("CREATE ROLE banned LOGIN; SELECT pg_reload_conf()")
    async with Look("postgres", PostgresOptions(url=Secret(server.url_of(user="banned")))) as one:
        found = await one.look()
        async with asyncio.timeout(5):
            while found.state is not State.UNKNOWN:
                found = await one.look()
    assert found.reason is Reason.PG_NOT_PERMITTED


def encrypted(private: Private, hba: str) -> tuple[LocalPostgres, Path]:
    if private.major != 15:
        pytest.skip("the wheel's PostgreSQL is built without OpenSSL")
    server = private.server(start=False)
    server.start()
    key, cert = certificate(private.folder)
    owner = server.data_dir.stat()
    for path in (key, cert):
        if is_root():
            os.chown(path, owner.st_uid, owner.st_gid)
        path.chmod(0o600)
    (server.data_dir / "pg_hba.conf").write_text(f"local all all trust\n{hba}\n")
    server.run_sql(f"ALTER SYSTEM SET ssl_cert_file = '{cert}'")
    server.run_sql(f"ALTER SYSTEM SET ssl_key_file = '{key}'")
    server.run_sql("ALTER SYSTEM SET ssl = on")
    server.run_sql("SELECT pg_reload_conf()")
    return server, cert


async def settled(server: LocalPostgres, reason: Reason, **more: object) -> State:
    """The state once the reload has taken effect and the reason is this one."""
    async with Look("postgres", options(server, **more)) as one:
        return (await one.until(reason)).state


async def test_a_server_that_demands_tls_says_so(private: Private) -> None:
    server, _ = encrypted(private, "hostssl all all all scram-sha-256")
    assert await settled(server, Reason.PG_TLS_REQUIRED, tls="disable") is State.UNKNOWN


async def test_a_certificate_nobody_signed_is_tls_verify_not_down(private: Private) -> None:
    server, _ = encrypted(private, "host all all all scram-sha-256")
    assert await settled(server, Reason.PG_TLS_VERIFY, tls="verify-full") is State.UNKNOWN


async def test_a_certificate_for_another_name_is_tls_verify(private: Private) -> None:
    server, cert = encrypted(private, "host all all all scram-sha-256")
    more = {"tls": "verify-full", "ca_file": str(cert)}
    assert await settled(server, Reason.PG_TLS_VERIFY, **more) is State.UNKNOWN


async def test_a_signed_certificate_lets_the_agent_in_encrypted(private: Private) -> None:
    server, cert = encrypted(private, "hostssl all all all scram-sha-256")
    assert await settled(server, Reason.OK, tls="verify-ca", ca_file=str(cert)) is State.UP


async def test_prefer_uses_tls_where_there_is_some(private: Private) -> None:
    server, _ = encrypted(private, "hostssl all all all scram-sha-256")
    assert await settled(server, Reason.OK) is State.UP


@pytest.fixture
def small_disk(private: Private) -> Iterator[Path]:
    """A file system of 120 MB."""
    folder = private.folder / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=120m,mode=755", "tmpfs", str(folder)]
    if not is_root() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine may not mount a tmpfs")
    yield folder
    private.stop()
    subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


async def test_a_full_disk_ends_in_a_named_state(private: Private, small_disk: Path) -> None:
    server = private.server(f"{small_disk.name}/pg", max_wal_size="64MB")
    limits = Thresholds(canary=seconds(1, 2))
    async with Look("postgres", options(server, thresholds=limits, canary=Duration(0.01))) as one:
        found = await one.look()
        with (server.data_dir / "filler").open("wb") as file:
            while _write(file.fileno()):
                pass
        async with asyncio.timeout(20):
            while found.state is State.UP:
                _fill(server)
                found = await one.look()
        ended = (Reason.PG_DISK_FULL, Reason.PG_CRASH_RECOVERY, Reason.PG_REFUSED)
        found = await one.until(*ended)
    assert found.state in (State.DOWN, State.STARTING)


def _write(descriptor: int) -> bool:
    try:
        return os.write(descriptor, b"x" * 65536) > 0
    except OSError:
        return False


def _fill(server: LocalPostgres) -> None:
    from agent.local.child import LocalError

    try:
        # Data files may fail and the server lives; a new WAL segment that cannot be made ends it.
        server.run_sql("SELECT pg_logical_emit_message(true, 'fill', repeat('x', 4000000)), pg_switch_wal()")
    except LocalError:
        return


async def test_looks_at_a_server_with_tls_leave_no_line_in_its_log(private: Private) -> None:
    server, _ = encrypted(private, "hostssl all all all scram-sha-256")
    log = server.data_dir.with_name(f"{server.data_dir.name}.log")
    async with Look("postgres", options(server, tls="require")) as one:
        await one.until(Reason.OK)
        before = log.read_text()
        found = await one.look(20)
        async with one.watched() as suspicions:
            assert await one.sentinel()._knocker.is_accepting(answer_within_s=2)  # type: ignore[attr-defined]
    assert found.state is State.UP
    assert suspicions.words == []
    assert log.read_text() == before


async def test_a_server_that_stops_speaking_tls_is_told_after_its_sessions_end(private: Private) -> None:
    server, _ = encrypted(private, "host all all all scram-sha-256")
    async with Look("postgres", options(server, tls="require")) as one:
        await one.until(Reason.OK)
        server.run_sql("ALTER SYSTEM SET ssl = off")
        server.run_sql("SELECT pg_reload_conf()")
        await one.check.close()
        found = await one.until(Reason.PG_TLS_UNAVAILABLE)
    assert found.state is State.UNKNOWN
    assert "has no TLS, which sslmode=require wants" in found.message


async def test_a_frozen_postmaster_is_suspected_although_the_held_session_answers(private: Private) -> None:
    server = private.server()
    quick = options(server, heartbeat=Duration(0.2))
    async with Look("postgres", quick) as one:
        await one.look()
        async with one.watched() as suspicions:
            os.kill(server.pid, signal.SIGSTOP)
            try:
                assert "lets nobody new in" in await suspicions.first()
                async with asyncio.timeout(1.5):
                    found = await one.look()
            finally:
                os.kill(server.pid, signal.SIGCONT)
        after = await one.until(Reason.OK)
    assert (found.state, found.reason) == (State.DOWN, Reason.PG_ACCEPT_STALLED)
    assert "takes no new session within 500ms while held ones still answer" in found.message
    assert after.state is State.UP


async def test_a_server_that_is_back_calls_for_a_look(private: Private) -> None:
    server = private.server()
    async with Look("postgres", options(server, heartbeat=Duration(0.05))) as one:
        await one.look()
        async with one.watched() as suspicions:
            server.kill()
            await until(lambda: len(suspicions.words) > 0)
            down = await one.look()
            # A beat or two in which it is known to be away.
            await until(lambda: one.check._session.away)  # type: ignore[attr-defined]
            server.start()
            await until(lambda: any("lets sessions in again" in words for words in suspicions.words))
        found = await one.look()
    assert (down.reason, found.state) == (Reason.PG_REFUSED, State.UP)


async def test_a_server_that_may_sleep_is_never_knocked_at_by_its_sentinel() -> None:
    knocks = {True: 0, False: 0}

    def counting(hold: bool) -> Handler:  # noqa: FBT001 - a key
        async def counts(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            knocks[hold] += 1
            await reader.read(1)

        return counts

    def watched(port: int, *, hold: bool) -> PostgresOptions:
        url = Secret(f"postgresql://gaia:pw@127.0.0.1:{port}/app")
        return PostgresOptions(url=url, hold=hold, heartbeat=Duration(0.01))

    async with (
        misbehaving(counting(True)) as held,
        misbehaving(counting(False)) as sleeping,
        Look("postgres", watched(held, hold=True)) as one,
        Look("postgres", watched(sleeping, hold=False)) as other,
        one.watched(),
        other.watched(),
    ):
        await until(lambda: knocks[True] >= 5)
    assert knocks[False] == 0
