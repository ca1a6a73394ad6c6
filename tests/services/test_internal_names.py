"""Instances found by name, as `<app>.internal` lists a Fly app's started machines."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from collections import Counter
from pathlib import Path
from typing import cast

import aiohttp
from aiohttp import web

from services.gateway.service import GatewayService
from tests.services.running import PLATFORM_KEY, answers, environment, free_port
from tests.services.test_gateway import gateway_before
from tests.waiting import until

KEY = {"X-API-Key": PLATFORM_KEY}
NAME = "gaia-asset-prod.internal"


class NameServer(asyncio.DatagramProtocol):
    """Answers AAAA questions for one name with the IPv6 forms of IPv4 loopback addresses."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.silent = False
        self.asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's own datagram transport does not inherit from the class it is documented as.
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked += 1
        if self.silent:
            return
        question = data[12 : data.index(b"\0", 12) + 5]
        wanted = b"".join(bytes([len(part)]) + part for part in NAME.encode().split(b".")) + b"\0\0\x1c\0\x01"
        found = self.addresses if question == wanted else ()
        head = data[:2] + struct.pack("!5H", 0x8180 | (0 if found else 3), 1, len(found), 0, 0)
        records = [
            b"\xc0\x0c"
            + struct.pack("!HHIH", 28, 1, 5, 16)
            + socket.inet_pton(socket.AF_INET6, f"::ffff:{address}")
            for address in found
        ]
        self.transport.sendto(head + question + b"".join(records), addr)


class Machines:
    """Instances of one app: the same port, each at an address of its own."""

    def __init__(self) -> None:
        self.port = free_port()
        self.calls: Counter[str] = Counter()
        self.broken: set[str] = set()
        self._runners: list[web.AppRunner] = []

    async def start(self, address: str) -> None:
        async def handle(request: web.Request) -> web.Response:
            if request.path in {"/readyz", "/health"}:
                return web.json_response({"status": "pass"})
            self.calls[address] += 1
            return web.Response(status=500 if address in self.broken else 200)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, address, self.port).start()
        self._runners.append(runner)

    async def stop(self) -> None:
        for runner in self._runners:
            await runner.cleanup()


def hosts(service: GatewayService) -> set[str]:
    """The IPv4 addresses behind the pool's IPv6 forms."""
    found = {ipaddress.IPv6Address(i.upstream.url.host or "") for i in service.pools["asset"].instances}
    return {str(address.ipv4_mapped) for address in found}


async def test_named_instances_share_traffic_an_outlier_is_put_aside_and_those_gone_are_forgotten(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    machines = Machines()
    for address in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
        await machines.start(address)
    transport, names = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: NameServer("127.0.0.1", "127.0.0.2"), local_addr=("127.0.0.1", 0)
    )
    environ = environment(
        ASSET_URL=f"http://{NAME}:{machines.port}",
        DNS_SERVERS=f"127.0.0.1:{transport.get_extra_info('sockname')[1]}",
    )

    async with gateway_before(environ, tmp_path) as (gateway, service):

        async def ask(times: int) -> Counter[int]:
            found: Counter[int] = Counter()
            for _ in range(times):
                async with http.get(f"{gateway.url}/api/v1/assets", headers=KEY) as response:
                    found[response.status] += 1
            return found

        await answers(http, f"{gateway.url}/readyz")
        await until(lambda: hosts(service) == {"127.0.0.1", "127.0.0.2"})
        await until(lambda: all(instance.ready for instance in service.pools["asset"].instances))
        assert await ask(20) == {200: 20}
        assert machines.calls == {"127.0.0.1": 10, "127.0.0.2": 10}
        # Five failures in a row put it aside, before its breaker has seen enough to open.
        machines.broken.add("127.0.0.2")
        assert await ask(20) == {200: 15, 500: 5}
        assert gateway.sample("gateway_ejections_total", {"service": "asset"}) == 1
        machines.calls.clear()
        assert await ask(10) == {200: 10}
        assert machines.calls == {"127.0.0.1": 10}
        # It is replaced: the name lists another machine.
        names.addresses = ("127.0.0.1", "127.0.0.3")
        await until(lambda: hosts(service) == {"127.0.0.1", "127.0.0.3"}, within_s=12)
        gone = {"upstream": "asset", "server_address": f"[::ffff:7f00:2]:{machines.port}"}
        assert gateway.kit.metrics.registry.get_sample_value("circuit_breaker_state", gone) is None
        await until(lambda: all(instance.ready for instance in service.pools["asset"].instances))
        machines.calls.clear()
        assert await ask(10) == {200: 10}
        assert machines.calls == {"127.0.0.1": 5, "127.0.0.3": 5}
        # A name server that is silent takes nothing away.
        names.silent = True
        asked = names.asked
        await until(lambda: names.asked >= asked + 2, within_s=15)
        assert await ask(10) == {200: 10}
    transport.close()
    await machines.stop()
