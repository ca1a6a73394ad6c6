"""What is said of what hangs on a real NATS server: leaf nodes, gateways, accounts, copies, own limits."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from agent.local.ports import free_ports
from checks.finding import Finding, State
from checks.limits import counts, seconds, shares
from checks.nats.link import Link, LinkRefusedError
from checks.nats.options import NatsOptions
from checks.nats.thresholds import Thresholds
from checks.reason import Reason
from checks.secret import Secret
from checks.units import Duration, Size
from tests.faults.deep.looking import Look, look_once, misbehaving
from tests.faults.deep.test_nats_broken import api, connected, options, told
from tests.servers import private_nats


def value(found: Finding, name: str, **labels: str) -> float | None:
    for one in found.measures:
        if one.name == name and labels.items() <= dict(one.labels).items():
            return one.value
    return None


async def test_a_leaf_node_that_leaves_is_named_and_told_again_when_it_is_back(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    hub_config = f'leafnodes: {{listen: "127.0.0.1:{port}"}}'
    leaf_config = f'leafnodes: {{remotes: [{{url: "nats://127.0.0.1:{port}"}}], reconnect: 1}}'
    async with (
        private_nats(tmp_path, name="hub", extra_config=hub_config) as hub,
        private_nats(tmp_path, name="fra", extra_config=leaf_config) as leaf,
        Look("nats", options(hub, leaf_nodes=("fra",))) as one,
    ):
        well = await one.until(Reason.OK)
        leaf.kill()
        gone = await one.until(Reason.NATS_LEAF_MISSING)
        leaf.start()
        back = await one.until(Reason.OK)
    assert value(well, "gaia_nats_leaf_nodes") == value(back, "gaia_nats_leaf_nodes") == 1
    assert gone.state is State.DEGRADED
    assert "1 of 1 leaf nodes are not connected (fra)" in gone.message
    assert value(gone, "gaia_nats_leaf_nodes") == 0


async def test_a_gateway_that_closes_is_named_with_its_cluster(tmp_path: Path) -> None:
    ports = dict(zip(("east", "west"), free_ports(2), strict=True))
    known = json.dumps([{"name": name, "url": f"nats://127.0.0.1:{port}"} for name, port in ports.items()])
    configs = {
        name: f'jetstream: disabled\ngateway: {{name: {name}, listen: "127.0.0.1:{port}", gateways: {known}}}'
        for name, port in ports.items()
    }
    async with (
        private_nats(tmp_path, name="e1", extra_config=configs["east"]) as east,
        private_nats(tmp_path, name="w1", extra_config=configs["west"]) as west,
        Look("nats", options(east, jetstream=False, gateways=("west",))) as one,
    ):
        well = await one.until(Reason.OK)
        west.kill()
        gone = await one.until(Reason.NATS_GATEWAY_MISSING)
    assert value(well, "gaia_nats_gateways") == 1
    assert gone.state is State.DEGRADED
    assert "no gateway to cluster west" in gone.message


LIMITED = """accounts: {
  ada: {users: [{user: ada, password: ada}], jetstream: {max_mem: 1MB, max_store: 2MB}}
  bob: {users: [{user: bob, password: bob}], jetstream: enabled}
}"""


async def test_an_account_that_fills_its_storage_is_named_before_it_is_full(tmp_path: Path) -> None:
    async with private_nats(tmp_path, extra_config=LIMITED) as server:
        ada = await connected(server, user="ada", password=Secret("ada"))
        await api(ada, "STREAM.CREATE.WORK", name="WORK", subjects=["work"])
        for _ in range(2):
            await ada.request("work", b"x" * 900_000)
        wanted = NatsOptions(
            url=Secret(f"nats://bob:bob@127.0.0.1:{server.port}"),
            monitor_url=server.monitor_url,
            jetstream=True,
        )
        found = await look_once("nats", wanted, env="development")
        ada.close()
    assert told(found) == (State.DEGRADED, Reason.JS_ACCOUNT_LIMIT)
    assert "account ada uses 1.717 of its 2 MB of JetStream storage (86%, limit 75%)" in found.message
    assert (value(found, "gaia_nats_account_storage_bytes", account="ada") or 0) > 1_800_000
    assert value(found, "gaia_nats_account_storage_bytes", account="bob") == 0


async def test_a_developer_with_too_many_connections_is_named(tmp_path: Path) -> None:
    async with private_nats(tmp_path, extra_config=LIMITED) as server:
        links = [await connected(server, user="ada", password=Secret("ada")) for _ in range(5)]
        wanted = NatsOptions(
            url=Secret(f"nats://bob:bob@127.0.0.1:{server.port}"),
            monitor_url=server.monitor_url,
            account_connections=5,
        )
        found = await look_once("nats", wanted, env="development")
        for link in links:
            link.close()
    assert told(found) == (State.DEGRADED, Reason.NATS_ACCOUNT_LIMIT)
    assert "account ada uses 5 of its 5 connections" in found.message
    assert value(found, "gaia_nats_account_connections", account="ada") == 5


async def test_memory_near_the_machines_is_told(tmp_path: Path) -> None:
    async with private_nats(tmp_path) as server:
        found = await look_once("nats", options(server, memory=Size(16 * 2**20)))
    assert told(found) == (State.DEGRADED, Reason.NATS_MEMORY)
    assert "of 16 MB memory" in found.message
    assert value(found, "gaia_nats_memory_limit_bytes") == 16 * 2**20


async def test_a_busy_cpu_is_told_with_how_busy(tmp_path: Path) -> None:
    async with private_nats(tmp_path) as server:
        limits = Thresholds(cpu=shares(0.0, None))
        async with Look("nats", options(server, thresholds=limits)) as one:
            found = await one.look(2)
    assert told(found) == (State.DEGRADED, Reason.NATS_CPU)
    assert "CPUs" in found.message


async def test_clients_with_wrong_passwords_are_told(tmp_path: Path) -> None:
    async with private_nats(tmp_path, users={"gaia": "right"}) as server:
        limits = Thresholds(rejected_per_minute=counts(1, None))
        async with Look("nats", options(server, thresholds=limits)) as one:
            await one.look()
            for _ in range(5):
                with pytest.raises(LinkRefusedError):
                    await connected(server, user="eve", password=Secret("guess"))
            found = await one.until(Reason.NATS_CLIENTS_REJECTED, within_s=10)
            after = await one.look()
    assert found.state is State.DEGRADED
    assert "turned 5 clients away" in found.message
    assert after.state is State.UP


@pytest.mark.parametrize("was_there", [True, False], ids=["gone", "never there"])
async def test_a_mirror_without_an_origin_is_told(tmp_path: Path, *, was_there: bool) -> None:
    async with private_nats(tmp_path) as server:
        link = await connected(server)
        await api(link, "STREAM.CREATE.ORIGIN", name="ORIGIN", subjects=["o"])
        await api(link, "STREAM.CREATE.COPY", name="COPY", mirror={"name": "ORIGIN"})
        # A healthy source is heard every second, however idle it is.
        limits = Thresholds(source_seen=seconds(2, None))
        async with Look("nats", options(server, thresholds=limits)) as one:
            if was_there:
                await one.until(Reason.OK)
                async with asyncio.timeout(10):
                    while not await heard(link):
                        pass
            await api(link, "STREAM.DELETE.ORIGIN")
            found = await one.until(Reason.JS_PEER_LAG)
        link.close()
    assert found.state is State.DEGRADED
    assert f"stream COPY has {'not' if was_there else 'never'} heard ORIGIN" in found.message
    assert value(found, "gaia_nats_source_lag", stream="COPY", source="ORIGIN") is not None


async def heard(link: Link) -> bool:
    mirror = (await api(link, "STREAM.INFO.COPY")).get("mirror")
    return isinstance(mirror, dict) and mirror["active"] >= 0


STREAMS_OWN = {
    "too few messages": ({"msgs-critical": "5"}, Reason.JS_STREAM_EMPTY, "holds only 2 messages"),
    "too many subjects": (
        {"subjects-warn": "1", "subjects-critical": "2"},
        Reason.JS_STORAGE_HIGH,
        "has 2 subjects",
    ),
    "too few peers": ({"peer-expect": "3"}, Reason.JS_REDUNDANCY_LOST, "peer-expect is 3"),
    "no threshold at all": ({"msgs-critical": "several"}, Reason.CONFIG, "which is not a number"),
}


@pytest.mark.parametrize("case", STREAMS_OWN)
async def test_a_streams_own_limits_are_honoured(tmp_path: Path, case: str) -> None:
    own, reason, words = STREAMS_OWN[case]
    metadata = {f"io.nats.monitor.{key}": limit for key, limit in own.items()}
    async with private_nats(tmp_path) as server:
        link = await connected(server)
        await api(link, "STREAM.CREATE.S", name="S", subjects=["s.*"], metadata=metadata)
        for subject in ("s.1", "s.2"):
            await link.request(subject, b"x")
        found = await look_once("nats", options(server))
        link.close()
    assert found.reason is reason
    assert f"stream S {words}" in found.message or words in found.message


CONSUMERS_OWN = {
    "unacknowledged": ("outstanding-ack-critical", "1", Reason.JS_CONSUMER_STALLED, "1 unacknowledged"),
    "waiting": ("unprocessed-critical", "2", Reason.JS_CONSUMER_LAG, "has 2 messages waiting"),
    "never acknowledged": ("last-ack-critical", "1h", Reason.JS_CONSUMER_STALLED, "never acknowledged"),
    "not given any for long": ("last-delivery-critical", "1ms", Reason.JS_CONSUMER_STALLED, "last given"),
}


@pytest.mark.parametrize("case", CONSUMERS_OWN)
async def test_a_consumers_own_limits_are_honoured(tmp_path: Path, case: str) -> None:
    key, limit, reason, words = CONSUMERS_OWN[case]
    config = {
        "durable_name": "worker",
        "ack_policy": "explicit",
        "metadata": {f"io.nats.monitor.{key}": limit},
    }
    async with private_nats(tmp_path) as server:
        link = await connected(server)
        await api(link, "STREAM.CREATE.JOBS", name="JOBS", subjects=["j"])
        await api(link, "CONSUMER.DURABLE.CREATE.JOBS.worker", stream_name="JOBS", config=config)
        for _ in range(3):
            await link.request("j", b"x")
        await link.request("$JS.API.CONSUMER.MSG.NEXT.JOBS.worker", b"1")
        async with Look("nats", options(server)) as one:
            found = await one.until(reason)
        link.close()
    assert found.state is State.DEGRADED
    assert "consumer worker of stream JOBS" in found.message
    assert words in found.message


BY_PREFIX = """authorization: {users: [
  {user: a, password: a, permissions: {publish: ["a.>"], subscribe: ["a.>", "_INBOX.>"]}}
  {user: b, password: b, permissions: {publish: [%s], subscribe: ["b.>", "_INBOX.>"]}}
]}"""


@pytest.mark.parametrize(
    ("may_publish", "expected"),
    [('"b.>"', (State.UP, Reason.OK)), ('">"', (State.DEGRADED, Reason.NATS_ISOLATION))],
    ids=["only its own subjects", "everything"],
)
async def test_developers_kept_apart_by_subject_are_tried_both_ways(
    tmp_path: Path, may_publish: str, expected: tuple[State, Reason]
) -> None:
    async with private_nats(tmp_path, extra_config=BY_PREFIX % may_publish) as server:
        urls = tuple(Secret(f"nats://{name}:{name}@127.0.0.1:{server.port}") for name in "ab")
        found = await look_once("nats", NatsOptions(url=urls[0], isolated=urls))
    assert told(found) == expected
    if expected[0] is State.DEGRADED:
        assert "namespace 2 may publish outside its own subjects, so into namespace 1" in found.message


MAY_NOT = """authorization: {users: [{user: a, password: a, permissions: {publish: {deny: [%s]}}}]}"""


@pytest.mark.parametrize(
    "denied", ['"$JS.API.STREAM.MSG.GET.>"', '"gaia.canary"'], ids=["reading back", "publishing"]
)
async def test_a_canary_that_is_not_permitted_is_told_and_is_no_fault(tmp_path: Path, denied: str) -> None:
    async with private_nats(tmp_path, extra_config=MAY_NOT % denied) as server:
        wanted = NatsOptions(
            url=Secret(f"nats://a:a@127.0.0.1:{server.port}"),
            jetstream=True,
            canary=Duration(10),
            answer_within=Duration(0.5),
        )
        found = await look_once("nats", wanted)
    assert told(found) == (State.UP, Reason.OK), found.message
    assert any(one.name == "not_permitted" and denied[1:9] in one.value for one in found.evidence)
    assert value(found, "gaia_nats_canary_seconds") is None


async def test_a_canary_on_a_server_that_keeps_nothing_is_told() -> None:
    """A stand-in that acknowledges and forgets: no server of ours would."""

    async def forgets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"S","jetstream":true,"headers":true,"max_payload":1048576}\r\n')
        while line := await reader.readline():
            words = line.split()
            if words[0] == b"PING":
                writer.write(b"PONG\r\n")
            elif words[0] == b"PUB":
                await reader.readexactly(int(words[-1]) + 2)
                data = b'{"stream":"GAIA_CANARY","seq":7}' if words[1] == b"gaia.canary" else b"{}"
                writer.write(b"MSG %s %s %d\r\n%s\r\n" % (words[2], sids[words[2]], len(data), data))
            elif words[0] == b"SUB":
                sids[words[1]] = words[2]

    sids: dict[bytes, bytes] = {}
    async with misbehaving(forgets) as port:
        wanted = NatsOptions(url=Secret(f"nats://127.0.0.1:{port}"), jetstream=True, canary=Duration(10))
        found = await look_once("nats", wanted)
    assert told(found) == (State.DOWN, Reason.JS_NO_STORAGE)
    assert "stored as number 7 and cannot be read back" in found.message
