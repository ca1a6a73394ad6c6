"""What is said of a port that is not a working PostgreSQL: no server, a proxy, something else, a refusal."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from checks.finding import State
from checks.postgres.options import PostgresOptions
from checks.reason import Reason
from checks.secret import Secret
from checks.units import Duration
from tests.faults.deep.looking import Handler, closes, look_once, misbehaving, resets, silent, speaks_http


def options(port: int, **more: object) -> PostgresOptions:
    url = Secret(f"postgresql://agent:pw@127.0.0.1:{port}/app")
    return PostgresOptions(url=url, answer_within=Duration(0.3), **more)  # type: ignore[arg-type]


def refusing(
    sqlstate: str, message: str, *, detail: str = "", routine: str = "ProcessStartupPacket"
) -> Handler:
    """A server that answers the start-up packet with this error."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"N")
        (length,) = struct.unpack("!i", await reader.readexactly(4))
        await reader.readexactly(length - 4)
        fields = {"S": "FATAL", "C": sqlstate, "M": message, "D": detail, "R": routine}
        body = b"".join(k.encode() + v.encode() + b"\0" for k, v in fields.items() if v) + b"\0"
        writer.write(b"E" + struct.pack("!i", len(body) + 4) + body)
        await writer.drain()
        await reader.read(1)

    return handler


async def test_nobody_listening_is_refused_with_hard_evidence() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    found = await look_once("postgres", options(port))
    assert (found.state, found.reason, found.hard) == (State.DOWN, Reason.PG_REFUSED, True)
    assert f"127.0.0.1:{port}/app refuses connections" in found.message


async def test_a_socket_file_that_is_not_there_is_refused() -> None:
    found = await look_once("postgres", PostgresOptions(url=Secret("postgresql://a@/app?host=/nowhere")))
    assert (found.state, found.reason) == (State.DOWN, Reason.PG_REFUSED)


async def test_a_name_that_does_not_exist_is_dns() -> None:
    found = await look_once("postgres", PostgresOptions(url=Secret("postgresql://a:b@db.invalid/app")))
    assert (found.state, found.reason) == (State.DOWN, Reason.PG_DNS)
    assert "db.invalid" in found.message


@pytest.mark.parametrize("handler", [closes, resets], ids=["closes", "resets"])
async def test_a_proxy_without_a_database_is_no_backend(handler: Handler) -> None:
    async with misbehaving(handler) as port:
        found = await look_once("postgres", options(port))
    assert (found.state, found.reason, found.hard) == (State.DOWN, Reason.PG_NO_BACKEND, True)


async def test_something_else_on_the_port_is_not_postgres() -> None:
    async with misbehaving(speaks_http) as port:
        found = await look_once("postgres", options(port))
    assert (found.state, found.reason) == (State.DOWN, Reason.PG_NOT_POSTGRES)
    assert "b'H'" in found.message


async def test_a_port_that_accepts_and_stays_silent_is_frozen_not_up() -> None:
    async with misbehaving(silent) as port:
        found = await look_once("postgres", options(port))
    assert (found.state, found.reason) == (State.DOWN, Reason.PG_FROZEN)
    assert "300ms" in found.message


async def test_a_server_that_cannot_fork_is_no_backend() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"Ecould not fork new process for connection\0")
        await writer.drain()

    async with misbehaving(handler) as port:
        found = await look_once("postgres", options(port))
    assert (found.state, found.reason) == (State.DOWN, Reason.PG_NO_BACKEND)
    assert "cannot start a process" in found.message


async def test_silence_after_the_first_answer_is_frozen() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"N")
        await reader.read(4096)
        await reader.read(4096)

    async with misbehaving(handler) as port:
        found = await look_once("postgres", options(port))
    assert (found.state, found.reason) == (State.DOWN, Reason.PG_FROZEN)


async def test_rubbish_after_the_first_answer_is_not_postgres() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"N")
        await reader.read(4096)
        writer.write(b"R\xff\xff\xff\xff")
        await reader.read(4096)

    async with misbehaving(handler) as port:
        found = await look_once("postgres", options(port))
    assert (found.state, found.reason) == (State.DOWN, Reason.PG_NOT_POSTGRES)


CASES = [
    (
        "57P03",
        "the database system is shutting down",
        "",
        State.DOWN,
        Reason.PG_SHUTTING_DOWN,
        "shutting down",
    ),
    ("57P03", "the database system is starting up", "", State.STARTING, Reason.PG_STARTING, "starting up"),
    (
        "57P03",
        "the database system is in recovery mode",
        "",
        State.STARTING,
        Reason.PG_CRASH_RECOVERY,
        "after a crash",
    ),
    (
        "57P03",
        "the database system is not accepting connections",
        "Hot standby mode is disabled.",
        State.STARTING,
        Reason.PG_STARTING,
        "takes no session yet",
    ),
    ("57P03", "das Datenbanksystem startet", "", State.STARTING, Reason.PG_STARTING, "starting up"),
    (
        "53300",
        "désolé, trop de clients",
        "",
        State.DOWN,
        Reason.PG_TOO_MANY_CONNECTIONS,
        "no connection slot left",
    ),
    ("28000", "no pg_hba.conf entry", "", State.UNKNOWN, Reason.PG_NOT_PERMITTED, "pg_hba.conf"),
    (
        "28000",
        'no pg_hba.conf entry for host "10.0.0.1", user "agent", database "app", no encryption',
        "",
        State.UNKNOWN,
        Reason.PG_NOT_PERMITTED,
        "pg_hba.conf",
    ),
    ("53100", "could not write", "", State.DOWN, Reason.PG_DISK_FULL, "extend the volume"),
    ("0A000", "unsupported frontend protocol", "", State.DOWN, Reason.PG_NOT_POSTGRES, "protocol"),
    ("XX999", "what is this", "", State.UNKNOWN, Reason.PROTOCOL, "XX999"),
]


@pytest.mark.parametrize(
    ("sqlstate", "message", "detail", "state", "reason", "words"),
    CASES,
    ids=[f"{case[0]} {case[1][:40]}" for case in CASES],
)
async def test_a_refusal_is_classified_by_its_code(
    sqlstate: str, message: str, detail: str, state: State, reason: Reason, words: str
) -> None:
    async with misbehaving(refusing(sqlstate, message, detail=detail)) as port:
        found = await look_once("postgres", options(port))
    assert (found.state, found.reason) == (state, reason)
    assert words in found.message
    assert {one.name: one.value for one in found.evidence}["sqlstate"] == sqlstate


async def test_the_roles_own_limit_is_told_by_the_routine_in_any_language() -> None:
    handler = refusing("53300", "zu viele Verbindungen", routine="InitializeSessionUserId")
    async with misbehaving(handler) as port:
        found = await look_once("postgres", options(port))
    assert (found.state, found.reason) == (State.UNKNOWN, Reason.PG_MONITOR_LIMIT)


async def test_starting_up_for_longer_than_its_grace_is_down() -> None:
    handler = refusing("57P03", "the database system is starting up")
    async with misbehaving(handler) as port:
        found = await look_once("postgres", options(port, starting_grace=Duration(0)))
    assert (found.state, found.reason) == (State.DOWN, Reason.PG_STARTING)
    assert "grace 0s" in found.message
