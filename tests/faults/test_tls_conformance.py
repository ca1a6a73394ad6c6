"""Every fault of TLS gets its exact verdict from the `tls` and `http` checks, a bad chain's expiry too."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from checks.catalog import ProbeKit, kind
from checks.clock import SystemClock
from checks.finding import Finding
from checks.observation import observe
from checks.resolver import CachingResolver
from checks.target import Kind, Target, TargetKey
from tests.blackbox_exporter import ask, blackbox_exporter
from tests.faults.certificates import DAY, Signed, sign
from tests.flown import flown


@dataclass(frozen=True, slots=True)
class Pki:
    """A trusted authority with an intermediate, a stranger nobody trusts, and where files go."""

    folder: Path
    root: Signed
    middle: Signed
    stranger: Signed
    ca_file: str

    def server(self, leaf: Signed, *chain: Signed) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(leaf.save(self.folder, f"leaf-{id(leaf)}", *chain))
        return context


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    folder = tmp_path_factory.mktemp("pki")
    root = sign("Test Root", authority=True)
    ca_file = folder / "root.pem"
    ca_file.write_bytes(root.pem().partition(b"-----BEGIN PRIVATE")[0])
    return Pki(
        folder=folder,
        root=root,
        middle=sign("Test Middle", by=root, authority=True),
        stranger=sign("Stranger", authority=True),
        ca_file=str(ca_file),
    )


async def _hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def listening(
    context: ssl.SSLContext | None,
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any] = _hello,
) -> AsyncIterator[int]:
    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@contextlib.contextmanager
def answering(context: ssl.SSLContext) -> Iterator[int]:
    """A TLS server on plain sockets: unlike asyncio's, it sends the alert that says why it refuses."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as connection:
                connection.settimeout(5)
                if connection.recv(4096):
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
                    connection.recv(4096)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


async def probe(name: str, options: dict[str, Any], address: str) -> Finding:
    kit = ProbeKit(clock=SystemClock(), resolver=CachingResolver())
    found = kind(name)
    key = TargetKey(env="test", service="s", check=name, vantage="here")
    target = Target(key=key, kind=Kind.SERVICE, address=address)
    table = msgspec.convert(
        {"timeout": 1.0, **options}, found.options, dec_hook=lambda hint, value: hint(value)
    )
    check = found.build(target, table, kit)
    try:
        look = flown if found.taskless else observe
        return (await look(check, target, deadline_s=4, clock=kit.clock)).finding
    finally:
        await check.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A server made of a Pki, the client's tls table, and the verdict."""

    name: str
    server: Callable[[Pki], ssl.SSLContext]
    verdict: str
    tls: dict[str, Any] = field(default_factory=dict)
    host: str = "localhost"
    says: str = ""
    shows_expiry: bool = True
    # Why blackbox_exporter's verdict may differ; without it both must agree.
    differs: str = ""


def leaf(*, by: str = "root", chain: tuple[str, ...] = (), **more: Any) -> Callable[[Pki], ssl.SSLContext]:
    def build(pki: Pki) -> ssl.SSLContext:
        return pki.server(sign("leaf", by=getattr(pki, by), **more), *(getattr(pki, one) for one in chain))

    return build


def self_signed(pki: Pki) -> ssl.SSLContext:
    return pki.server(sign("leaf"))


def old_middle(pki: Pki) -> ssl.SSLContext:
    middle = sign("Old Middle", by=pki.root, authority=True, starts=-9 * DAY, ends=-1 * DAY)
    return pki.server(sign("leaf", by=middle), middle)


def fading_middle(pki: Pki) -> ssl.SSLContext:
    middle = sign("Fading Middle", by=pki.root, authority=True, ends=10 * DAY)
    return pki.server(sign("leaf", by=middle), middle)


def surplus_expired(pki: Pki) -> ssl.SSLContext:
    """Beside the way to trust an old certificate is sent, as for years with a well-known authority."""
    old = sign("Old Cross", by=pki.root, authority=True, starts=-9 * DAY, ends=-1 * DAY)
    return pki.server(sign("leaf", by=pki.middle), pki.middle, old)


def common_name_only(pki: Pki) -> ssl.SSLContext:
    return pki.server(sign("localhost", by=pki.root, hosts=()))


def only(version: ssl.TLSVersion) -> Callable[[Pki], ssl.SSLContext]:
    def build(pki: Pki) -> ssl.SSLContext:
        context = leaf()(pki)
        if version < ssl.TLSVersion.TLSv1_2:
            context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        return context

    return build


def one_cipher(pki: Pki) -> ssl.SSLContext:
    context = only(ssl.TLSVersion.TLSv1_2)(pki)
    context.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    return context


def wants_certificate(version: ssl.TLSVersion) -> Callable[[Pki], ssl.SSLContext]:
    def build(pki: Pki) -> ssl.SSLContext:
        context = only(version)(pki)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(pki.ca_file)
        return context

    return build


EXPIRED, UNTRUSTED, HOSTNAME = "down tls_expired", "down tls_untrusted", "down tls_hostname"
OPEN = {"verify": False}
CASES = (
    Case(name="good", server=leaf(), verdict="up ok"),
    Case(name="chain", server=leaf(by="middle", chain=("middle",)), verdict="up ok"),
    Case(name="surplus-expired", server=surplus_expired, verdict="up ok"),
    Case(name="ip", server=leaf(hosts=("127.0.0.1",)), verdict="up ok", host="127.0.0.1"),
    Case(name="ip-not-named", server=leaf(), verdict=HOSTNAME, host="127.0.0.1"),
    Case(
        name="server-name", server=leaf(hosts=("api.test",)), verdict="up ok", tls={"server_name": "api.test"}
    ),
    Case(
        name="wildcard",
        server=leaf(hosts=("*.api.test",)),
        verdict="up ok",
        tls={"server_name": "a.api.test"},
    ),
    Case(
        name="wildcard-deep",
        server=leaf(hosts=("*.test",)),
        verdict=HOSTNAME,
        tls={"server_name": "a.b.test"},
    ),
    Case(name="other-host", server=leaf(hosts=("other.test",)), verdict=HOSTNAME, says="other.test"),
    Case(name="common-name-only", server=common_name_only, verdict=HOSTNAME, says="names no host"),
    Case(name="expired", server=leaf(starts=-9 * DAY, ends=-1 * DAY), verdict=EXPIRED, says="renew it"),
    Case(name="expired-middle", server=old_middle, verdict=EXPIRED),
    Case(name="not-yet", server=leaf(starts=2 * DAY), verdict="down tls_not_yet_valid"),
    Case(name="self-signed", server=self_signed, verdict=UNTRUSTED),
    Case(name="stranger", server=leaf(by="stranger"), verdict=UNTRUSTED),
    Case(name="middle-missing", server=leaf(by="middle"), verdict=UNTRUSTED),
    Case(name="fading", server=leaf(ends=20 * DAY), verdict="degraded tls_expiring", says="below 3w"),
    Case(name="fading-fast", server=leaf(ends=6 * DAY), verdict="degraded tls_expiring", says="below 1w"),
    Case(name="fading-hours", server=leaf(ends=DAY), verdict="degraded tls_expiring", says="23 hours"),
    Case(name="fading-middle", server=fading_middle, verdict="degraded tls_expiring", says="Fading Middle"),
    Case(name="open-self-signed", server=self_signed, verdict="up ok", tls=OPEN),
    Case(
        name="open-expired",
        server=leaf(starts=-9 * DAY, ends=-1 * DAY),
        verdict=EXPIRED,
        tls=OPEN,
        differs="expired is down here, verified or not",
    ),
    Case(name="open-other-host", server=leaf(hosts=("other.test",)), verdict="up ok", tls=OPEN),
    Case(name="tls-1-2", server=only(ssl.TLSVersion.TLSv1_2), verdict="up ok"),
    Case(name="tls-1-3", server=only(ssl.TLSVersion.TLSv1_3), verdict="up ok", tls={"min_version": "1.3"}),
    Case(
        name="too-old",
        server=only(ssl.TLSVersion.TLSv1_2),
        verdict="down tls_protocol",
        tls={"min_version": "1.3"},
        shows_expiry=False,
    ),
    Case(
        name="no-cipher",
        server=one_cipher,
        verdict="down tls_protocol",
        tls={"max_version": "1.2", "ciphers": "ECDHE-ECDSA-CHACHA20-POLY1305"},
        shows_expiry=False,
        differs="its ciphers cannot be chosen",
    ),
    Case(
        name="wants-ours-1-2",
        server=wants_certificate(ssl.TLSVersion.TLSv1_2),
        verdict="down tls_client_cert",
        shows_expiry=False,
    ),
)


def table(case: Case, pki: Pki) -> dict[str, Any]:
    return {"ca_file": pki.ca_file, **case.tls}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_handshake_gets_its_verdict(case: Case, pki: Pki) -> None:
    with answering(case.server(pki)) as port:
        address = f"{case.host}:{port}"
        finding = await probe("tls", {"address": address, "tls": table(case, pki)}, address)
    assert f"{finding.state} {finding.reason}" == case.verdict, finding.message
    assert case.says in finding.message
    shown = any(measure.name == "probe_ssl_earliest_cert_expiry" for measure in finding.measures)
    assert shown is case.shows_expiry


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_https_gets_the_same_verdict(case: Case, pki: Pki) -> None:
    with answering(case.server(pki)) as port:
        url = f"https://{case.host}:{port}/"
        finding = await probe("http", {"url": url, "tls": table(case, pki)}, url)
    assert f"{finding.state} {finding.reason}" == case.verdict, finding.message


def module_of(case: Case, pki: Pki) -> dict[str, Any]:
    given = table(case, pki)
    tls: dict[str, Any] = {"ca_file": given["ca_file"], "insecure_skip_verify": given.get("verify") is False}
    if "server_name" in given:
        tls["server_name"] = given["server_name"]
    for key in ("min_version", "max_version"):
        if key in given:
            tls[key] = "TLS" + given[key].replace(".", "")
    return {"prober": "http", "timeout": "2s", "http": {"preferred_ip_protocol": "ip4", "tls_config": tls}}


def test_blackbox_exporter_gets_nothing_right_that_we_get_wrong(pki: Pki) -> None:
    """Its verdict is the same as ours, which the suite holds to be right, or the case says why not."""
    config = msgspec.json.encode({"modules": {case.name: module_of(case, pki) for case in CASES}}).decode()
    unexplained = []
    with blackbox_exporter(config, pki.folder) as base:
        for case in CASES:
            with answering(case.server(pki)) as port:
                said = ask(base, case.name, f"https://{case.host}:{port}/")
            theirs = "\nprobe_success 1" in said
            if theirs != (not case.verdict.startswith("down")):
                print(f"{case.name}: {'up' if theirs else 'down'} instead of {case.verdict} {case.differs}")
                unexplained += [] if case.differs else [case.name]
    assert unexplained == []


async def test_a_client_certificate_opens_what_wants_one(pki: Pki) -> None:
    ours = sign("agent", by=pki.root).save(pki.folder, "agent")
    theirs = sign("agent", by=pki.stranger).save(pki.folder, "wrong-agent")
    with answering(wants_certificate(ssl.TLSVersion.TLSv1_3)(pki)) as port:
        url = f"https://localhost:{port}/"
        verdicts = [
            (await probe("http", {"url": url, "tls": {"ca_file": pki.ca_file, **more}}, url)).reason
            for more in ({}, {"client_certificate": theirs}, {"client_certificate": ours})
        ]
    assert verdicts == ["tls_client_cert", "tls_client_cert", "ok"]


async def test_a_certificate_of_ours_is_read_again_when_it_was_renewed(pki: Pki) -> None:
    file = pki.folder / "renewed.pem"
    tls = {"ca_file": pki.ca_file, "client_certificate": str(file)}
    seen = []
    with answering(wants_certificate(ssl.TLSVersion.TLSv1_2)(pki)) as port:
        url = f"https://localhost:{port}/"
        for content in (None, b"nonsense", sign("a", by=pki.stranger).pem(), sign("a", by=pki.root).pem()):
            if content is not None:
                file.write_bytes(content)
            for kind_, options in (("http", {"url": url}), ("tls", {"address": f"localhost:{port}"})):
                finding = await probe(kind_, {**options, "tls": tls}, "it")
                seen.append((kind_, f"{finding.state} {finding.reason}", finding.message))
    missing, broken, refused, fine = (seen[place : place + 2] for place in range(0, 8, 2))
    for _, verdict, message in missing:
        assert (verdict, message) == (
            "unknown config",
            f"it was not asked: tls of this check cannot be used: {file}: No such file or directory",
        )
    assert all("is no certificate with its key in PEM" in message for _, _, message in broken)
    assert [verdict for _, verdict, _ in refused] == ["down tls_client_cert"] * 2
    assert [verdict for _, verdict, _ in fine] == ["up ok"] * 2


def says(*pieces: bytes, hang: bool = False) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read(100)
            for piece in pieces:
                writer.write(piece)
            await writer.drain()
            if hang:
                await asyncio.sleep(30)
        writer.close()

    return handle


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    del reader
    sock = writer.get_extra_info("socket")
    sock.setsockopt(1, 13, b"\x01\0\0\0\0\0\0\0")
    writer.transport.abort()


PLAIN = (
    ("http-behind", says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "down not_tls"),
    ("garbage-behind", says(b"\0\0\0\0"), "down not_tls"),
    ("closes", says(), "down connection_closed"),
    ("resets", resets, "down connection_reset"),
    ("hangs", says(hang=True), "down timeout"),
    ("half-a-record", says(b"\x16\x03\x03\x40\x00abc", hang=True), "down timeout"),
    ("alert", says(b"\x15\x03\x03\x00\x02\x02\x28"), "down tls_protocol"),
    ("record-garbage", says(b"\x16\x03\x03\x00\x04\xff\xff\xff\xff"), "down tls_protocol"),
)


@pytest.mark.parametrize(("handle", "verdict"), [case[1:] for case in PLAIN], ids=[case[0] for case in PLAIN])
async def test_what_is_no_tls_gets_its_verdict(handle: Any, verdict: str) -> None:
    async with listening(None, handle) as port:
        address = f"localhost:{port}"
        finding = await probe("tls", {"address": address, "timeout": 0.5}, address)
    assert f"{finding.state} {finding.reason}" == verdict, finding.message


async def test_an_end_without_close_notify_cuts_a_body_of_unknown_length(pki: Pki) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhi")
        await writer.drain()
        writer.get_extra_info("socket").shutdown(2)

    async with listening(leaf()(pki), handle) as port:
        url = f"https://localhost:{port}/"
        finding = await probe("http", {"url": url, "tls": {"ca_file": pki.ca_file}}, url)
    assert finding.reason == "incomplete_body"


async def test_phases_of_https_are_apart_and_add_up(pki: Pki) -> None:
    async with listening(leaf()(pki)) as port:
        url = f"https://localhost:{port}/"
        finding = await probe("http", {"url": url, "tls": {"ca_file": pki.ca_file}}, url)
    phases = {time.phase.value: time.duration_s for time in finding.phases}
    assert {"connect", "tls", "processing", "transfer"} <= set(phases)
    assert finding.latency_s == pytest.approx(sum(phases.values()))
    assert phases["tls"] > phases["connect"]


async def test_postgres_and_smtp_reach_tls_by_starttls(pki: Pki) -> None:
    context = leaf()(pki)

    async def postgres(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(8) == b"\0\0\0\x08\x04\xd2\x16\x2f"
        writer.write(b"S")
        with contextlib.suppress(OSError):
            await writer.start_tls(context)

    async def smtp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail\r\n")
        await reader.readline()
        writer.write(b"250-mail\r\n250-SIZE 1\r\n250 STARTTLS\r\n")
        await reader.readline()
        writer.write(b"220 go\r\n")
        with contextlib.suppress(OSError):
            await writer.start_tls(context)

    for protocol, handle in (("postgres", postgres), ("smtp", smtp)):
        async with listening(None, handle) as port:
            address = f"localhost:{port}"
            options = {"address": address, "starttls": protocol, "tls": {"ca_file": pki.ca_file}}
            finding = await probe("tls", options, address)
        assert (finding.state, finding.reason) == ("up", "ok"), finding.message


async def test_postgres_without_tls_is_told(pki: Pki) -> None:
    async with listening(None, says(b"N")) as port:
        address = f"localhost:{port}"
        finding = await probe("tls", {"address": address, "starttls": "postgres"}, address)
    assert finding.message == f"{address} is a PostgreSQL that offers no TLS"
