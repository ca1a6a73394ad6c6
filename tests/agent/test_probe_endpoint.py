"""`/probe` answers as blackbox_exporter does, to allowed targets only."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.probe_endpoint import ProbeEndpoint, ProbeRefusedError, places_of
from checks.blackbox_modules import parse_modules
from checks.catalog import ProbeKit
from checks.clock import SystemClock
from checks.resolver import CachingResolver

MODULES = """
modules:
  web: {prober: http, timeout: 3s, http: {preferred_ip_protocol: ip4}}
  teapot: {prober: http, http: {valid_status_codes: [418], preferred_ip_protocol: ip4}}
  login: {prober: http, http: {basic_auth: {username: me, password: sw0rdfish}, preferred_ip_protocol: ip4}}
  host: {prober: http, http: {headers: {host: shop.example}, preferred_ip_protocol: ip4}}
  port: {prober: tcp, tcp: {preferred_ip_protocol: ip4}}
"""


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


async def test_a_failure_says_its_reason_and_debug_tells_the_story() -> None:
    text = await endpoint().probe("http://127.0.0.1:1/", "web")
    assert 'probe_failure_info{reason="connection_refused"} 1' in text
    assert "probe_success 0" in text
    story = await endpoint().probe("http://127.0.0.1:1/?token=x", "web", debug=True)
    assert "refuses connections" in story
    assert "token=x" not in story


async def test_debug_shows_the_module_as_it_was_understood_without_its_secrets() -> None:
    async with serving(web) as port:
        story = await endpoint().probe(f"http://me:hunter22@127.0.0.1:{port}/?key=abc", "login", debug=True)
    assert "\nModule configuration:\n" in story
    assert "  auth: {basic: {username: me, password: ***" in story
    assert not re.search("sw0rdfish|hunter22|key=abc", story)


async def test_a_hostname_is_asked_for_at_the_targets_address() -> None:
    heads: list[str] = []

    async def listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with serving(listens) as port:
        target = f"http://127.0.0.1:{port}/"
        await endpoint().probe(target, "web", hostname="shop.example")
        await endpoint().probe(target, "host", hostname="shop.example")
        with pytest.raises(ProbeRefusedError, match="contradicts the Host header"):
            await endpoint().probe(target, "host", hostname="other.example")
    assert [re.findall("^host: .*$", head, re.MULTILINE) for head in heads] == [["host: shop.example\r"]] * 2


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


WRONG = {
    "ping": ("{prober: icmp}", "prober: icmp is not supported: a ping needs rights the agent does not have"),
    "remote": ("{prober: grpc}", "prober: grpc is not supported: look at the service's HTTP health"),
    "nothing": ("{http: {}}", "prober: None is not supported: use http, tcp, dns"),
    "proxied": ("{prober: http, http: {proxy_url: 'http://proxy'}}", "http.proxy_url: not supported"),
    "typo": ("{prober: http, http: {valid_status_cods: [200]}}", "http.valid_status_cods: not supported"),
    "broken": (
        "{prober: http, http: {fail_if_body_matches_regexp: ['(']}}",
        'http.fail_if_body_matches_regexp: "(" is no regular expression',
    ),
    "ahead": (
        "{prober: http, http: {fail_if_body_matches_regexp: ['(?=a)']}}",
        'http.fail_if_body_matches_regexp: "(?=a)": (?= is not supported here',
    ),
    "one": ("{prober: http, http: {valid_status_codes: 200}}", "http.valid_status_codes: a list is expected"),
    "text": ("{prober: http, http: {basic_auth: me}}", "http.basic_auth: a table is expected"),
    "digest": (
        "{prober: http, http: {authorization: {type: Digest, credentials: x}}}",
        "http.authorization.type: only Bearer is supported: use headers",
    ),
    "both": ("{prober: http, http: {fail_if_ssl: true, fail_if_not_ssl: true}}", "nothing that succeeds"),
    "twice": (
        "{prober: http, http: {fail_if_header_matches: [{header: A, regexp: b}, {header: A, regexp: c}]}}",
        "http.fail_if_header_matches: two rules for the header A are not supported",
    ),
    "chaos": ("{prober: dns, dns: {query_name: a.test, query_class: CH}}", "dns.query_class: only IN"),
    "section": (
        "{prober: dns, dns: {query_name: a.test, validate_answer_rrs: {fail_if_any: [a]}}}",
        "dns.validate_answer_rrs.fail_if_any: not supported",
    ),
    "labels": (
        "{prober: tcp, tcp: {query_response: [{expect: a, labels: [{name: b, value: c}]}]}}",
        "tcp.query_response[0].labels: not supported",
    ),
    "time": ("{prober: tcp, timeout: 5}", ""),
    "times": ("{prober: tcp, timeout: soon}", 'timeout: "soon" is not a duration'),
}  # fmt: skip


def test_what_a_module_asks_for_and_cannot_have_is_reported() -> None:
    written = "".join(f"  {name}: {text}\n" for name, (text, _) in WRONG.items())
    found = parse_modules(msgspec.yaml.decode(f"modules:\n{written}"))
    assert list(found.usable) == ["time"]
    for name, (_, words) in WRONG.items():
        assert words in found.problems.get(name, ""), name
        assert found.problems.get(name, "modules.").startswith("modules."), name
