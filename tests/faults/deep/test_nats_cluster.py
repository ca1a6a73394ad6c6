"""What is said of a cluster of three that loses one server, two, or its streams' leaders."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from agent.local.nats import LocalNats
from checks.finding import State
from checks.nats.link import Link
from checks.nats.options import NatsOptions
from checks.nats.place import Place
from checks.reason import Reason
from checks.secret import Secret
from checks.units import Duration
from tests.faults.deep.looking import Look
from tests.servers import nats_cluster


def options(servers: list[LocalNats]) -> NatsOptions:
    return NatsOptions(
        url=Secret(",".join(server.url for server in servers)),
        monitor_url=",".join(server.monitor_url for server in servers),
        jetstream=True,
        answer_within=Duration(2),
    )


async def create(server: LocalNats, name: str, replicas: int) -> None:
    link = await Link.connect("127.0.0.1", server.port)
    await link.enter(Place(host="127.0.0.1", port=server.port))
    config = {"name": name, "subjects": [name.lower()], "num_replicas": replicas}
    async with asyncio.timeout(10):
        while (
            b'"error"'
            in (await link.request(f"$JS.API.STREAM.CREATE.{name}", json.dumps(config).encode())).data
        ):
            pass
    link.close()


async def test_a_cluster_loses_one_then_two_then_recovers(tmp_path: Path) -> None:
    async with nats_cluster(tmp_path) as servers, Look("nats", options(servers)) as one:
        well = await one.until(Reason.OK)
        await create(servers[0], "ORDERS", 3)
        still_well = await one.until(Reason.OK)
        servers[2].kill()
        redundancy = await one.until(Reason.JS_REDUNDANCY_LOST)
        servers[1].kill()
        quorum = await one.until(Reason.JS_NO_QUORUM)
        servers[1].spawn()
        servers[2].spawn()
        again = await one.until(Reason.OK, within_s=30)
    assert (well.state, still_well.state, again.state) == (State.UP, State.UP, State.UP)
    assert "all 3 servers answer" in well.message
    assert redundancy.state is State.DEGRADED
    assert "one more failure stops every write" in redundancy.message
    assert f"127.0.0.1:{servers[2].port}" in redundancy.message
    assert (quorum.state, quorum.hard) == (State.DOWN, True)
    assert "2 of 3 servers lost" in quorum.message
    assert "core messages still pass" in quorum.message


async def test_two_frozen_servers_of_three_are_no_quorum(tmp_path: Path) -> None:
    async with nats_cluster(tmp_path) as servers, Look("nats", options(servers)) as one:
        await one.until(Reason.OK)
        for server in servers[1:]:
            server.freeze()
        found = await one.until(Reason.JS_NO_QUORUM)
        for server in servers[1:]:
            server.thaw()
    assert found.state is State.DOWN


async def test_all_servers_gone_is_named_by_the_first_and_lists_the_others(tmp_path: Path) -> None:
    async with nats_cluster(tmp_path) as servers, Look("nats", options(servers)) as one:
        for server in servers:
            server.kill()
        found = await one.look()
    assert (found.state, found.reason) == (State.DOWN, Reason.NATS_REFUSED)
    assert len(found.evidence) == 2


@pytest.mark.parametrize("count", [1, 2])
async def test_a_cluster_smaller_than_expected_is_told_by_one_url(tmp_path: Path, count: int) -> None:
    async with nats_cluster(tmp_path) as servers:
        only = NatsOptions(
            url=Secret(servers[0].url), monitor_url=servers[0].monitor_url, jetstream=True, cluster_size=3
        )
        async with Look("nats", only) as one:
            await one.until(Reason.OK)
            for server in servers[1 : 1 + count]:
                server.kill()
            reason = Reason.JS_REDUNDANCY_LOST if count == 1 else Reason.JS_NO_QUORUM
            found = await one.until(reason)
    assert f"{count} of 3 servers lost" in found.message
