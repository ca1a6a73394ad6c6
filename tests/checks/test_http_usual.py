"""An answer that was right is recognised, and nothing that differs passes for it."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from checks.catalog import ProbeKit
from checks.finding import Finding, State
from checks.http.check import HttpCheck
from checks.http.options import HttpOptions
from checks.reason import Reason
from checks.resolver import CachingResolver
from checks.target import Kind, Target, TargetKey
from checks.units import Duration
from checks.wire.tls_options import TlsOptions
from tests.faults.certificates import DAY, sign

TARGET = Target(
    key=TargetKey(env="test", service="s", check="http", vantage="here"), kind=Kind.SERVICE, address="it"
)
PARTLY = b'{"status":"pass","checks":{"db":[{"status":"fail"}]}}'


class Calendar:
    """The machine's clock, some days ahead."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def monotonic_s(self) -> float:
        return time.monotonic()

    def wall_s(self) -> float:
        return time.time() + self.ahead_s


class Server:
    """Says `body`, and the date."""

    def __init__(self) -> None:
        self.body = b'{"status":"pass","checks":{"db":[{"status":"pass"}]}}'
        self.status = b"200 OK"
        self.second = 0
        self.delay_s = 0.0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(self.delay_s)
            self.second += 1
            date = b"Date: Fri, 27 Nov 2026 23:59:%02d GMT\r\n" % self.second
            head = b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n" % (self.status, date, len(self.body))
            writer.write(head + self.body)
            await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def served(context: ssl.SSLContext | None = None) -> AsyncIterator[tuple[Server, str]]:
    found = Server()
    server = await asyncio.start_server(found.answer, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield found, f"{'http' if context is None else 'https'}://127.0.0.1:{port}/"


def check(url: str, calendar: Calendar, tls: TlsOptions | None = None) -> HttpCheck:
    options = HttpOptions(url=url, tls=tls or TlsOptions(), slower_than=Duration(0.5))
    return HttpCheck(TARGET, options, ProbeKit(clock=calendar, resolver=CachingResolver()))


def steady(finding: Finding) -> object:
    """A finding without what each look has for itself."""
    rest = tuple(fact for fact in finding.evidence if fact.name != "trace_id")
    return finding.state, finding.reason, finding.measures, finding.claims, rest


async def test_the_same_answer_gives_the_same_finding_with_a_time_and_a_trace_of_its_own() -> None:
    async with served() as (_, url):
        one = check(url, Calendar())
        first, second, third = [await one.probe() for _ in range(3)]
    assert steady(first) == steady(second) == steady(third)
    assert first.state is State.UP
    assert len({finding.evidence[0].value for finding in (first, second, third)}) == 3
    assert first.latency_s != second.latency_s
    assert [part.phase for part in second.phases] == [part.phase for part in first.phases]


@pytest.mark.parametrize(
    ("body", "status", "state", "reason"),
    [
        (b'{"status":"fail"}', b"200 OK", State.DOWN, "health_document"),
        (
            b'{"status":"pass","checks":{"d":[{"status":"fail"}]}}',
            b"200 OK",
            State.DEGRADED,
            "health_document",
        ),
        (b"", b"404 No", State.DOWN, "status"),
    ],
    ids=["worse", "a part", "status"],
)
async def test_another_answer_is_judged(body: bytes, status: bytes, state: State, reason: Reason) -> None:
    async with served() as (server, url):
        one = check(url, Calendar())
        before = await one.probe()
        server.body, server.status = body, status
        found = await one.probe()
        server.body, server.status = Server().body, Server().status
        after = await one.probe()
    assert (found.state, found.reason) == (state, reason)
    assert steady(before) == steady(after)


async def test_the_same_answer_too_late_is_slow() -> None:
    async with served() as (server, url):
        one = check(url, Calendar())
        await one.probe()
        server.delay_s = 0.6
        found = await one.probe()
    assert (found.state, found.reason) == (State.DEGRADED, Reason.SLOW)


async def test_the_same_certificate_grows_old(tmp_path: Path) -> None:
    authority = sign("authority", authority=True, hosts=(), ends=3650 * DAY)
    server = sign("", by=authority, hosts=("127.0.0.1",), ends=60 * DAY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.save(tmp_path, "server"))
    calendar = Calendar()
    async with served(context) as (_, url):
        one = check(url, calendar, TlsOptions(ca_file=authority.save(tmp_path, "ca")))
        found = []
        for days in (0, 30, 38, 40, 61):
            calendar.ahead_s = days * DAY.total_seconds()
            finding = await one.probe()
            found.append((days, finding.state, finding.reason))
    assert found == [
        (0, State.UP, Reason.OK),
        (30, State.UP, Reason.OK),
        (38, State.UP, Reason.OK),
        (40, State.DEGRADED, Reason.TLS_EXPIRING),
        (61, State.DOWN, Reason.TLS_EXPIRED),
    ]
