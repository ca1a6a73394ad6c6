"""What every kind of check promises: its deadline, its cancellation, its secrets, its measures.

A new kind needs one line in `TABLES`: its options against a server on `port` (TCP, and UDP for dns).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from checks import catalog
from checks.catalog import CheckKind, ProbeKit, kind, names
from checks.check import Check
from checks.clock import SystemClock
from checks.finding import Finding, State
from checks.observation import Observation, observe
from checks.reason import Reason
from checks.resolver import CachingResolver
from checks.secret import Secret
from checks.target import Kind, Target, TargetKey
from checks.units import Duration
from tests.flown import flown
from tests.waiting import until

SECRET = "s3cr3t-do-not-show"
DEADLINE_S = 0.3
SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]

# What each kind is told to look at; `ours` names the kinds that look at no server.
TABLES: dict[str, Callable[[int, Path], dict[str, Any]]] = {
    "http": lambda port, _: {
        "url": f"http://127.0.0.1:{port}/?key={SECRET}",
        "headers": {"X-Key": SECRET},
        "auth": {"bearer": SECRET},
    },
    "tls": lambda port, _: {"address": f"127.0.0.1:{port}"},
    "tcp": lambda port, _: {"address": f"127.0.0.1:{port}", "dialogue": [{"send": SECRET, "expect": "^hi$"}]},
    "dns": lambda port, _: {"server": "127.0.0.1", "port": port, "name": "example.org"},
    "exec": lambda _, __: {"command": SLEEPER, "environment": {"KEY": SECRET}},
    "postgres": lambda port, _: {"url": f"postgres://user:{SECRET}@127.0.0.1:{port}/db"},
    "nats": lambda port, _: {"url": f"nats://user:{SECRET}@127.0.0.1:{port}"},
    "host": lambda _, __: {},
    "machines": lambda port, _: {
        "app": "gaia-test",
        "token": SECRET,
        "api_url": f"http://127.0.0.1:{port}",
        "nameserver": "127.0.0.1",
        "nameserver_port": port,
    },
    "network": lambda port, _: {
        "ways": [{"name": "here", "url": f"http://127.0.0.1:{port}", "route": "private"}]
    },
    "backups": lambda _, folder: {"catalogue": str(folder / "catalogue.json")},
}
LOCAL = {"exec", "host", "backups"}
REMOTE = [name for name in names() if name not in LOCAL]

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        await reader.read()
        await reader.read()
    writer.close()


async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    del reader
    writer.close()


async def babbling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while not writer.is_closing():
            writer.write(b"\x00\xffbabble {}\r\n" * 100)
            await writer.drain()
            await asyncio.sleep(0.001)
    reader.feed_eof()


async def echoing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends back what it gets: a secret that was sent comes back in the answer."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


class Deaf(asyncio.DatagramProtocol):
    """A UDP server that never answers."""


@contextlib.asynccontextmanager
async def listening(handle: Handler) -> AsyncIterator[tuple[int, list[object]]]:
    """A port, and every connection it had."""
    connections: list[object] = []

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await handle(reader, writer)

    server = await asyncio.start_server(counted, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    deaf, _ = await asyncio.get_running_loop().create_datagram_endpoint(Deaf, local_addr=("127.0.0.1", port))
    try:
        yield port, connections
    finally:
        deaf.close()
        server.close()


def decoded(hint: type, value: Any) -> Any:
    if hint is Duration and isinstance(value, str):
        return Duration.parse(value)
    return hint(value)


def built(name: str, port: int, folder: Path) -> tuple[Check, Target, ProbeKit]:
    found = kind(name)
    kit = ProbeKit(clock=SystemClock(), resolver=CachingResolver())
    key = TargetKey(env="production", service="it", check=name, vantage="here")
    target = Target(key=key, kind=Kind.SERVICE, address=f"127.0.0.1:{port}")
    table = msgspec.convert(TABLES[name](port, folder), found.options, dec_hook=decoded)
    return found.build(target, table, kit), target, kit


async def look(name: str, port: int, folder: Path, *, deadline_s: float = DEADLINE_S) -> Observation:
    check, target, kit = built(name, port, folder)
    try:
        take = flown if kind(name).taskless else observe
        return await take(check, target, deadline_s=deadline_s, clock=kit.clock)
    finally:
        await check.close()


def open_files() -> int:
    gc.collect()
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_every_kind_has_its_line_here() -> None:
    assert set(TABLES) == set(names())


@pytest.mark.parametrize("name", names())
def test_a_kind_is_what_the_catalog_says(name: str) -> None:
    found = kind(name)
    assert isinstance(found, CheckKind)
    assert found.name == name
    config = found.options.__struct_config__
    assert (config.frozen, config.forbid_unknown_fields) == (True, True)
    series = [measure.name for measure in found.measures]
    assert len(series) == len(set(series))
    for measure in found.measures:
        assert measure.name.startswith(("probe_", "gaia_"))
        assert measure.help.endswith(".")
        assert not {"env", "service", "check", "vantage", "instance", "app", "region"} & set(measure.labels)


@pytest.mark.parametrize("name", names())
async def test_the_deadline_is_kept(name: str, tmp_path: Path) -> None:
    async with listening(silent) as (port, _):
        started = asyncio.get_running_loop().time()
        seen = await look(name, port, tmp_path)
        took_s = asyncio.get_running_loop().time() - started
    assert took_s < DEADLINE_S + 0.5
    assert seen.finding.reason is not Reason.AGENT, seen.finding
    if name in REMOTE:
        assert seen.finding.state not in (State.UP, State.DEGRADED)


@pytest.mark.parametrize("name", names())
async def test_a_cancelled_look_ends_at_once_and_leaves_nothing_open(name: str, tmp_path: Path) -> None:
    async with listening(silent) as (port, connections):
        await look(name, port, tmp_path)  # what is made once per process is made now
        before = open_files()
        for _ in range(3):
            check, _, _ = built(name, port, tmp_path)
            met = len(connections)
            task = asyncio.create_task(check.probe())
            if name in REMOTE and name not in ("dns", "machines"):
                await until(lambda met=met: len(connections) > met)  # type: ignore[misc] # a default binds it
            else:
                await asyncio.sleep(0)
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=1.0)
            assert done
            await check.close()
        for connection in connections:
            connection.close()  # type: ignore[attr-defined] # StreamWriters, kept as objects
        await until(lambda: open_files() <= before, what="all files closed")


@pytest.mark.parametrize("handle", [closing, babbling, echoing], ids=lambda handle: str(handle.__name__))
@pytest.mark.parametrize("name", REMOTE)
async def test_what_is_not_the_right_server_is_never_up_and_never_a_defect(
    name: str, handle: Handler, tmp_path: Path
) -> None:
    async with listening(handle) as (port, _):
        seen = await look(name, port, tmp_path)
    assert seen.finding.reason is not Reason.AGENT, seen.finding
    if name != "network":
        assert seen.finding.state is not State.UP, seen.finding


@pytest.mark.parametrize(
    "handle", [silent, closing, babbling, echoing], ids=lambda handle: str(handle.__name__)
)
@pytest.mark.parametrize("name", names())
async def test_no_secret_is_in_a_finding_or_in_the_options_shown(
    name: str, handle: Handler, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(handle) as (port, _):
        seen = await look(name, port, tmp_path)
        table = msgspec.convert(TABLES[name](port, tmp_path), kind(name).options, dec_hook=decoded)
    assert SECRET not in repr(seen.finding)
    assert SECRET not in caplog.text
    assert SECRET not in repr(table).replace(f"?key={SECRET}", "")


@pytest.mark.parametrize("name", names())
async def test_measures_are_declared(name: str, tmp_path: Path) -> None:
    declared = {
        series: labels for measure in kind(name).measures for series, labels in measure.series.items()
    }
    for handle in (silent, closing, babbling):
        async with listening(handle) as (port, _):
            finding: Finding = (await look(name, port, tmp_path)).finding
        for measure in finding.measures:
            assert tuple(label for label, _ in measure.labels) == declared[measure.name]


def test_an_unknown_kind_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        catalog.kind("absent")


def test_a_secret_is_not_a_string() -> None:
    assert not isinstance(Secret(SECRET), str)
