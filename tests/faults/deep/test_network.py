"""Which part is at fault: one machine, the app, the proxy or the edge."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from pathlib import Path

import pytest

from checks.apps import Asker
from checks.finding import Finding, State
from checks.limits import seconds
from checks.machines.api import machines
from checks.network.options import NetworkOptions, Route, Way
from checks.network.thresholds import Thresholds
from checks.reason import Reason
from checks.small_get import SmallGet
from checks.units import Duration
from tests.faults.deep.conftest import certificate
from tests.faults.deep.fly import APP, Fly, machine, platform
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


# A loaded machine is slow, which is not what most of these tests are about.
HOWEVER_SLOW = Thresholds(dns=None, connect=None)


async def look(*ways: Way, names: Names | None = None, env: str = "production", **more: object) -> Finding:
    options = NetworkOptions(ways=ways, timeout=Duration(0.3), thresholds=HOWEVER_SLOW, **more)  # type: ignore[arg-type]
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
        def known(self, host: str) -> tuple[str, ...] | None:
            del host
            return None

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
        options = NetworkOptions(
            ways=(way("m1", "private", port),), timeout=Duration(1), thresholds=HOWEVER_SLOW
        )
        async with Look("network", options) as one:
            found = await one.look(20)
            after = await one.look(20)
    assert (found.state, found.reason) == (State.DEGRADED, Reason.NET_LOSS)
    assert "2 of the last 20 tries of m1 of network were lost (limit 5%)" in found.message
    assert measured(found, "gaia_network_loss_ratio") == 0.1
    assert after.state is State.UP


def measured(found: Finding, name: str) -> float | None:
    return next((one.value for one in found.measures if one.name == name), None)


async def test_a_slow_connect_nearby_is_told_with_its_limit() -> None:
    async with misbehaving(answers) as port:
        limits = Thresholds(connect=seconds(0.000001, None), dns=None)
        options = NetworkOptions(ways=(way("m1", "private", port),), thresholds=limits)
        async with Look("network", options) as one:
            found = await one.look()
    assert (found.state, found.reason) == (State.DEGRADED, Reason.SLOW)
    assert "connect to m1 of network took" in found.message


async def test_a_certificate_that_ends_soon_is_told_by_its_way(tmp_path: Path) -> None:
    key, cert = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    server = await asyncio.start_server(answers, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    edge = Way(name="edge", route="public", url=f"https://db.test:{port}/")
    trusted = os.environ.get("SSL_CERT_FILE")
    os.environ["SSL_CERT_FILE"] = str(cert)
    try:
        found = await look(edge, names=Names(**{"db.test": "127.0.0.1"}))
    finally:
        del os.environ["SSL_CERT_FILE"]
        if trusted is not None:
            os.environ["SSL_CERT_FILE"] = trusted
        server.close()
    assert (found.state, found.reason) == (State.DEGRADED, Reason.TLS_EXPIRING), found.message
    assert "the certificate on edge of network ends in 2 days (limit 1w)" in found.message
    assert (measured(found, "gaia_network_certificate_expiry_timestamp_seconds") or 0) > 1.7e9


async def test_each_started_machine_is_a_way_of_its_own() -> None:
    first, second = machine("a1", "started"), machine("a2", "started")
    async with platform(first, second, machine("a3", "stopped")) as fly, misbehaving(answers) as port:
        known = {f"a1.vm.{APP}.internal": "127.0.0.1", f"a2.vm.{APP}.internal": "127.0.0.1"}
        async with Look("network", private(fly, port), names=Names(**known)) as one:
            await listed(one, fly)
            well = await one.look()
            one.names._known[f"a2.vm.{APP}.internal"] = "a2.invalid"
            bad = await one.look()
            fly.machines[1] = machine("a2", "stopped")
            stopped = await one.look()
    assert (well.state, "all 2 ways" in well.message) == (State.UP, True), well.message
    assert (bad.state, bad.reason) == (State.DEGRADED, Reason.NET_DNS_NXDOMAIN)
    assert "one machine of network is bad and 1 are well: a2" in bad.message
    # It stopped after it was listed: the name server knows, and its silence is no fault.
    assert stopped.state is State.UP, stopped.message


async def test_an_app_without_a_started_machine_has_no_way_and_is_asleep() -> None:
    async with platform(machine("a3", "stopped")) as fly, Look("network", private(fly, 1)) as one:
        unknown = await one.look()
        await listed(one, fly)
        asleep = await one.look()
    assert (unknown.state, unknown.reason) == (State.UNKNOWN, Reason.CONFIG)
    assert (asleep.state, asleep.reason) == (State.ASLEEP, Reason.ASLEEP)


@pytest.mark.parametrize("route", ["proxy", "public"])
async def test_a_way_that_may_wake_is_told_to_who_asks_who_woke_it(route: Route) -> None:
    async with misbehaving(answers) as port:
        options = NetworkOptions(ways=(way("w", route, port),))
        async with Look("network", options) as one:
            await one.look()
            (ask,) = one.kit.apps.asks(("production", "network"))
    assert (ask.by, ask.what) == (Asker.AGENT, "network")


def private(fly: Fly, port: int) -> NetworkOptions:
    return NetworkOptions(
        app=APP,
        port=port,
        nameserver="127.0.0.1",
        nameserver_port=fly.dns_port,
        thresholds=HOWEVER_SLOW,
    )


async def listed(one: Look, fly: Fly) -> None:
    """What the machines check beside it would have noted."""
    get = SmallGet(
        f"http://127.0.0.1:{fly.api_port}", Names(), headers=(("Authorization", "Bearer fo1_secret"),)
    )
    one.kit.apps.saw(APP, await machines(get, APP), at_s=one.kit.clock.monotonic_s())
