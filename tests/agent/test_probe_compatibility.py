"""`/probe` beside Debian's blackbox_exporter: same modules, same targets, same series, same values."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.probe_endpoint import ProbeEndpoint
from checks.catalog import ProbeKit
from checks.clock import SystemClock
from checks.resolver import CachingResolver
from tests.blackbox_exporter import ask, blackbox_exporter
from tests.faults.certificates import DAY, Signed, sign

# Different by design: why it failed, and what a cipher is; blackbox_exporter 0.23 has neither.
OURS_ONLY: Final = {"probe_failure_info", "probe_tls_cipher_info", "probe_dns_query_succeeded"}
# What is known of a certificate that was refused: it is lost there when it matters most.
REFUSED: Final = {"probe_ssl_earliest_cert_expiry", "probe_ssl_last_chain_info"}
# What blackbox_exporter writes for what it did not measure; ours has no line then. The last is Go's year 1.
NOT_MEASURED: Final = {0.0, -1.0, -62135596800.0}
LOGIN: Final = "Basic " + base64.b64encode(b"me:s3cret").decode()

MODULES: Final = Path(__file__).with_name("blackbox.yml").read_text()
DNS: Final = tuple(name for name in msgspec.yaml.decode(MODULES)["modules"] if name.startswith("dns_"))


def modules(ca: str) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.yaml.decode(MODULES.replace("{ca}", ca))["modules"]
    return decoded


class Pki(msgspec.Struct):
    """What the servers show, and the file of the authority that is trusted."""

    ca: str
    folder: Path
    root: Signed
    old: Signed

    def context(self, leaf: Signed, *chain: Signed) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(leaf.save(self.folder, f"leaf-{id(leaf)}", *chain))
        return context


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    folder = tmp_path_factory.mktemp("pki")
    root = sign("Root", authority=True)
    ca = folder / "root.pem"
    ca.write_bytes(root.pem().partition(b"-----BEGIN PRIVATE")[0])
    old = sign("Old", by=root, authority=True, starts=-9 * DAY, ends=-DAY)
    return Pki(ca=str(ca), folder=folder, root=root, old=old)


@pytest.fixture(scope="module")
def peer(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with blackbox_exporter(MODULES.replace("{ca}", pki.ca), tmp_path_factory.mktemp("blackbox")) as base:
        yield base


def values(text: str) -> dict[str, dict[str, float]]:
    return {
        family.name: {
            # The serial number came with later versions.
            ",".join(f"{k}={v}" for k, v in sorted(s.labels.items()) if k != "serialnumber"): s.value
            for s in family.samples
        }
        for family in text_string_to_metric_families(text)
    }


async def both(pki: Pki, peer: str, module: str, target: str) -> bool:
    """Whether the probe succeeds, once both were asked and say the same."""
    kit = ProbeKit(clock=SystemClock(), resolver=CachingResolver())
    endpoint = ProbeEndpoint.of(kit, allowed=("*",), modules=modules(pki.ca))
    ours = values(await endpoint.probe(target, module))
    theirs = values(await asyncio.to_thread(ask, peer, module, target))
    assert ours["probe_success"] == theirs["probe_success"]
    failed = ours["probe_success"][""] == 0
    assert set(ours) - set(theirs) <= OURS_ONLY | (REFUSED if failed else set())
    for name, series in theirs.items():
        for labels, value in series.items():
            if name == "probe_http_uncompressed_body_length" and not value:
                continue  # It does not read the body of an answer it refuses.
            if "duration" in name or name == "probe_dns_lookup_time_seconds":
                continue
            if name not in ours or labels not in ours[name]:
                assert value in NOT_MEASURED, f"{name} is missing, theirs is {value}"
            else:
                assert (name, labels, ours[name][labels]) == (name, labels, value)
    for name in ("probe_http_duration_seconds", "probe_dns_duration_seconds"):
        assert set(ours.get(name, {})) <= set(theirs.get(name, {}))
    return not failed


async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, path, *_ = head.split(" ")
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = await reader.readexactly(int(fields.get("content-length", "0")))
        writer.write(answer(method, path, fields, body))
        await writer.drain()
    writer.close()


def answer(method: str, path: str, fields: dict[str, str], body: bytes) -> bytes:
    status, more, said = "200 OK", "", b"hello"
    match path:
        case "/away":
            status, more = "302 Found", "Location: /\r\n"
        case "/cookie" if "seen=yes" not in fields.get("cookie", ""):
            status, more = "302 Found", "Set-Cookie: seen=yes; Path=/cookie\r\nLocation: /cookie\r\n"
        case "/basic" if fields.get("authorization", "").lower() != LOGIN.lower():
            status = "401 No"
        case "/bearer" if fields.get("authorization") != "bearer abc":
            status = "401 No"
        case "/post" if (method, body) != ("POST", b"a=b"):
            status = "404 No"
        case "/host" if fields["host"] != "shop.example":
            status = "404 No"
        case "/agent" if fields["user-agent"] != "mine":
            status = "404 No"
        case "/lines":
            said = b"hello\n"
        case "/gzip":
            said, more = gzip.compress(b"hello"), "Content-Encoding: gzip\r\n"
        case "/chunks":
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            return head + b"5\r\nhello\r\n0\r\n\r\n"
        case "/old":
            return b"HTTP/1.0 200 OK\r\n\r\nhello"
    start = f"HTTP/1.1 {status}\r\nX-Word: hello\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n{more}"
    shown = b"" if method == "HEAD" else said
    return f"{start}Content-Length: {len(said)}\r\nConnection: close\r\n\r\n".encode() + shown


@contextlib.asynccontextmanager
async def serving(handle: Any, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@contextlib.contextmanager
def nobody() -> Iterator[int]:
    """A port on which nobody listens, and nobody else can meanwhile: it is taken."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


WEB: Final = (
    ("plain", "/", True), ("plain", "/away", True), ("plain", "/cookie", True), ("plain", "/chunks", True),
    ("plain", "/old", True), ("plain", "/basic", False), ("teapot", "/", False), ("any", "/basic", True),
    ("version", "/", False), ("words", "/", False), ("hello", "/", True), ("hello", "/lines", False),
    ("posix", "/", True), ("posix", "/lines", False), ("quoted", "/", True), ("forbidden", "/", False),
    ("header", "/", False), ("header_fine", "/", True), ("header_gone", "/", False),
    ("header_loose", "/", True), ("header_loose_not", "/", False),
    ("header_free", "/", True), ("header_wanted", "/", True), ("header_missed", "/", False),
    ("stays", "/away", False), ("stays_happy", "/away", True), ("secure", "/", False),
    ("insecure", "/", True), ("basic", "/basic", True), ("wrong", "/basic", False),
    ("bearer", "/bearer", True), ("post", "/post", True), ("host", "/host", True), ("agent", "/agent", True),
    ("head", "/", True), ("words", "/away", False),
)  # fmt: skip


@pytest.mark.parametrize(("module", "path", "wanted"), WEB, ids=[f"{one}{path}" for one, path, _ in WEB])
async def test_http_modules(pki: Pki, peer: str, module: str, path: str, *, wanted: bool) -> None:
    async with serving(web) as port:
        assert await both(pki, peer, f"http_{module}", f"http://127.0.0.1:{port}{path}") is wanted


async def test_http_without_a_scheme_with_a_login_in_the_url_and_without_a_server(
    pki: Pki, peer: str
) -> None:
    async with serving(web) as port:
        assert await both(pki, peer, "http_plain", f"127.0.0.1:{port}")
        assert await both(pki, peer, "http_plain", f"http://me:s3cret@127.0.0.1:{port}/basic")
    with nobody() as port:
        assert not await both(pki, peer, "http_plain", f"http://127.0.0.1:{port}/")


TLS: Final[tuple[tuple[str, str, Callable[[Pki], ssl.SSLContext], bool], ...]] = (
    ("trusted", "trusting", lambda pki: pki.context(sign("x", by=pki.root)), True),
    ("surplus", "trusting", lambda pki: pki.context(sign("x", by=pki.root), pki.old), True),
    ("unknown", "plain", lambda pki: pki.context(sign("x", by=pki.root)), False),
    ("open", "open", lambda pki: pki.context(sign("x")), True),
    ("other-name", "trusting", lambda pki: pki.context(sign("x", by=pki.root, hosts=("a.test",))), False),
    ("named", "named", lambda pki: pki.context(sign("x", by=pki.root, hosts=("other.test",))), True),
    ("wanted", "secure_fine", lambda pki: pki.context(sign("x", by=pki.root)), True),
    ("unwanted", "insecure_tls", lambda pki: pki.context(sign("x", by=pki.root)), False),
    (
        "expired",
        "trusting",
        lambda pki: pki.context(sign("x", by=pki.root, starts=-9 * DAY, ends=-DAY)),
        False,
    ),
)


@pytest.mark.parametrize(
    ("module", "context", "wanted"), [one[1:] for one in TLS], ids=[one[0] for one in TLS]
)
async def test_https_modules(
    pki: Pki, peer: str, module: str, context: Callable[[Pki], ssl.SSLContext], *, wanted: bool
) -> None:
    async with serving(web, tls=context(pki)) as port:
        assert await both(pki, peer, f"http_{module}", f"https://localhost:{port}/") is wanted


async def test_plain_http_that_leads_to_https_is_secure_in_the_end(pki: Pki, peer: str) -> None:
    async with serving(web, tls=pki.context(sign("x", by=pki.root))) as secure:

        async def leads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(
                f"HTTP/1.1 301 Moved\r\nLocation: https://localhost:{secure}/\r\n"
                "Content-Length: 0\r\nConnection: close\r\n\r\n".encode()
            )
            writer.close()

        async with serving(leads) as port:
            assert await both(pki, peer, "http_secure_fine", f"http://127.0.0.1:{port}/")
            assert not await both(pki, peer, "http_insecure_tls", f"http://127.0.0.1:{port}/")


async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.write(b"WELCOME\nHI Gaia\n")
        said = await reader.readline()
        writer.write(b"you said " + said)
        await writer.drain()
    writer.close()


@pytest.mark.parametrize(
    ("module", "wanted"), [("port", True), ("dialogue", True), ("named", True), ("deaf", False)]
)
async def test_tcp_modules(pki: Pki, peer: str, module: str, *, wanted: bool) -> None:
    async with serving(talk) as port:
        assert await both(pki, peer, f"tcp_{module}", f"127.0.0.1:{port}") is wanted
    with nobody() as port:
        assert not await both(pki, peer, f"tcp_{module}", f"127.0.0.1:{port}")


@pytest.mark.parametrize("module", ["shell", "shell_open"])
async def test_tcp_modules_through_tls(pki: Pki, peer: str, module: str) -> None:
    async with serving(talk, tls=pki.context(sign("x", by=pki.root))) as port:
        assert await both(pki, peer, f"tcp_{module}", f"127.0.0.1:{port}")


def record(kind: int, data: bytes) -> bytes:
    return b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(data)) + data


NAMESERVER = b"\x02ns\xc0\x0c"
RECORDS: Final = {
    1: [record(1, b"\x0a\0\0\x01"), record(1, b"\x0a\0\0\x02")],
    16: [record(16, b'\x03v=1\x04 a"b')],
    15: [record(15, b"\0\x0a\x04Mail\xc0\x0c")],
    33: [record(33, b"\0\x01\0\x02\x1f\x90\xc0\x0c")],
    6: [record(6, NAMESERVER + b"\x02me\xc0\x0c" + struct.pack("!5I", 2026, 2, 3, 4, 5))],
    257: [record(257, b"\0\x05issueca.test")],
}


def whole(question: bytes) -> bytes:
    """Two addresses, or what else was asked for; the name server as authority; its address beside it."""
    end = question.index(b"\0", 12) + 5
    (kind,) = struct.unpack_from("!H", question, end - 4)
    found = RECORDS[kind]
    head = question[:2] + struct.pack("!5H", 0x8180, 1, len(found), 1, 1)
    return head + question[12:end] + b"".join([*found, record(2, NAMESERVER), record(1, b"\x0a\0\0\x35")])


def bare(question: bytes) -> bytes:
    end = question.index(b"\0", 12) + 5
    return question[:2] + struct.pack("!5H", 0x8180, 1, 0, 0, 0) + question[12:end]


def refused(question: bytes) -> bytes:
    return bare(question).replace(b"\x81\x80", b"\x81\x85", 1)


@contextlib.contextmanager
def name_server(reply: Callable[[bytes], bytes]) -> Iterator[str]:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while data := sock.recvfrom(4096):
                if len(data[0]) < 12:
                    return
                sock.sendto(reply(data[0]), data[1])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{sock.getsockname()[1]}"
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"end", sock.getsockname())
        thread.join()
        sock.close()


@pytest.mark.parametrize("module", DNS)
@pytest.mark.parametrize("reply", [whole, bare, refused], ids=lambda reply: reply.__name__)
async def test_dns_modules(pki: Pki, peer: str, module: str, reply: Callable[[bytes], bytes]) -> None:
    with name_server(reply) as address:
        succeeded = await both(pki, peer, module, address)
    if reply is whole:
        assert succeeded is not (module in ("dns_rcode", "dns_none") or module.endswith("_not"))


async def test_a_name_server_that_is_not_there(pki: Pki, peer: str) -> None:
    with nobody() as port:
        assert not await both(pki, peer, "dns_a", f"127.0.0.1:{port}")
