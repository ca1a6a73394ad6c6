"""A stand-in for Fly.io: its Machines API, its name server, and a proxy that counts whom it wakes."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

from checks.finding import Finding
from checks.machines.options import MachinesOptions
from checks.secret import Secret
from checks.units import Duration
from tests.faults.deep.looking import Look, Names, misbehaving

APP = "gaia-auth-dev"
Machine = dict[str, object]


# The cases are written when this file is read, which may be long before they run: ages become times when
# the API answers.
_AGE = "age_s"


def ago(seconds: float) -> dict[str, float]:
    return {_AGE: seconds}


def dated(told: object, *, as_ms: bool = False) -> object:
    """`told` with every age as the time it is now."""
    if isinstance(told, dict):
        if told.keys() == {_AGE}:
            at_s = datetime.now(UTC).timestamp() - told[_AGE]
            return at_s * 1000 if as_ms else datetime.fromtimestamp(at_s, UTC).isoformat()
        return {name: dated(value, as_ms=name == "timestamp") for name, value in told.items()}
    return [dated(one) for one in told] if isinstance(told, list) else told


def exited(code: int = 0, *, seconds: float = 5, **how: object) -> Machine:
    return {"type": "exit", "timestamp": ago(seconds), "request": {"exit_event": {"exit_code": code, **how}}}


def machine(id_: str, state: str, *events: Machine, age_s: float = 60, **more: object) -> Machine:
    return {
        "id": id_,
        "state": state,
        "region": "fra",
        "updated_at": ago(age_s),
        "events": list(events),
        "image_ref": {"digest": "sha256:1"},
        "config": {"guest": {"cpu_kind": "shared", "cpus": 1, "memory_mb": 512}},
        **more,
    }


class NameServer(asyncio.DatagramProtocol):
    """Answers TXT for the two rolls of machines."""

    def __init__(self, fly: Fly) -> None:
        self._fly = fly

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's own datagram transport is no subclass of DatagramTransport in Python 3.11.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._fly.dns_away:
            return
        at, labels = 12, []
        while size := data[at]:
            labels.append(data[at + 1 : at + 1 + size].decode())
            at += 1 + size
        listed = self._fly.machines if labels[0] == "all" else self._fly.started
        text = ",".join(f"{one['id']} {one['region']}" for one in listed).encode()
        answer = b""
        if text:
            strings = b"".join(bytes([len(part)]) + part for part in _parts(text))
            answer = b"\xc0\x0c" + struct.pack("!HHIH", 16, 1, 5, len(strings)) + strings
        flags = 0x8180 if text else 0x8183
        header = data[:2] + struct.pack("!HHHHH", flags, 1, int(bool(text)), 0, 0)
        self._transport.sendto(header + data[12 : at + 5] + answer, addr)


def _parts(text: bytes) -> list[bytes]:
    return [text[at : at + 255] for at in range(0, len(text), 255)]


@dataclass(slots=True)
class Fly:
    """The platform: its machines, and how often its proxy was asked, which is what wakes."""

    machines: list[Machine] = field(default_factory=list)
    dns_away: bool = False
    api_status: int = 200
    wake_ups: int = 0
    api_calls: int = 0
    dns_port: int = 0
    api_port: int = 0
    proxy_port: int = 0

    @property
    def started(self) -> list[Machine]:
        return [one for one in self.machines if one["state"] == "started"]

    def look(self, *, token: bool = True, minimum: int = 0, env: str = "development", **more: object) -> Look:
        options = MachinesOptions(
            app=APP,
            minimum=minimum,
            token=Secret("fo1_secret") if token else None,
            api_url=f"http://127.0.0.1:{self.api_port}",
            nameserver="127.0.0.1",
            nameserver_port=self.dns_port,
            answer_within=Duration(0.5),
            **more,  # type: ignore[arg-type]
        )
        names = Names(**{f"{APP}.flycast": "127.0.0.1", f"{APP}.fly.dev": "127.0.0.1"})
        return Look("machines", options, env=env, names=names)

    async def found(self, **how: object) -> Finding:
        async with self.look(**how) as one:  # type: ignore[arg-type]
            return await one.look()


@asynccontextmanager
async def platform(*machines: Machine) -> AsyncIterator[Fly]:
    fly = Fly(machines=list(machines))

    async def api(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Bearer fo1_secret" in head
        assert f"/v1/apps/{APP}/machines".encode() in head
        fly.api_calls += 1
        writer.write(
            f"HTTP/1.1 {fly.api_status} X\r\n\r\n".encode() + json.dumps(dated(fly.machines)).encode()
        )
        await writer.drain()

    async def proxy(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        fly.wake_ups += 1
        await reader.read(1)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: NameServer(fly), local_addr=("127.0.0.1", 0))
    fly.dns_port = transport.get_extra_info("sockname")[1]
    async with misbehaving(api) as fly.api_port, misbehaving(proxy) as fly.proxy_port:
        try:
            yield fly
        finally:
            transport.close()


RUNNING = machine("a1", "started")
