"""What is said of a port that is not a working NATS server."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from checks.finding import State
from checks.nats.options import NatsOptions
from checks.reason import Reason
from checks.secret import Secret
from checks.units import Duration
from tests.faults.deep.looking import Handler, closes, look_once, misbehaving, resets, silent

INFO = {"server_id": "S", "server_name": "stub", "version": "2.15.1", "max_payload": 1048576}


def options(port: int, scheme: str = "nats") -> NatsOptions:
    return NatsOptions(url=Secret(f"{scheme}://agent:pw@127.0.0.1:{port}"), answer_within=Duration(0.3))


def greeting(*after: bytes, **info: object) -> Handler:
    """A server that greets and then says these lines, whatever it is told."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"INFO " + json.dumps({**INFO, **info}).encode() + b"\r\n")
        for line in after:
            writer.write(line)
        await writer.drain()
        while await reader.read(4096):
            pass

    return handler


async def test_nobody_listening_is_refused_with_hard_evidence() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    found = await look_once("nats", options(port))
    assert (found.state, found.reason, found.hard) == (State.DOWN, Reason.NATS_REFUSED, True)
    assert f"127.0.0.1:{port} refuses connections" in found.message


async def test_a_name_that_does_not_exist_is_dns() -> None:
    found = await look_once("nats", NatsOptions(url=Secret("nats://broker.invalid:4222")))
    assert (found.state, found.reason) == (State.DOWN, Reason.NATS_DNS)


@pytest.mark.parametrize("handler", [closes, resets], ids=["closes", "resets"])
async def test_a_proxy_without_a_broker_is_no_backend(handler: Handler) -> None:
    async with misbehaving(handler) as port:
        found = await look_once("nats", options(port))
    assert (found.state, found.reason) == (State.DOWN, Reason.NATS_NO_BACKEND)


async def test_no_greeting_is_frozen() -> None:
    async with misbehaving(silent) as port:
        found = await look_once("nats", options(port))
    assert (found.state, found.reason) == (State.DOWN, Reason.NATS_FROZEN)
    assert "300ms" in found.message


async def test_a_greeting_without_an_answer_to_ping_is_frozen() -> None:
    async with misbehaving(greeting()) as port:
        found = await look_once("nats", options(port))
    assert (found.state, found.reason) == (State.DOWN, Reason.NATS_FROZEN)


async def test_another_protocol_is_not_nats() -> None:
    async def handler(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.test ESMTP\r\n")
        await writer.drain()

    async with misbehaving(handler) as port:
        found = await look_once("nats", options(port))
    assert (found.state, found.reason) == (State.DOWN, Reason.NATS_NOT_NATS)
    assert "220 mail" in found.message


@pytest.mark.parametrize(
    ("line", "state", "reason"),
    [
        ("Authorization Violation", State.UNKNOWN, Reason.NATS_AUTH_FAILED),
        ("Authentication Timeout", State.UNKNOWN, Reason.NATS_AUTH_FAILED),
        ("User Authentication Expired", State.UNKNOWN, Reason.NATS_AUTH_FAILED),
        ("maximum connections exceeded", State.DOWN, Reason.NATS_MAX_CONNECTIONS),
        ("Secure Connection - TLS Required", State.UNKNOWN, Reason.NATS_TLS_REQUIRED),
        ("Unknown Protocol Operation", State.DOWN, Reason.PROTOCOL),
    ],
)
async def test_a_refusal_is_classified(line: str, state: State, reason: Reason) -> None:
    async with misbehaving(greeting(f"-ERR '{line}'\r\n".encode())) as port:
        found = await look_once("nats", options(port))
    assert (found.state, found.reason) == (state, reason)
    assert "pw" not in found.message


async def test_tls_that_is_asked_for_and_not_offered_sends_nothing() -> None:
    heard = bytearray()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"INFO " + json.dumps(INFO).encode() + b"\r\n")
        heard.extend(await reader.read(4096))

    async with misbehaving(handler) as port:
        found = await look_once("nats", options(port, "tls"))
    assert (found.state, found.reason) == (State.DEGRADED, Reason.NATS_PLAINTEXT)
    assert heard == b""


async def test_a_greeting_that_is_no_json_is_not_nats() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"INFO {broken\r\n")
        await writer.drain()
        await reader.read(1)

    async with misbehaving(handler) as port:
        found = await look_once("nats", options(port))
    assert found.reason is Reason.NATS_NOT_NATS


async def test_an_endless_greeting_is_cut_off() -> None:
    async def handler(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"INFO ")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with misbehaving(handler) as port:
        url = Secret(f"nats://127.0.0.1:{port}")
        found = await look_once("nats", NatsOptions(url=url, answer_within=Duration(4)))
    assert found.reason is Reason.NATS_NOT_NATS
