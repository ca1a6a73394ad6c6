"""What is said of real NATS servers that die, hang, fill up or stall."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.local.nats import LocalNats
from checks.finding import Finding, State
from checks.limits import counts, seconds, shares
from checks.nats.link import Link
from checks.nats.options import NatsOptions
from checks.nats.place import Place
from checks.nats.thresholds import Thresholds
from checks.reason import Reason
from checks.secret import Secret
from checks.small_get import SmallGet
from checks.units import Duration
from tests.faults.deep.conftest import certificate, is_root
from tests.faults.deep.looking import Look, Names, look_once
from tests.servers import private_nats
from tests.waiting import until


def options(server: LocalNats, *, jetstream: bool = True, **more: object) -> NatsOptions:
    return NatsOptions(
        url=Secret(server.url),
        monitor_url=server.monitor_url,
        jetstream=jetstream,
        **more,  # type: ignore[arg-type]
    )


def told(found: Finding) -> tuple[State, Reason]:
    return found.state, found.reason


async def connected(server: LocalNats, **login: object) -> Link:
    link = await Link.connect("127.0.0.1", server.port)
    await link.enter(Place(host="127.0.0.1", port=server.port, **login))  # type: ignore[arg-type]
    return link


async def api(link: Link, subject: str, **request: object) -> dict[str, object]:
    reply = await link.request(f"$JS.API.{subject}", json.dumps(request).encode())
    answer: dict[str, object] = json.loads(reply.data)
    assert "error" not in answer, answer
    return answer


async def test_a_healthy_server_is_up_with_its_numbers(tmp_path: Path) -> None:
    async with private_nats(tmp_path) as server:
        found = await look_once("nats", options(server))
    assert told(found) == (State.UP, Reason.OK)
    assert {one.name for one in found.measures} >= {
        "gaia_nats_server_up",
        "gaia_nats_round_trip_seconds",
        "gaia_nats_connections",
        "gaia_nats_ready",
        "gaia_nats_jetstream_storage_limit_bytes",
    }


async def test_a_killed_server_is_suspected_at_once_and_named_refused(tmp_path: Path) -> None:
    # No look before: its own connection would be taken for the sentinel's.
    async with (
        private_nats(tmp_path) as server,
        Look("nats", options(server)) as one,
        one.watched() as suspicions,
    ):
        await held(server)
        server.kill()
        assert "ended" in await suspicions.first(within_s=1)
        found = await one.look()
    assert (*told(found), found.hard) == (State.DOWN, Reason.NATS_REFUSED, True)


async def test_a_server_that_is_back_calls_for_a_look(tmp_path: Path) -> None:
    async with (
        private_nats(tmp_path) as server,
        Look("nats", options(server, heartbeat=Duration(0.2))) as one,
        one.watched() as suspicions,
    ):
        await held(server)
        server.kill()
        await suspicions.first(within_s=1)
        down = await one.look()
        server.start()
        await until(lambda: any("lets clients in again" in words for words in suspicions.words))
        found = await one.look()
    assert (down.reason, found.state) == (Reason.NATS_REFUSED, State.UP)


async def test_a_frozen_server_is_named_within_two_and_a_half_seconds(tmp_path: Path) -> None:
    async with (
        private_nats(tmp_path) as server,
        Look("nats", options(server)) as one,
        one.watched() as suspicions,
    ):
        await held(server)
        server.freeze()
        async with asyncio.timeout(2.5):
            assert "silent" in await suspicions.first()
            found = await one.look()
        server.thaw()
        after = await one.look()
    assert told(found) == (State.DOWN, Reason.NATS_FROZEN)
    assert after.state is State.UP


async def test_a_healthy_held_connection_raises_no_suspicion(tmp_path: Path) -> None:
    async with private_nats(tmp_path) as server:
        beats = options(server, heartbeat=Duration(0.02))
        async with Look("nats", beats) as one, one.watched() as suspicions:
            await held(server)
            for _ in range(30):
                await one.look()
            assert suspicions.words == []


async def test_lame_duck_is_announced_and_told(tmp_path: Path) -> None:
    config = 'lame_duck_duration: "31s"\nlame_duck_grace_period: "10s"'
    async with (
        private_nats(tmp_path, extra_config=config) as server,
        Look("nats", options(server)) as one,
        one.watched() as suspicions,
    ):
        await held(server)
        os.kill(server.pid, signal.SIGUSR2)
        assert "lame duck" in await suspicions.first()
        found = await one.look()
    assert found.reason is Reason.NATS_LAME_DUCK, found.message
    assert "lame duck" in found.message
    assert found.state in (State.DEGRADED, State.DOWN)


async def test_rejected_credentials_are_unknown(tmp_path: Path) -> None:
    async with private_nats(tmp_path, users={"gaia": "right"}) as server:
        url = Secret(f"nats://gaia:wrong@127.0.0.1:{server.port}")
        found = await look_once("nats", NatsOptions(url=url))
    assert told(found) == (State.UNKNOWN, Reason.NATS_AUTH_FAILED)
    assert "wrong" not in repr(found)


async def test_a_user_and_password_let_the_agent_in(tmp_path: Path) -> None:
    async with private_nats(tmp_path, users={"gaia": "right"}) as server:
        found = await look_once("nats", options(server))
    assert found.state is State.UP


async def test_a_token_lets_the_agent_in(tmp_path: Path) -> None:
    config = 'authorization: {token: "t0ken"}'
    async with private_nats(tmp_path, extra_config=config) as server:
        good = await look_once("nats", NatsOptions(url=Secret(f"nats://t0ken@127.0.0.1:{server.port}")))
        bad = await look_once("nats", NatsOptions(url=Secret(f"nats://nope@127.0.0.1:{server.port}")))
    assert (good.state, bad.reason) == (State.UP, Reason.NATS_AUTH_FAILED)


def encrypting(folder: Path) -> tuple[str, Path]:
    """A server's TLS settings and the certificate to trust."""
    key, cert = certificate(folder)
    files = f"cert_file: {json.dumps(str(cert))}, key_file: {json.dumps(str(key))}"
    return f"tls: {{{files}}}", cert


async def test_a_certificate_nobody_signed_is_tls_verify_not_down(tmp_path: Path) -> None:
    config, _ = encrypting(tmp_path)
    async with private_nats(tmp_path, extra_config=config) as server:
        found = await look_once("nats", options(server))
    assert told(found) == (State.UNKNOWN, Reason.NATS_TLS_VERIFY)


async def test_a_certificate_for_another_name_is_tls_verify(tmp_path: Path) -> None:
    config, cert = encrypting(tmp_path)
    async with private_nats(tmp_path, extra_config=config) as server:
        url = Secret(f"tls://127.0.0.1:{server.port}")
        found = await look_once("nats", NatsOptions(url=url, ca_file=str(cert)))
    assert told(found) == (State.UNKNOWN, Reason.NATS_TLS_VERIFY)


async def test_a_signed_certificate_lets_the_agent_in_encrypted(tmp_path: Path) -> None:
    config, cert = encrypting(tmp_path)
    async with private_nats(tmp_path, extra_config=config) as server:
        wanted = NatsOptions(url=Secret(f"tls://db.test:{server.port}"), ca_file=str(cert))
        async with Look("nats", wanted, names=Names(**{"db.test": "127.0.0.1"})) as one:
            found = await one.look()
    assert told(found) == (State.UP, Reason.OK)


async def test_a_certificate_that_ends_soon_is_told(tmp_path: Path) -> None:
    config, cert = encrypting(tmp_path)
    async with private_nats(tmp_path, extra_config=config) as server:
        wanted = NatsOptions(
            url=Secret(f"tls://db.test:{server.port}"), monitor_url=server.monitor_url, ca_file=str(cert)
        )
        async with Look("nats", wanted, names=Names(**{"db.test": "127.0.0.1"})) as one:
            found = await one.look()
    assert told(found) == (State.DEGRADED, Reason.TLS_EXPIRING)
    assert "ends in 2 days" in found.message


async def test_no_connection_left_is_down(tmp_path: Path) -> None:
    async with private_nats(tmp_path, extra_config="max_connections: 1") as server:
        link = await connected(server)
        found = await look_once("nats", options(server))
        link.close()
    assert told(found) == (State.DOWN, Reason.NATS_MAX_CONNECTIONS)


async def test_many_connections_are_told(tmp_path: Path) -> None:
    async with private_nats(tmp_path, extra_config="max_connections: 4") as server:
        links = [await connected(server) for _ in range(2)]
        limits = Thresholds(connections=shares(0.5, None))
        found = await look_once("nats", options(server, thresholds=limits))
        for link in links:
            link.close()
    assert told(found) == (State.DEGRADED, Reason.NATS_CONNECTIONS_HIGH)
    assert "of 4 connections" in found.message


async def test_jetstream_that_should_be_there_and_is_not_is_down(tmp_path: Path) -> None:
    async with private_nats(tmp_path, extra_config="jetstream: disabled") as server:
        found = await look_once("nats", options(server))
        without = await look_once("nats", options(server, jetstream=False))
    assert told(found) == (State.DOWN, Reason.JS_DISABLED)
    assert without.state is State.UP


async def test_a_monitoring_port_that_is_away_is_only_degraded(tmp_path: Path) -> None:
    async with private_nats(tmp_path) as server:
        url = Secret(server.url)
        found = await look_once("nats", NatsOptions(url=url, monitor_url="http://127.0.0.1:1"))
    assert told(found) == (State.DEGRADED, Reason.NATS_MONITORING)


@pytest.mark.parametrize("monitored", [True, False], ids=["by monitoring", "by the API"])
async def test_a_full_stream_is_down_for_writes_and_named(tmp_path: Path, *, monitored: bool) -> None:
    async with private_nats(tmp_path) as server:
        link = await connected(server)
        await api(link, "STREAM.CREATE.ORDERS", name="ORDERS", subjects=["o"], max_msgs=3, discard="new")
        for _ in range(3):
            await link.request("o", b"x")
        wanted = options(server) if monitored else NatsOptions(url=Secret(server.url), jetstream=True)
        found = await look_once("nats", wanted)
        link.close()
    assert told(found) == (State.DOWN, Reason.JS_STREAM_FULL)
    assert "ORDERS is full (3 of 3 messages)" in found.message


async def test_a_stream_that_drops_old_messages_is_never_full(tmp_path: Path) -> None:
    async with private_nats(tmp_path) as server:
        link = await connected(server)
        await api(link, "STREAM.CREATE.LOGS", name="LOGS", subjects=["l"], max_msgs=3)
        for _ in range(5):
            await link.request("l", b"x")
        found = await look_once("nats", options(server))
        link.close()
    assert found.state is State.UP


async def test_a_stalled_consumer_is_named(tmp_path: Path) -> None:
    async with private_nats(tmp_path) as server:
        link = await connected(server)
        await api(link, "STREAM.CREATE.JOBS", name="JOBS", subjects=["j"])
        config = {"durable_name": "worker", "ack_policy": "explicit", "max_ack_pending": 2}
        await api(link, "CONSUMER.DURABLE.CREATE.JOBS.worker", stream_name="JOBS", config=config)
        for _ in range(5):
            await link.request("j", b"x")
        for _ in range(2):
            await link.request("$JS.API.CONSUMER.MSG.NEXT.JOBS.worker", b"1")
        limits = Thresholds(consumer_stalled=seconds(None, 0.000001))
        async with Look("nats", options(server, thresholds=limits)) as one:
            found = await one.look(2)
        link.close()
    assert told(found) == (State.DEGRADED, Reason.JS_CONSUMER_STALLED)
    assert "consumer worker of stream JOBS" in found.message
    assert "3 wait" in found.message


async def test_a_message_nobody_can_digest_is_told_with_its_sequence(tmp_path: Path) -> None:
    async with (
        private_nats(tmp_path) as server,
        Look("nats", options(server)) as one,
        one.watched() as suspicions,
    ):
        await held(server)
        link = await connected(server)
        await api(link, "STREAM.CREATE.JOBS", name="JOBS", subjects=["j"])
        config = {
            "durable_name": "worker",
            "ack_policy": "explicit",
            "max_deliver": 1,
            "ack_wait": 50_000_000,
        }
        await api(link, "CONSUMER.DURABLE.CREATE.JOBS.worker", stream_name="JOBS", config=config)
        await link.request("j", b"x")
        await link.request("$JS.API.CONSUMER.MSG.NEXT.JOBS.worker", b"1")
        assert "never acknowledged" in await suspicions.first()
        found = await one.look()
        link.close()
    assert told(found) == (State.DEGRADED, Reason.JS_POISON_MESSAGES)
    assert "message 1" in found.message


async def test_storage_near_its_limit_is_told(tmp_path: Path) -> None:
    async with private_nats(tmp_path) as server:
        link = await connected(server)
        await api(link, "STREAM.CREATE.S", name="S", subjects=["s"])
        await link.request("s", b"x" * 900_000)
        limits = Thresholds(storage=shares(0.0001, None))
        found = await look_once("nats", options(server, thresholds=limits))
        link.close()
    assert told(found) == (State.DEGRADED, Reason.JS_STORAGE_HIGH)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if not is_root() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine may not mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


async def test_a_full_disk_is_seen_where_the_limit_looks_empty(small_disk: Path) -> None:
    async with private_nats(small_disk) as server:
        link = await connected(server)
        await api(link, "STREAM.CREATE.S", name="S", subjects=["s"])
        (small_disk / "filler").write_bytes(b"x" * 7_000_000)
        found = await look_once("nats", options(server))
        link.close()
    assert told(found) == (State.DEGRADED, Reason.JS_STORAGE_HIGH)
    assert "whatever its own limit says" in found.message


async def test_a_cut_slow_consumer_is_named_and_cleared_later(tmp_path: Path) -> None:
    config = 'max_pending: 1048576\nwrite_deadline: "200ms"'
    async with private_nats(tmp_path, extra_config=config) as server:
        limits = Thresholds(slow_consumers_per_minute=counts(0.1, None))
        async with Look("nats", options(server, jetstream=False, thresholds=limits)) as one:
            await one.look()
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
            writer.write(b'CONNECT {"verbose":false,"name":"sluggish"}\r\nSUB flood 1\r\nPING\r\n')
            await reader.readuntil(b"PONG")
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            link = await connected(server)
            async with asyncio.timeout(20):
                found = await one.look()
                while found.state is State.UP:
                    for _ in range(20):
                        link.publish("flood", b"x" * 500_000)
                    await link.ping()
                    found = await one.look()
            after = await one.look()
            link.close()
            writer.transport.abort()
    assert told(found) == (State.DEGRADED, Reason.NATS_SLOW_CONSUMER)
    assert "sluggish" in found.message
    assert after.state is State.UP


async def test_a_restart_is_an_event(tmp_path: Path) -> None:
    async with private_nats(tmp_path) as server, Look("nats", options(server)) as one:
        await one.look()
        server.restart()
        found = await one.look()
        after = await one.look()
    assert told(found) == (State.UP, Reason.NATS_RESTARTED)
    assert after.reason is Reason.OK


async def test_a_request_nobody_answers_is_told_from_one_that_hangs(tmp_path: Path) -> None:
    async with private_nats(tmp_path) as server:
        link = await connected(server)
        link.subscribe("auth.ping", lambda _reply: None)
        await link.ping()
        absent = await look_once("nats", options(server, answers=("asset.ping",)))
        hung = await look_once("nats", options(server, answers=("auth.ping",), answer_within=Duration(0.3)))
        link.close()
    assert told(absent) == told(hung) == (State.DEGRADED, Reason.NATS_NO_RESPONDERS)
    assert "nobody listens on request subject asset.ping" in absent.message
    assert "its service hangs" in hung.message


async def test_a_missing_micro_service_is_told_and_a_present_one_counted(tmp_path: Path) -> None:
    async with private_nats(tmp_path) as server:
        stats = {"name": "auth", "endpoints": [{"name": "login", "num_requests": 7, "num_errors": 2}]}
        # The link hides reply subjects, which are all a stub needs: this one speaks the protocol by hand.
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"CONNECT {}\r\nSUB $SRV.STATS.auth 1\r\nPING\r\n")
        await reader.readuntil(b"PONG\r\n")

        async def answer() -> None:
            while line := await reader.readline():
                if line.startswith(b"MSG"):
                    data = json.dumps(stats).encode()
                    writer.write(b"PUB " + line.split()[3] + f" {len(data)}\r\n".encode() + data + b"\r\n")

        task = asyncio.create_task(answer())
        found = await look_once("nats", options(server, services=("auth",)))
        missing = await look_once("nats", options(server, services=("auth", "chat")))
        task.cancel()
        writer.transport.abort()
    numbers = {(one.name, one.labels): one.value for one in found.measures}
    assert numbers["gaia_nats_micro_errors_total", (("micro_service", "auth"),)] == 2
    assert told(missing) == (State.DEGRADED, Reason.NATS_SERVICE)
    assert "micro service chat" in missing.message


async def test_the_canary_stores_reads_back_and_measures(tmp_path: Path) -> None:
    async with private_nats(tmp_path) as server:
        found = await look_once("nats", options(server, canary=Duration(10)))
    assert found.state is State.UP
    assert "gaia_nats_canary_seconds" in {one.name for one in found.measures}


ACCOUNTS = """accounts: {
  A: {users: [{user: a, password: a}]}
  B: {users: [{user: b, password: b}]}
}"""
ONE_ACCOUNT = "authorization: {users: [{user: a, password: a}, {user: b, password: b}]}"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (ACCOUNTS, (State.UP, Reason.OK)),
        (ONE_ACCOUNT, (State.DEGRADED, Reason.NATS_ISOLATION)),
    ],
    ids=["own accounts", "one account"],
)
async def test_developers_that_hear_each_other_are_told(
    tmp_path: Path, config: str, expected: tuple[State, Reason]
) -> None:
    async with private_nats(tmp_path, extra_config=config) as server:
        urls = tuple(Secret(f"nats://{name}:{name}@127.0.0.1:{server.port}") for name in "ab")
        found = await look_once("nats", NatsOptions(url=urls[0], isolated=urls))
    assert told(found) == expected


async def held(server: LocalNats) -> None:
    """Wait until the sentinel's connection is there."""
    async with asyncio.timeout(5):
        while b'"name": "gaia-agent"' not in await connections(server):
            pass


async def connections(server: LocalNats) -> bytes:
    return (await SmallGet(server.monitor_url, Names()).get("/connz")).body
