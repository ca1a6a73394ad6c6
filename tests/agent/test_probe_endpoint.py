"""`/probe` answers as blackbox_exporter does, to allowed targets only."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.probe_endpoint import ProbeEndpoint, ProbeRefusedError, places_of
from checks.blackbox_modules import parse_modules
from checks.catalog import ProbeKit
from checks.clock import SystemClock
from checks.resolver import CachingResolver
from tests.waiting import until_sync

BLACKBOX = shutil.which("prometheus-blackbox-exporter") or shutil.which("blackbox_exporter")
MODULES = """
modules:
  web: {prober: http, timeout: 3s, http: {preferred_ip_protocol: ip4}}
  teapot: {prober: http, http: {valid_status_codes: [418], preferred_ip_protocol: ip4}}
  words: {prober: http, http: {fail_if_body_not_matches_regexp: [absent], preferred_ip_protocol: ip4}}
  header:
    prober: http
    http: {fail_if_header_matches: [{header: X-Word, regexp: hello}], preferred_ip_protocol: ip4}
  port: {prober: tcp, tcp: {preferred_ip_protocol: ip4}}
  dialogue:
    prober: tcp
    tcp:
      preferred_ip_protocol: ip4
      query_response: [{expect: "^HI (.*)"}, {send: "I am ${1}"}, {expect: "^you"}]
"""
# Different by design: ours has no line for what was not measured, and says why it failed.
OURS_ONLY = {"probe_failure_info", "probe_tls_cipher_info"}
THEIRS_ONLY = {"probe_dns_lookup_time_seconds", "probe_http_duration_seconds"}


async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status = "302 Found\r\nLocation: /" if head.startswith("GET /away ") else "200 OK"
        writer.write(
            f"HTTP/1.1 {status}\r\nX-Word: hello\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\n"
            "Content-Length: 5\r\nConnection: close\r\n\r\nhello".encode()
        )
        await writer.drain()
    writer.close()


async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.write(b"WELCOME\nHI Gaia\n")
        said = await reader.readline()
        writer.write(b"you said " + said)
        await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def serving(handle: object) -> AsyncIterator[int]:
    server = await asyncio.start_server(handle, "127.0.0.1", 0)  # type: ignore[arg-type] # two kinds of handler
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def endpoint(*allowed: str) -> ProbeEndpoint:
    kit = ProbeKit(clock=SystemClock(), resolver=CachingResolver())
    modules = msgspec.yaml.decode(MODULES)["modules"]
    return ProbeEndpoint.of(kit, allowed=allowed or ("127.0.0.1:*",), modules=modules)


def values(text: str) -> dict[str, dict[str, float]]:
    return {
        family.name: {
            ",".join(f"{k}={v}" for k, v in sorted(s.labels.items())): s.value for s in family.samples
        }
        for family in text_string_to_metric_families(text)
    }


@pytest.fixture(scope="module")
def blackbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if BLACKBOX is None:
        pytest.skip("prometheus-blackbox-exporter is not installed")
    config = tmp_path_factory.mktemp("blackbox") / "blackbox.yml"
    config.write_text(MODULES)
    with socket.create_server(("127.0.0.1", 0)) as server:
        base = f"http://127.0.0.1:{server.getsockname()[1]}"
    listen = f"--web.listen-address={base.removeprefix('http://')}"
    process = subprocess.Popen(
        [BLACKBOX, f"--config.file={config}", listen, "--log.level=error"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def up() -> bool:
        try:
            with urllib.request.urlopen(f"{base}/-/healthy", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        until_sync(up, within_s=10, what="blackbox_exporter")
        yield base
    finally:
        process.kill()
        process.wait()


def ask(base: str, module: str, target: str) -> str:
    query = urllib.parse.urlencode({"module": module, "target": target})
    with urllib.request.urlopen(f"{base}/probe?{query}", timeout=10) as answer:
        text: str = answer.read().decode()
        return text


CASES = (("web", "/"), ("web", "/away"), ("teapot", "/"), ("words", "/"), ("header", "/"))


@pytest.mark.parametrize(("module", "path"), CASES, ids=[module + path for module, path in CASES])
async def test_the_same_series_with_the_same_values_as_blackbox_exporter(
    blackbox: str, module: str, path: str
) -> None:
    async with serving(web) as port:
        target = f"http://127.0.0.1:{port}{path}"
        ours = values(await endpoint().probe(target, module))
        theirs = values(await asyncio.to_thread(ask, blackbox, module, target))
    assert set(theirs) - set(ours) <= THEIRS_ONLY
    assert set(ours) - set(theirs) <= OURS_ONLY
    same = {name for name in theirs if "duration" not in name and name in ours}
    assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}


@pytest.mark.parametrize(("module", "handle"), [("port", web), ("dialogue", talk)])
async def test_tcp_modules_agree_with_blackbox_exporter(blackbox: str, module: str, handle: object) -> None:
    async with serving(handle) as port:
        ours = values(await endpoint().probe(f"127.0.0.1:{port}", module))
        theirs = values(await asyncio.to_thread(ask, blackbox, module, f"127.0.0.1:{port}"))
    assert ours["probe_success"] == theirs["probe_success"] == {"": 1.0}
    assert set(theirs) - set(ours) <= THEIRS_ONLY
    assert ours["probe_ip_addr_hash"] == theirs["probe_ip_addr_hash"]


async def test_a_failure_says_its_reason_and_debug_tells_the_story() -> None:
    text = await endpoint().probe("http://127.0.0.1:1/", "web")
    assert 'probe_failure_info{reason="connection_refused"} 1' in text
    assert "probe_success 0" in text
    story = await endpoint().probe("http://127.0.0.1:1/?token=x", "web", debug=True)
    assert "refuses connections" in story
    assert "token=x" not in story


@pytest.mark.parametrize(
    ("target", "module", "status", "words"),
    [
        ("http://10.0.0.1/", "web", 403, "10.0.0.1:80 is not among probe_targets"),
        ("file:///etc/passwd", "web", 400, "no target"),
        ("", "web", 400, "Target parameter is missing"),
        ("http://127.0.0.1/", "absent", 400, 'Unknown module "absent"'),
        ("127.0.0.1", "port", 400, "has no port"),
    ],
)
async def test_what_may_not_be_probed_is_refused(target: str, module: str, status: int, words: str) -> None:
    with pytest.raises(ProbeRefusedError, match=re.escape(words)) as refused:
        await endpoint().probe(target, module)
    assert refused.value.status == status


async def test_a_redirect_does_not_lead_out_of_the_allowed_targets() -> None:
    async with serving(web) as port:
        text = await endpoint(f"127.0.0.1:{port}").probe(f"http://127.0.0.1:{port}/away", "web")
        assert "probe_success 1" in text

    async def leads_away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with serving(leads_away) as port:
        text = await endpoint().probe(f"http://127.0.0.1:{port}/", "web")
    assert 'probe_failure_info{reason="redirect_invalid"} 1' in text


async def test_the_scrape_timeout_shortens_the_probe() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with serving(silent) as port:
        text = await endpoint().probe(f"http://127.0.0.1:{port}/", "web", scrape_timeout_s=0.8)
    assert values(text)["probe_duration_seconds"][""] == pytest.approx(0.3, abs=0.15)
    assert 'reason="timeout"' in text


def test_without_a_list_the_targets_of_the_file_may_be_probed_and_nothing_else() -> None:
    places = places_of(["http://a.test/health", "https://b.test/", "db:5432", "[::1]:80", "local", "x:y"])
    assert places == ("a.test:80", "b.test:443", "db:5432", "[[]::1]:80")
    assert endpoint(*places).allows("::1", 80)
    assert not endpoint(*places).allows("a.test", 443)


def test_own_modules_win_over_the_well_known_ones() -> None:
    kit = ProbeKit(clock=SystemClock(), resolver=CachingResolver())
    found = ProbeEndpoint.of(kit, allowed=(), modules={"http_2xx": {"prober": "tcp"}}).modules.usable
    assert {name: module.kind for name, module in found.items()} == {
        "http_2xx": "tcp",
        "http_post_2xx": "http",
        "tcp_connect": "tcp",
    }


def test_what_a_module_asks_for_and_cannot_have_is_reported() -> None:
    found = parse_modules(
        msgspec.yaml.decode(
            "modules:\n"
            "  ping: {prober: icmp}\n"
            "  proxied: {prober: http, http: {proxy_url: 'http://proxy'}}\n"
            "  typo: {prober: http, http: {valid_status_cods: [200]}}\n"
            "  broken: {prober: http, http: {fail_if_body_matches_regexp: ['(']}}\n"
            "  fine: {prober: dns, timeout: 2s, dns: {query_name: example.org, query_type: SOA}}\n"
        )
    )
    assert list(found.usable) == ["fine"]
    assert found.problems == {
        "ping": "modules.ping.prober: icmp is not supported: use http, tcp, dns",
        "proxied": "modules.proxied.http.proxy_url: not supported",
        "typo": "modules.typo.http.valid_status_cods: not supported",
        "broken": found.problems["broken"],
    }
    assert "no regular expression" in found.problems["broken"]
