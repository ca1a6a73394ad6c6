"""The tcp, dns and exec checks against real servers and real programs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import sys
from collections.abc import AsyncIterator, Callable
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
from tests.waiting import until

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


async def probe(name: str, options: dict[str, Any], address: str = "it") -> Finding:
    kit = ProbeKit(clock=SystemClock(), resolver=CachingResolver())
    found = kind(name)
    key = TargetKey(env="test", service="s", check=name, vantage="here")
    target = Target(key=key, kind=Kind.SERVICE, address=address)
    table = msgspec.convert(
        {"timeout": 1.0, **options}, found.options, dec_hook=lambda hint, value: hint(value)
    )
    check = found.build(target, table, kit)
    try:
        return (await observe(check, target, deadline_s=3, clock=kit.clock)).finding
    finally:
        await check.close()


def verdict(finding: Finding) -> str:
    return f"{finding.state} {finding.reason}"


@contextlib.asynccontextmanager
async def serving(handle: Handler) -> AsyncIterator[str]:
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def says(*lines: bytes, listen: bool = False) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            for line in lines:
                writer.write(line)
            await writer.drain()
            if listen:
                await reader.read()
        writer.close()

    return handle


HI = [{"expect": "^HI"}]
TALKS: tuple[tuple[str, Handler, list[Any], str], ...] = (
    ("accepts", says(), [], "up ok"),
    ("greets", says(b"WAIT\nHI there\n"), HI, "up ok"),
    ("greets-crlf", says(b"HI\r\n"), [{"expect": "^HI$"}], "up ok"),
    ("other-words", says(b"BYE\n"), HI, "down body_match"),
    ("silent-end", says(), HI, "down body_match"),
    ("silent", says(listen=True), HI, "down timeout"),
    ("endless-line", says(b"a" * 200_000, listen=True), HI, "down body_too_large"),
)


@pytest.mark.parametrize(
    ("handle", "dialogue", "wanted"), [case[1:] for case in TALKS], ids=[case[0] for case in TALKS]
)
async def test_a_dialogue_gets_its_verdict(handle: Handler, dialogue: list[Any], wanted: str) -> None:
    async with serving(handle) as address:
        finding = await probe("tcp", {"address": address, "dialogue": dialogue, "timeout": 0.3}, address)
    assert verdict(finding) == wanted, finding.message


@pytest.mark.parametrize(
    ("handle", "words"),
    [
        (says(b"-ERR unknown\n", listen=True), 'said "-ERR unknown" and nothing like ^HI within '),
        (says(listen=True), "sent no line like ^HI within "),
        (says(b"BYE\n"), 'ended without a line that matches ^HI, last said "BYE"'),
    ],
)
async def test_a_dialogue_that_goes_wrong_says_what_was_said(handle: Handler, words: str) -> None:
    async with serving(handle) as address:
        finding = await probe("tcp", {"address": address, "dialogue": HI, "timeout": 0.3}, address)
    assert words in finding.message


async def test_nobody_listening_is_hard_evidence() -> None:
    finding = await probe("tcp", {"address": "127.0.0.1:1"}, "127.0.0.1:1")
    assert (verdict(finding), finding.hard) == ("down connection_refused", True)
    assert finding.message == "127.0.0.1:1 refuses connections: nobody listens there"


class Server(asyncio.DatagramProtocol):
    """A name server that answers by `answer(question bytes) -> reply bytes, ...`."""

    def __init__(self, answer: Callable[[bytes], tuple[bytes, ...]]) -> None:
        self._answer = answer
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for reply in self._answer(data):
            self._transport.sendto(reply, addr)


def reply(
    question: bytes, *addresses: bytes, flags: int = 0x8180, identity: bytes = b"", ttl: int = 60
) -> bytes:
    end = question.index(b"\0", 12) + 5
    head = (identity or question[:2]) + struct.pack("!5H", flags, 1, len(addresses), 0, 0)
    records = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, ttl, 4) + one for one in addresses)
    return head + question[12:end] + records


ONE, TWO = b"\x0a\0\0\x01", b"\x0a\0\0\x02"


def other_question(question: bytes) -> bytes:
    return reply(question.replace(b"example", b"Fxample"), TWO)


ANSWERS: tuple[tuple[str, Callable[[bytes], tuple[bytes, ...]], dict[str, Any], str], ...] = (
    ("right", lambda q: (reply(q, ONE),), {}, "up ok"),
    ("matches", lambda q: (reply(q, ONE, TWO),), {"answers": [r"^10\.0\.0\.2$"]}, "up ok"),
    ("matches-not", lambda q: (reply(q, ONE),), {"answers": [r"^10\.0\.0\.2$"]}, "down body_match"),
    ("one-too-many", lambda q: (reply(q, ONE, TWO),), {"answers": [r"1$"], "only": True}, "down body_match"),
    ("ttl", lambda q: (reply(q, ONE, ttl=5),), {"min_ttl": 60}, "down body_match"),
    ("empty", lambda q: (reply(q),), {}, "down dns"),
    ("nxdomain", lambda q: (reply(q, flags=0x8183),), {}, "down dns"),
    ("nxdomain-wanted", lambda q: (reply(q, flags=0x8183),), {"rcode": ["NXDOMAIN"]}, "up ok"),
    ("servfail", lambda q: (reply(q, flags=0x8182),), {}, "down dns"),
    (
        "stray-identity",
        lambda q: (reply(q, TWO, identity=b"zz"), reply(q, ONE)),
        {"answers": ["1$"]},
        "up ok",
    ),
    ("stray-question", lambda q: (other_question(q), reply(q, ONE)), {"answers": ["1$"]}, "up ok"),
    ("only-strays", lambda q: (reply(q, TWO, identity=b"zz"),), {}, "down timeout"),
    ("no-response-bit", lambda q: (reply(q, ONE, flags=0x0100),), {}, "down timeout"),
    ("silent", lambda _: (), {}, "down timeout"),
    ("garbage", lambda q: (q[:2] + b"\xff" * 30,), {}, "down protocol"),
    ("cut", lambda q: (reply(q, ONE)[:-2],), {}, "down protocol"),
    ("record-loop", lambda q: (reply(q, ONE).replace(b"\xc0\x0c", b"\xc0\x1d"),), {}, "down protocol"),
)


RULES: tuple[tuple[dict[str, Any], str], ...] = (
    ({"answer_records": {"each": [r"^example\.org\.\t60\tIN\tA\t10\."]}}, "up ok"),
    ({"answer_records": {"each": ["1$"]}}, "has example.org. 60 IN A 10.0.0.2, not like 1$"),
    ({"answer_records": {"none": ["2$"]}}, "has example.org. 60 IN A 10.0.0.2, like 2$"),
    ({"answer_records": {"some": ["7$", "2$"]}}, "up ok"),
    ({"answer_records": {"some": ["7$", "8$"]}}, "has no record like 7$ or 8$"),
    ({"authority_records": {"each": ["NS"]}}, "authority section has no record at all, expected one like NS"),
    ({"authority_records": {"all": ["NS"], "none": ["A"]}}, "up ok"),
    ({"additional_records": {"some": ["A"]}}, "additional section has no record like A"),
)


@pytest.mark.parametrize(("options", "wanted"), RULES)
async def test_each_section_of_an_answer_can_be_judged(options: dict[str, Any], wanted: str) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: Server(lambda q: (reply(q, ONE, TWO),)), local_addr=("127.0.0.1", 0)
    )
    table = {"server": "127.0.0.1", "port": transport.get_extra_info("sockname")[1], "name": "example.org"}
    finding = await probe("dns", {**table, **options})
    transport.close()
    if wanted == "up ok":
        assert verdict(finding) == wanted, finding.message
    else:
        assert verdict(finding) == "down body_match"
        assert wanted in finding.message


@pytest.mark.parametrize(
    ("answer", "options", "wanted"), [case[1:] for case in ANSWERS], ids=[str(case[0]) for case in ANSWERS]
)
async def test_an_answer_of_a_name_server_gets_its_verdict(answer: Any, options: Any, wanted: str) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Server(answer), local_addr=("127.0.0.1", 0))
    table = {"server": "127.0.0.1", "port": transport.get_extra_info("sockname")[1], "name": "example.org"}
    finding = await probe("dns", {**table, "timeout": 0.3, **options})
    transport.close()
    assert verdict(finding) == wanted, finding.message


# Why blackbox_exporter's verdict differs where it does.
DIFFERS = {
    "matches-not": "its module has no such condition here",
    "one-too-many": "its module has no such condition here",
    "ttl": "it knows no shortest TTL",
    "empty": "to it an empty answer is a right one",
    "stray-identity": "it takes the first packet that comes for the answer",
    "stray-question": "it takes the first packet that comes for the answer",
    "no-response-bit": "it takes the first packet that comes for the answer",
}


async def test_blackbox_exporter_gets_no_dns_answer_right_that_we_get_wrong(tmp_path: Path) -> None:
    """Its verdict is the same as ours, which the table holds to be right, or is listed with the reason."""
    modules = {
        str(name): {
            "prober": "dns",
            "timeout": "300ms",
            "dns": {
                "query_name": "example.org",
                "query_type": "A",
                "preferred_ip_protocol": "ip4",
                "valid_rcodes": options.get("rcode", ["NOERROR"]),
            },
        }
        for name, _, options, _ in ANSWERS
    }
    differing = set()
    with blackbox_exporter(msgspec.json.encode({"modules": modules}).decode(), tmp_path) as base:
        for name, answer, _, wanted in ANSWERS:
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda answer=answer: Server(answer),  # type: ignore[misc] # mypy reads no defaults here
                local_addr=("127.0.0.1", 0),
            )
            port = transport.get_extra_info("sockname")[1]
            said = await asyncio.to_thread(ask, base, name, f"127.0.0.1:{port}")
            transport.close()
            if ("\nprobe_success 1" in said) != wanted.startswith("up"):
                differing.add(name)
    assert differing <= set(DIFFERS)


async def test_a_truncated_answer_is_asked_again_over_tcp() -> None:
    async def whole(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        data = reply(question, ONE, TWO)
        writer.write(len(data).to_bytes(2, "big") + data)
        await writer.drain()
        writer.close()

    loop = asyncio.get_running_loop()
    async with serving(whole) as address:
        port = int(address.rpartition(":")[2])
        transport, _ = await loop.create_datagram_endpoint(
            lambda: Server(lambda q: (reply(q, flags=0x8380),)), local_addr=("127.0.0.1", port)
        )
        options = {"server": "127.0.0.1", "port": port, "name": "example.org", "min_answers": 2}
        finding = await probe("dns", options)
        transport.close()
    assert verdict(finding) == "up ok", finding.message
    assert {time.phase.value for time in finding.phases} == {"connect", "processing"}


async def test_a_closed_port_is_told_as_refused() -> None:
    finding = await probe("dns", {"server": "127.0.0.1", "port": 1, "name": "example.org"})
    assert verdict(finding) == "down connection_refused"


def script(code: str) -> list[str]:
    return [sys.executable, "-c", code]


PLUGINS = (
    ("ok", "print('OK - fine | t=20ms;1;2')", "up ok", "it says: OK - fine"),
    ("warning", "print('low'); raise SystemExit(1)", "degraded exec", "it says: low"),
    ("critical", "print('gone'); raise SystemExit(2)", "down exec", "it says: gone"),
    ("unknown", "raise SystemExit(3)", "unknown exec", "it says: nothing"),
    ("other-code", "print('?'); raise SystemExit(77)", "unknown exec", "it says: ended with exit code 77: ?"),
    (
        "killed",
        "import os; os.kill(os.getpid(), 9)",
        "unknown exec",
        "it says: was ended by signal 9: nothing",
    ),
    ("endless", "while True: print('x' * 1000)", "unknown timeout", ""),
    ("sleeps", "import time; time.sleep(60)", "unknown timeout", ""),
    ("large", "print('y' * 10_000_000)", "up ok", ""),
    ("binary", "import sys; sys.stdout.buffer.write(bytes(range(256)))", "up ok", ""),
)


@pytest.mark.parametrize(
    ("code", "wanted", "message"), [case[1:] for case in PLUGINS], ids=[case[0] for case in PLUGINS]
)
async def test_a_plug_in_gets_its_verdict(code: str, wanted: str, message: str) -> None:
    finding = await probe("exec", {"command": script(code)})
    assert verdict(finding) == wanted, finding.message
    if message:
        assert finding.message == message
    assert all(len(fact.value) <= 500 for fact in finding.evidence)


async def test_performance_data_becomes_measures() -> None:
    finding = await probe("exec", {"command": script(PLUGINS[0][1])})
    (measure,) = finding.measures
    assert (measure.name, measure.value) == ("gaia_exec_performance", 0.02)
    assert measure.labels == (("label", "t"), ("unit", "seconds"))


async def test_a_program_that_is_not_there_is_a_matter_of_configuration() -> None:
    assert verdict(await probe("exec", {"command": ["/nonexistent/check"]})) == "unknown config"


async def test_what_a_plug_in_started_dies_with_it(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = (
        "import subprocess, sys, time, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(note)!r}).write_text(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    assert verdict(await probe("exec", {"command": script(code)})) == "unknown timeout"
    pid = int(note.read_text())

    def gone() -> bool:
        state = Path(f"/proc/{pid}/stat")
        return not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"

    await until(gone, what="the grandchild's end")


async def test_a_plug_in_that_hangs_is_not_known_whoever_counts_the_time() -> None:
    kit = ProbeKit(clock=SystemClock(), resolver=CachingResolver())
    asked = msgspec.convert(
        {"command": script("import time; time.sleep(60)"), "timeout": 0.5},
        kind("exec").options,
        dec_hook=lambda hint, value: hint(value),
    )
    key = TargetKey(env="test", service="s", check="exec", vantage="here")
    target = Target(key=key, kind=Kind.SERVICE, address="it")
    check = kind("exec").build(target, asked, kit)
    finding = (await observe(check, target, deadline_s=0.5, clock=kit.clock)).finding
    assert verdict(finding) == "unknown timeout"
    assert finding.message.endswith("did not end within 500ms and was stopped")


async def test_a_plug_in_that_gets_no_turn_says_so_of_the_agent() -> None:
    hangs = {"command": script("import time; time.sleep(60)"), "timeout": 1.0}
    busy = [asyncio.create_task(probe("exec", hangs)) for _ in range(8)]
    await asyncio.sleep(0)
    late = await probe("exec", {"command": script("print('OK')"), "timeout": 0.2})
    await asyncio.gather(*busy)
    assert verdict(late) == "unknown agent"
    assert late.message.endswith("had no turn within 200ms: too many plug-ins are due at once")


async def test_only_the_named_environment_reaches_a_plug_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAIA_TEST_SECRET", "do-not-leak")
    code = "import os; print(sorted(set(os.environ) - {'PATH', 'HOME', 'LANG', 'LC_ALL', 'TZ', 'TMPDIR'}))"
    finding = await probe("exec", {"command": script(code), "environment": {"KEY": "value"}})
    assert "GAIA_TEST_SECRET" in os.environ
    assert "GAIA_TEST_SECRET" not in finding.message
    assert "KEY" in finding.message
