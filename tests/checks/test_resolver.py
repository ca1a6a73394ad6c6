"""The resolver: literals and hosts at once, DNS bounded, cached and shared, no thread of the loop's."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import pytest

from checks.dns.packet import parse_message
from checks.resolver import CachingResolver
from tests.waiting import until


class NameServer(asyncio.DatagramProtocol):
    """Answers A questions for `*.good.test`, is silent about `*.hung.test`, denies the rest."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's own datagram transport does not inherit from the class it is documented as.
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        message = parse_message(data)
        assert message.question is not None
        name, kind = message.question
        self.asked.append(f"{name} {kind}")
        if name.endswith("hung.test"):
            return
        good = name.endswith("good.test")
        answers = int(good and kind == "A")
        head = data[:2] + struct.pack("!5H", 0x8180 | (0 if good else 3), 1, answers, 0, 0)
        question = data[12 : data.index(b"\0", 12) + 5]
        record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 30, 4) + b"\x7f\0\0\x09"
        assert self.transport is not None
        self.transport.sendto(head + question + record * answers, addr)


@pytest.fixture
async def server() -> AsyncIterator[tuple[NameServer, str]]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))
    yield protocol, f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    transport.close()


@contextlib.asynccontextmanager
async def resolving(
    address: str = "127.0.0.1:1", *, deadline_s: float = 1.0, now: Callable[[], float] | None = None
) -> AsyncIterator[CachingResolver]:
    clock = now or asyncio.get_running_loop().time
    resolver = CachingResolver(nameservers=(address,), deadline_s=deadline_s, monotonic_s=clock)
    try:
        yield resolver
    finally:
        await resolver.close()


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("127.0.0.1", ("127.0.0.1",)), ("::1", ("::1",)), ("fe80::1%lo", ("fe80::1%lo",))],
)
async def test_a_literal_needs_no_look_up(name: str, wanted: tuple[str, ...]) -> None:
    async with resolving() as resolver:
        assert await resolver.addresses(name) == wanted


async def test_the_hosts_file_and_localhost_need_no_look_up(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.7 box Box.Test # comment\n::7 box\nnonsense line\n")
    resolver = CachingResolver(nameservers=("127.0.0.1:1",), hosts=hosts)
    assert await resolver.addresses("box.test.") == ("127.0.0.7",)
    assert await resolver.addresses("BOX") == ("127.0.0.7", "::7")
    assert await resolver.addresses("localhost") == ("127.0.0.1", "::1")
    assert await resolver.addresses("a.localhost") == ("127.0.0.1", "::1")


async def test_an_answer_is_kept_for_its_ttl(server: tuple[NameServer, str]) -> None:
    names, address = server
    now_s = 0.0
    async with resolving(address, now=lambda: now_s) as resolver:
        for _ in range(3):
            assert await resolver.addresses("a.good.test") == ("127.0.0.9",)
        assert len([one for one in names.asked if one.endswith(" A")]) == 1
        now_s = 31.0
        assert await resolver.addresses("a.good.test") == ("127.0.0.9",)


async def test_those_who_ask_together_ask_once_and_one_may_give_up(server: tuple[NameServer, str]) -> None:
    names, address = server
    async with resolving(address) as resolver:
        asking = [asyncio.create_task(resolver.addresses("b.good.test")) for _ in range(5)]
        await asyncio.sleep(0)  # all of them ask now, and nobody has answered yet
        asking[0].cancel()
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == [("127.0.0.9",)] * 4
        assert len([one for one in names.asked if one.endswith(" A")]) == 1


async def test_an_absent_name_says_so(server: tuple[NameServer, str]) -> None:
    async with resolving(server[1]) as resolver:
        with pytest.raises(socket.gaierror, match="does not exist") as failed:
            await resolver.addresses("c.absent.test")
        assert failed.value.errno == socket.EAI_NONAME


async def test_hung_look_ups_end_at_their_deadline_and_delay_nobody(server: tuple[NameServer, str]) -> None:
    loop = asyncio.get_running_loop()
    async with resolving(server[1], deadline_s=0.4) as resolver:
        hung = [asyncio.create_task(resolver.addresses(f"{n}.hung.test")) for n in range(100)]
        await until(lambda: len(server[0].asked) >= 20)
        started = loop.time()
        assert await resolver.addresses("d.good.test") == ("127.0.0.9",)
        assert loop.time() - started < 0.25
        failures = await asyncio.gather(*hung, return_exceptions=True)
    assert all(isinstance(failure, socket.gaierror) for failure in failures)


async def test_the_default_executor_is_never_used(server: tuple[NameServer, str]) -> None:
    async with resolving(server[1]) as resolver:
        await resolver.addresses("e.good.test")
    assert not any(thread.name.startswith("asyncio_") for thread in threading.enumerate())
