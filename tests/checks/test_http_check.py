"""The http check and its sentinel: connections kept or fresh, all addresses, evidence, deaths told."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import pytest

from checks.catalog import ProbeKit, kind
from checks.clock import SystemClock
from checks.finding import Finding, Measure
from checks.http.check import HttpCheck, fresh_turn
from checks.http.options import HttpOptions
from checks.http.request import redirected, request_of
from checks.http.sentinel import Patience
from checks.resolver import CachingResolver
from checks.secret import Secret
from checks.target import Kind, Target, TargetKey
from tests.waiting import until


@dataclass
class Origin:
    """A small HTTP server that counts; `delay_s`, `mute`, `extra` and `body` change how it answers."""

    port: int = 0
    connections: int = 0
    heads: list[str] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    delay_s: float = 0.0
    mute: bool = False
    hangs_up: bool = False
    extra: str = ""
    body: str = '{"status": "pass"}'
    server: asyncio.Server | None = None

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
                if self.mute:
                    await asyncio.sleep(3600)
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                length = f"Content-Length: {len(self.body)}"
                writer.write(f"HTTP/1.1 200 OK\r\n{length}\r\n{self.extra}\r\n{self.body}".encode())
                await writer.drain()
                if self.hangs_up or "close" in self.heads[-1] or "close" in self.extra:
                    break
        writer.close()

    def kill(self) -> None:
        """As a killed process: everything is closed, nobody listens."""
        assert self.server is not None
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/health"


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    found = Origin()
    found.server = await asyncio.start_server(found.handle, "127.0.0.1", 0)
    found.port = found.server.sockets[0].getsockname()[1]
    yield found
    found.kill()


class Names:
    """A resolver with fixed answers."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    def known(self, host: str) -> tuple[str, ...] | None:
        del host
        return None

    async def addresses(self, host: str) -> tuple[str, ...]:
        del host
        return self._addresses


def target(url: str) -> Target:
    return Target(
        key=TargetKey(env="test", service="s", check="http", vantage="here"), kind=Kind.SERVICE, address=url
    )


def options(url: str, **more: Any) -> HttpOptions:
    table = {"timeout": 1.0, "url": url, **more}
    return msgspec.convert(table, HttpOptions, dec_hook=lambda hint, value: hint(value))


def check(url: str, *addresses: str, **more: Any) -> HttpCheck:
    resolver = Names(*addresses) if addresses else CachingResolver()
    return HttpCheck(target(url), options(url, **more), ProbeKit(clock=SystemClock(), resolver=resolver))


def evidence(finding: Finding, name: str) -> str | None:
    return next((fact.value for fact in finding.evidence if fact.name == name), None)


async def look(one: HttpCheck, times: int = 1) -> Finding:
    for _ in range(times):
        finding = await one.probe()
    await one.close()
    return finding


async def test_each_look_has_its_own_connection_unless_told_otherwise(origin: Origin) -> None:
    await look(check(origin.url), 5)
    assert origin.connections == 5
    await look(check(origin.url, connection="kept"), 10)
    assert origin.connections == 6
    await look(check(origin.url, connection="mixed"), 11)
    assert origin.connections == 9


def test_mixed_looks_of_many_targets_are_not_all_fresh_in_the_same_round() -> None:
    turns = {fresh_turn(f"production/s{number}/http@public") for number in range(100)}
    assert turns == {0, 1, 2, 3, 4}


async def test_a_kept_connection_in_doubt_is_replaced_by_a_fresh_one(origin: Origin) -> None:
    one = check(origin.url, connection="kept")
    await one.probe()
    origin.writers[0].transport.abort()
    finding = await one.probe()
    await one.close()
    assert (finding.state, finding.reason) == ("up", "ok")
    assert evidence(finding, "kept connection") is not None
    assert "connect" in {time.phase.value for time in finding.phases}


async def test_a_trace_goes_with_each_look_and_into_the_evidence(origin: Origin) -> None:
    finding = await look(check(origin.url))
    match = re.search(r"traceparent: 00-([0-9a-f]{32})-([0-9a-f]{16})-01\r\n", origin.heads[0])
    assert match is not None
    assert evidence(finding, "trace_id") == match[1]


async def test_a_password_and_a_secret_may_stand_in_files_and_change_there(
    origin: Origin, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text("one\n")
    given = check(origin.url, auth={"basic": {"username": "me", "password_file": str(file)}})
    await given.probe()
    file.write_text("two\n")
    await given.probe()
    await given.close()
    file.unlink()
    lost = await look(given)
    sent = [re.search("authorization: Basic (.*)\r\n", head) for head in origin.heads]
    assert [base64.b64decode(one[1]) for one in sent if one] == [b"me:one", b"me:two"]
    assert (lost.state, lost.reason) == ("unknown", "config")
    assert lost.message.endswith(f"the secret in {file} cannot be read: No such file or directory")


async def test_a_token_that_is_refused_is_not_used_again() -> None:
    issued = 0
    revoked: set[str] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal issued
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        body, status = "{}", "200 OK"
        if head.startswith("POST"):
            await reader.readexactly(len("grant_type=client_credentials"))
            issued += 1
            body = f'{{"access_token": "t{issued}", "expires_in": 3600}}'
        elif any(f"Bearer {token}\r\n" in head for token in revoked):
            status = "401 Unauthorized"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    auth = {"oauth2": {"token_url": f"{url}token", "client_id": "id", "client_secret": "s"}}
    one = check(url, auth=auth)
    seen = [(await one.probe()).reason]
    revoked.add("t1")
    seen += [(await one.probe()).reason, (await one.probe()).reason]
    await one.close()
    server.close()
    assert (seen, issued) == (["ok", "status", "ok"], 2)


@pytest.mark.parametrize(
    ("url", "location", "kept"),
    [
        ("http://a.test/x", "/y", True),
        ("http://a.test/x", "http://a.test:80/y", True),
        ("http://a.test/x", "https://a.test/x", True),
        ("http://a.test/x", "https://A.TEST/x", True),
        ("https://a.test/x", "http://a.test/x", False),
        ("http://a.test:8080/x", "https://a.test:8443/x", False),
        ("http://a.test/x", "http://a.test:8080/x", False),
        ("http://a.test/x", "https://b.a.test/x", False),
        ("http://a.test/x", "//evil.test/x", False),
    ],
)
def test_credentials_stay_with_their_host(url: str, location: str, *, kept: bool) -> None:
    request = request_of(url, private=(("authorization", "Basic x"),))
    assert bool(redirected(request, location, 302).private) is kept


async def test_what_happens_behind_a_redirect_is_said_of_where_it_happened(origin: Origin) -> None:
    async def leads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1]
        status, where = ("302 Found", "http://127.0.0.1:1/?token=abc") if path == "/" else ("404 Gone", "")
        location = f"Location: {where or '/'}\r\n"
        if path == "/again":
            status, location = "302 Found", "Location: /lost\r\n"
        writer.write(f"HTTP/1.1 {status}\r\n{location}Content-Length: 0\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(leads, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    refused, lost = await look(check(url)), await look(check(f"{url}again"))
    server.close()
    assert (refused.reason, refused.message) == (
        "connection_refused",
        f"{url} redirects to http://127.0.0.1:1/, which refuses connections: nobody listens there",
    )
    assert lost.message == f"{url}again redirects to {url}lost, which answers 404 Gone, expected 2xx"


async def test_what_a_health_document_says_is_shown_without_secrets(origin: Origin) -> None:
    origin.body = '{"status": "down", "database": {"status": "down", "error": "password=hunter2 \\u001b[2J"}}'
    finding = await look(check(origin.url))
    assert finding.message.endswith('says it is "down": database down (password=***  [2J) (status 200)')
    assert not re.search("hunter2|\x1b", str(finding))


async def test_a_silent_token_server_is_not_blamed_on_the_target(origin: Origin) -> None:
    silent = Origin(mute=True)
    silent.server = await asyncio.start_server(silent.handle, "127.0.0.1", 0)
    silent.port = silent.server.sockets[0].getsockname()[1]
    auth = {"oauth2": {"token_url": silent.url, "client_id": "id", "client_secret": "s"}}
    finding = await look(check(origin.url, auth=auth, timeout=0.2))
    silent.kill()
    assert (finding.state, finding.reason) == ("unknown", "config")
    assert (
        finding.message == f"{origin.url} was not asked: the token server {silent.url} did not answer in time"
    )


async def test_latency_is_the_servers_own_time(origin: Origin) -> None:
    origin.delay_s = 0.05
    started_s = monotonic()
    finding = await look(check(origin.url))
    assert finding.latency_s is not None
    assert 0.05 <= finding.latency_s <= monotonic() - started_s
    assert finding.latency_s == pytest.approx(sum(time.duration_s for time in finding.phases))


async def test_an_address_that_refuses_is_passed_over_and_noted(origin: Origin) -> None:
    finding = await look(check(f"http://name.test:{origin.port}/", "127.0.0.9", "127.0.0.1"))
    assert finding.state == "up"
    assert evidence(finding, "ip") == "127.0.0.1"
    assert evidence(finding, "address 127.0.0.9") == "refuses connections: nobody listens there"
    first = await look(check(f"http://name.test:{origin.port}/", "127.0.0.9", "127.0.0.1", address="first"))
    assert first.reason == "connection_refused"


async def test_all_addresses_are_judged_together(origin: Origin) -> None:
    url = f"http://name.test:{origin.port}/"
    some = await look(check(url, "127.0.0.9", "127.0.0.1", address="all"))
    none = await look(check(url, "127.0.0.8", "127.0.0.9", address="all"))
    assert (some.state, some.reason, some.hard) == ("degraded", "connection_refused", False)
    assert (
        some.message == f"{url}: 1 of 2 addresses answer; 127.0.0.9 refuses connections: nobody listens there"
    )
    assert (none.state, none.message) == (
        "down",
        f"{url} refuses connections: nobody listens there; so do all 2 addresses",
    )


async def test_the_look_up_of_all_addresses_counts_and_too_many_are_told(origin: Origin) -> None:
    class Slow(Names):
        async def addresses(self, host: str) -> tuple[str, ...]:
            await asyncio.sleep(0.05)
            return await super().addresses(host)

    url = f"http://name.test:{origin.port}/"
    kit = ProbeKit(clock=SystemClock(), resolver=Slow(*[f"127.0.0.{last}" for last in range(1, 41)]))
    finding = await look(HttpCheck(target(url), options(url, address="all"), kit))
    phases = {time.phase.value: time.duration_s for time in finding.phases}
    assert phases["resolve"] >= 0.05
    assert finding.latency_s is not None
    assert finding.latency_s >= 0.05
    assert evidence(finding, "addresses") == "40 were found and the first 32 probed"
    assert evidence(finding, "address 127.0.0.33") is None


async def test_a_name_without_the_wanted_family_is_a_dns_fault() -> None:
    finding = await look(check("http://name.test/", "127.0.0.1", ip="only_6"))
    assert finding.message == 'http://name.test/ has no IPv6 address: "name.test"'


async def test_secrets_in_a_body_are_not_kept_as_evidence(origin: Origin) -> None:
    origin.body = (
        '{"status": "fail", "password": "hunter2", "dsn": "postgres://u:p4ss@db/x", "note": "my-own-key"}'
    )
    finding = await look(check(origin.url, headers={"X-Key": "my-own-key"}))
    shown = evidence(finding, "body")
    assert shown is not None
    assert not any(secret in shown for secret in ("hunter2", "p4ss", "my-own-key"))


async def test_measures_have_blackbox_exporters_names(origin: Origin) -> None:
    finding = await look(check(origin.url))
    assert finding.measures == (
        Measure(name="probe_ip_protocol", value=4.0),
        Measure(name="probe_http_status_code", value=200.0),
        Measure(name="probe_http_version", value=1.1),
        Measure(name="probe_http_ssl", value=0.0),
        Measure(name="probe_http_redirects", value=0.0),
        Measure(name="probe_http_uncompressed_body_length", value=18.0),
        Measure(name="probe_http_content_length", value=18.0),
    )


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"url": "ftp://x/"}, "starts with http:// or https://"),
        ({"url": "http://u:p@x/"}, "put them under auth"),
        ({"url": "http://x y/"}, "no spaces"),
        ({"url": "http://x:99999/"}, "is no URL"),
        ({"url": "http://x/", "auth": {}}, "exactly one of"),
        ({"url": "http://x/", "redirects": 99}, "0 to 20"),
        ({"url": "http://x/", "headers": {"A B": "x"}}, "no header"),
        ({"url": "http://x/", "headers": {"A": "x\r\nB: y"}}, "no header"),
        ({"url": "http://x/", "expect": {"status": ["maybe"]}}, "is no status"),
        ({"url": "http://x/", "expect": {"body": ["("]}}, "no regular expression"),
        ({"url": "http://x/", "expect": {"json": ["oops"]}}, "is no condition"),
        ({"url": "http://x/", "timout": 1}, "timout"),
    ],
)
def test_a_mistake_in_the_options_is_told_with_its_remedy(more: dict[str, Any], words: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=re.escape(words)):
        options(**more)


def test_options_never_show_secrets() -> None:
    made = options("http://x/", headers={"X": "hide-me"}, auth={"bearer": "hide-me"}, body="hide-me")
    assert "hide-me" not in repr(made)
    assert made.headers["X"] == Secret("hide-me")


@contextlib.asynccontextmanager
async def watching(url: str, **more: Any) -> AsyncIterator[list[str]]:
    said: list[str] = []
    kit = ProbeKit(clock=SystemClock(), resolver=CachingResolver())
    make: Callable[..., Any] | None = kind("http").sentinel
    assert make is not None
    watch: Awaitable[None] = make(target(url), options(url, **more), kit).watch(said.append)
    task = asyncio.ensure_future(watch)
    try:
        yield said
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_death_is_suspected_within_50_ms(origin: Origin) -> None:
    async with watching(origin.url) as said:
        await until(lambda: origin.heads)
        await asyncio.sleep(0.05)  # the answer has arrived and the connection idles
        died_s = asyncio.get_running_loop().time()
        origin.kill()
        await until(lambda: said, within_s=1)
        assert asyncio.get_running_loop().time() - died_s < 0.05
    assert said == [f"{origin.url} closed the held connection"]


async def test_a_freeze_is_suspected_when_a_heartbeat_stays_unanswered(origin: Origin) -> None:
    async with watching(origin.url, heartbeat=0.1) as said:
        await until(lambda: len(origin.heads) >= 2)
        origin.mute = True
        await until(lambda: said, within_s=2)
    assert said == [f"{origin.url} has not answered its heartbeat for 750ms"]


async def test_a_server_that_does_not_keep_connections_is_never_suspected(origin: Origin) -> None:
    origin.extra = "Connection: close\r\n"
    async with watching(origin.url, heartbeat=0.05) as said:
        await until(lambda: origin.heads)
        await asyncio.sleep(0.2)
        assert (said, origin.connections) == ([], 1)


async def test_a_server_that_hangs_up_without_saying_so_is_suspected_once_and_then_left_alone(
    origin: Origin,
) -> None:
    origin.hangs_up = True
    async with watching(origin.url, heartbeat=0.05) as said:
        await until(lambda: said)
        await asyncio.sleep(0.6)  # more than the usual pause before a connection is held again
        assert (len(said), origin.connections) == (1, 1)


async def test_nobody_there_is_no_suspicion_and_a_return_is_watched_again(origin: Origin) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    async with watching(f"http://127.0.0.1:{port}/", heartbeat=0.05) as said:
        await asyncio.sleep(0.1)
        assert said == []
        server = await asyncio.start_server(origin.handle, "127.0.0.1", port)
        await until(lambda: len(origin.heads) >= 2)
        server.close()
        for writer in origin.writers:
            writer.transport.abort()
        await until(lambda: said)


@pytest.mark.parametrize(
    ("url", "more"),
    [("http://10.0.0.1/", {"heartbeat": 0}), ("https://x.fly.dev/", {}), ("http://x.flycast./", {})],
)
def test_nothing_is_held_where_it_may_not_be_or_would_say_nothing(url: str, more: dict[str, Any]) -> None:
    kit = ProbeKit(clock=SystemClock(), resolver=CachingResolver())
    make = kind("http").sentinel
    assert make is not None
    assert make(target(url), options(url, **more), kit) is None


def test_patience_grows_with_the_slowest_answer_and_fades() -> None:
    patience = Patience(5.0)
    assert patience.limit_s == 5.0
    patience.learn(0.01)
    assert patience.limit_s == 0.75
    patience.learn(0.4)
    assert patience.limit_s == pytest.approx(2.0)
    for _ in range(100):
        patience.learn(0.01)
    assert patience.limit_s == 0.75
