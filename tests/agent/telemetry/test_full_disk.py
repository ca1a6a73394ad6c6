"""A disk that is really full, and one that fails: what was acknowledged is kept, the rest asked for again."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from agent.local.ports import free_ports
from agent.telemetry.reserve import Reserve
from agent.telemetry.signals import Signal
from tests.agent.telemetry.backend import ACCEPT, Backend, Verdict, backend
from tests.agent.telemetry.otlp import Response, post, running, traces
from tests.agent.telemetry.test_crash import span_ids
from tests.waiting import until

UNSHARE = shutil.which("unshare")
MOUNT = (str(UNSHARE), "-rm", "mount", "-t", "tmpfs", "none", "/mnt")
MAY_MOUNT = UNSHARE is not None and subprocess.run(MOUNT, check=False, capture_output=True).returncode == 0
SCRIPT = """\
mkdir -p "$0" && mount -t tmpfs -o size=4m none "$0" &&
exec "$1" -m tests.agent.telemetry.child_intake "$0" "$2" "$3"
"""
CHILD = '-m tests.agent.telemetry.child_intake "$0" "$2" "$3"'
AGENT = """\
platform: shop
environments: {{production: {{alias: prod, check_interval: 1s}}}}
services: {{web: {{url: "http://127.0.0.1:{target}", health: /}}}}
agent: {{listen: "127.0.0.1:{web}", otlp_listen: "127.0.0.1:{otlp}", data_dir: "{data}"}}
telemetry:
  keep_free: 0B
  destinations: {{away: {{url: "http://127.0.0.1:1"}}}}
"""
BODY_SPANS = 400


@asynccontextmanager
async def small_disk(directory: Path, port: int, url: str) -> AsyncIterator[None]:
    """An intake of its own whose directory is a file system of 4 MiB."""
    assert UNSHARE is not None
    child = await asyncio.create_subprocess_exec(
        UNSHARE, "-rm", "sh", "-c", SCRIPT, str(directory), sys.executable, str(port), url
    )
    try:
        yield
    finally:
        child.kill()
        await child.wait()


async def answer(port: int, body: bytes) -> Response | None:
    with suppress(OSError, asyncio.IncompleteReadError):
        return await post(port, "/v1/traces", body)
    return None


async def accepted(port: int, body: bytes) -> bool:
    found = await answer(port, body)
    return found is not None and found.status == 200


async def filled(port: int, size: int) -> set[bytes]:
    """Send bodies of `size` spans until one is refused; the spans that were taken."""
    kept: set[bytes] = set()
    while True:
        body = traces(size)
        found = await answer(port, body)
        if found is None:
            continue  # It is still starting.
        if found.status != 200:
            assert (found.status, found.headers["retry-after"]) == (503, "1")
            return kept
        kept |= set(span_ids(body))


def arrived(tempo: Backend) -> set[bytes]:
    return {span for body in tempo.bodies("/v1/traces") for span in span_ids(body)}


@pytest.mark.skipif(not MAY_MOUNT, reason="mounting needs unshare -rm: util-linux and user namespaces")
async def test_a_full_disk_asks_for_patience_loses_nothing_and_comes_back_by_itself(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    async with backend() as tempo:
        tempo.decide = lambda _path, _body: Verdict(503)
        async with small_disk(tmp_path / "disk", port, tempo.url):
            kept: set[bytes] = set()
            async with asyncio.timeout(60):
                # To the last page: not even the smallest file could be written any more.
                for size in (BODY_SPANS, 20, 1):
                    kept |= await filled(port, size)
            assert len(kept) > 5 * BODY_SPANS
            tempo.decide = lambda _path, _body: ACCEPT
            await until(lambda: arrived(tempo) >= kept, within_s=90, what="everything acknowledged")
            body = traces(BODY_SPANS)
            async with asyncio.timeout(60):
                # The checkpoint has room of its own, so what was sent gives its space back.
                while not await accepted(port, body):
                    pass
            await until(lambda: arrived(tempo) >= kept | set(span_ids(body)), within_s=30)


@pytest.mark.skipif(not MAY_MOUNT, reason="mounting needs unshare -rm: util-linux and user namespaces")
async def test_on_a_full_disk_the_whole_agent_goes_on_looking_and_showing(tmp_path: Path) -> None:
    otlp, web, target = free_ports(3)
    (tmp_path / "gaia.yaml").write_text(
        AGENT.format(otlp=otlp, web=web, target=target, data=tmp_path / "disk"), encoding="utf-8"
    )
    script = SCRIPT.replace("size=4m", "size=6m").replace(CHILD, "-m agent.cli run --config $2")
    assert UNSHARE is not None
    agent = await asyncio.create_subprocess_exec(
        UNSHARE, "-rm", "sh", "-c", script, str(tmp_path / "disk"), sys.executable,
        str(tmp_path / "gaia.yaml"), stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(90):
            for size in (BODY_SPANS, 20, 1):
                await filled(otlp, size)
            before = await asyncio.to_thread(looks, web)
            while (after := await asyncio.to_thread(looks, web)) < before + 3:
                await asyncio.to_thread(accepted_sync, otlp)
    finally:
        agent.kill()
        await agent.wait()
    assert after >= before + 3


def looks(web: int) -> float:
    """How many looks the agent has taken, by its metrics; 0 while it does not answer."""
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{web}/metrics", timeout=5) as page:
        lines = page.read().decode().splitlines()
        return sum(
            float(line.rpartition(" ")[2]) for line in lines if line.startswith("gaia_probe_runs_total{")
        )
    return 0.0


def accepted_sync(port: int) -> bool:
    """Whether one more span is taken; what matters here is that it is asked for all the time."""
    return asyncio.run(accepted(port, traces(1)))


async def test_a_failing_disk_is_503_and_counted_until_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, broken = os.fdatasync, True

    def sync(descriptor: int) -> None:
        if broken and Path(f"/proc/self/fd/{descriptor}").readlink().suffix == ".seg":
            raise OSError(5, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", sync)
    async with running(tmp_path) as intake:
        body = traces(3)
        refused = await post(intake.port, "/v1/traces", body)
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        broken = False
        assert (await post(intake.port, "/v1/traces", body)).status == 200
        figures = intake.figures()
    assert figures is not None
    assert (figures.failed_writes, figures.received[Signal.TRACES]) == (1, 3)


def test_the_room_kept_is_real_and_given_back(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path, size=1 << 20)
    reserve.hold()
    reserve.hold()
    assert (tmp_path / "reserve").stat().st_blocks * 512 >= 1 << 20
    reserve.give()
    reserve.give()
    assert list(tmp_path.iterdir()) == []


def test_where_there_is_no_directory_there_is_no_room_and_no_harm(tmp_path: Path) -> None:
    Reserve(tmp_path / "missing").hold()
