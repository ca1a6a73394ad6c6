"""Which part is at fault: one machine, the app, the proxy or the edge."""

from __future__ import annotations

import asyncio
import socket

import pytest

from checks.finding import Finding, State
from checks.network.check import NetworkOptions, Route, Way
from checks.reason import Reason
from checks.units import Duration
from tests.faults.deep.looking import Handler, Look, Names, closes, misbehaving, silent


async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.0 200 OK\r\n\r\nok")
    await writer.drain()


def refused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def way(name: str, route: Route, port: int, host: str = "127.0.0.1") -> Way:
    return Way(name=name, route=route, url=f"http://{host}:{port}/")


async def look(*ways: Way, names: Names | None = None, env: str = "production", **more: object) -> Finding:
    options = NetworkOptions(ways=ways, timeout=Duration(0.3), **more)  # type: ignore[arg-type]
    async with Look("network", options, env=env, names=names or Names()) as one:
        return await one.look()


async def test_all_ways_well_is_up_with_each_step_timed() -> None:
    async with misbehaving(answers) as port:
        found = await look(
            way("m1", "private", port), way("flycast", "proxy", port), way("edge", "public", port)
        )
    assert (found.state, found.reason) == (State.UP, Reason.OK)
    steps = {(one.name, dict(one.labels)["way"]) for one in found.measures}
    assert steps >= {
        (f"gaia_network_{step}_seconds", name)
        for step in ("dns", "connect", "ttfb")
        for name in ("m1", "flycast", "edge")
    }


async def test_one_bad_machine_is_named_and_the_others_counted() -> None:
    async with misbehaving(answers) as port:
        found = await look(
            way("m1", "private", port), way("m2", "private", refused_port()), way("e", "public", port)
        )
    assert (found.state, found.reason) == (State.DEGRADED, Reason.CONNECTION_REFUSED)
    assert "one machine of network is bad and 1 are well: m2" in found.message


async def test_no_machine_answering_is_the_app() -> None:
    found = await look(way("m1", "private", refused_port()), way("m2", "private", refused_port()))
    assert (found.state, found.reason) == (State.DOWN, Reason.CONNECTION_REFUSED)
    assert "on any of its 2 machines" in found.message


async def test_machines_well_and_the_proxy_not_is_the_proxy() -> None:
    async with misbehaving(answers) as port, misbehaving(closes) as bad:
        found = await look(way("m1", "private", port), way("flycast", "proxy", bad), way("e", "public", bad))
    assert (found.state, found.reason) == (State.DOWN, Reason.CONNECTION_RESET)
    assert "its machines answer and the proxy does not" in found.message


async def test_everything_inside_well_is_the_edge() -> None:
    async with misbehaving(answers) as port, misbehaving(silent) as bad:
        found = await look(way("m1", "private", port), way("flycast", "proxy", port), way("e", "public", bad))
    assert (found.state, found.reason) == (State.DOWN, Reason.TIMEOUT)
    assert "the public edge does not" in found.message


async def test_a_name_that_does_not_exist_is_told() -> None:
    found = await look(way("m1", "private", 80, "m1.invalid"))
    assert (found.state, found.reason) == (State.DOWN, Reason.NET_DNS_NXDOMAIN)


async def test_a_resolver_that_does_not_answer_is_told() -> None:
    class Mute(Names):
        async def addresses(self, host: str) -> tuple[str, ...]:
            await asyncio.Event().wait()
            return (host,)

    found = await look(way("m1", "private", 80, "m1.test"), names=Mute())
    assert (found.state, found.reason) == (State.DOWN, Reason.NET_DNS_TIMEOUT)


async def test_an_app_bound_to_ipv4_only_is_told_on_its_own_machine() -> None:
    async with misbehaving(answers) as port:
        own = Way(name="m1", route="private", url=f"http://m1.test:{port}/", local=True)
        found = await look(own, names=Names(**{"m1.test": "::1"}))
    if found.reason is Reason.UNREACHABLE:
        pytest.skip("this machine has no IPv6 loopback")
    assert (found.state, found.reason) == (State.DOWN, Reason.NET_BIND_IPV4_ONLY)
    assert "must listen on ::" in found.message


@pytest.mark.parametrize("route", ["proxy", "public"])
async def test_ways_that_wake_are_not_gone_where_the_app_may_sleep(route: Route) -> None:
    woken = asyncio.Event()

    async def wakes(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        woken.set()
        await reader.read(1)

    handler: Handler = wakes
    async with misbehaving(answers) as port, misbehaving(handler) as waking:
        found = await look(way("m1", "private", port), way("w", route, waking), may_sleep=True)
    assert (found.state, woken.is_set()) == (State.UP, False)


async def test_losses_among_the_last_twenty_are_told() -> None:
    turns = iter([True] * 2 + [False] * 40)

    async def flaky(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if next(turns):
            writer.transport.abort()
        else:
            await answers(reader, writer)

    async with misbehaving(flaky) as port:
        options = NetworkOptions(ways=(way("m1", "private", port),), timeout=Duration(1))
        async with Look("network", options, env="staging") as one:
            found = await one.look(20)
            after = await one.look(20)
    assert (found.state, found.reason) == (State.DEGRADED, Reason.NET_LOSS)
    assert "2 of the last 20" in found.message
    assert after.state is State.UP
