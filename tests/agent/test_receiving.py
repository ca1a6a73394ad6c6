"""What is taken in, as the file says it and as a reload changes it."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import urllib.request
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from agent.local.ports import free_ports
from agent.platform.scope import Scope
from agent.receiving import Receiving
from agent.settings import Settings, StartError
from agent.telemetry.signals import Signal
from agent.telemetry.traffic import Traffic
from checks.clock import SystemClock
from tests.agent.telemetry.backend import backend
from tests.agent.telemetry.otlp import post, traces
from tests.waiting import until, until_sync

FILE = """\
platform: shop
environments:
  production: {{alias: prod}}
agent: {{listen: "127.0.0.1:{web}", otlp_listen: {otlp}}}
telemetry: {{keep_free: 0B, {telemetry}}}
"""


def scope(folder: Path, *, otlp: str, telemetry: str = "", web: int = 1) -> Scope:
    file = folder / "gaia.yaml"
    file.write_text(FILE.format(otlp=otlp, telemetry=telemetry, web=web))
    return Settings(config=file).scopes()[1][0]


def built(folder: Path) -> Receiving:
    return Receiving(
        Settings(config=folder / "gaia.yaml"),
        directory=folder / "telemetry",
        clock=SystemClock(),
        traffic=Traffic(env="production"),
        requests=lambda _sample: None,
        error_logs=lambda _event: None,
        examples=lambda _example: None,
        copied=lambda _level: deque(),
    )


@asynccontextmanager
async def running(receiving: Receiving) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(receiving.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


async def accepted(port: int, body: bytes) -> bool:
    with suppress(OSError, asyncio.IncompleteReadError):
        return (await post(port, "/v1/traces", body)).status == 200
    return False


async def test_a_reload_sends_what_waited_to_the_corrected_address_and_keeps_every_count(
    tmp_path: Path,
) -> None:
    port, nobody = free_ports(2)
    wrong = f'destinations: {{tempo: {{url: "http://127.0.0.1:{nobody}"}}}}'
    otlp = f'"127.0.0.1:{port}"'
    receiving = built(tmp_path)
    async with backend() as tempo, running(receiving):
        receiving.place(scope(tmp_path, otlp=otlp, telemetry=wrong))
        await until(lambda: receiving.figures() is not None)
        assert await accepted(port, traces(3))
        url = f'destinations: {{tempo: {{url: "{tempo.url}"}}}}'
        receiving.place(scope(tmp_path, otlp=otlp, telemetry=url))
        await until(lambda: tempo.bodies("/v1/traces"))
        figures = receiving.figures()
        assert figures is not None
        assert figures.received[Signal.TRACES] == 3


async def test_a_reload_that_changes_nothing_of_it_keeps_the_port_open(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    otlp = f'"127.0.0.1:{port}"'
    receiving = built(tmp_path)
    async with running(receiving):
        receiving.place(scope(tmp_path, otlp=otlp))
        await until(lambda: receiving.figures() is not None)
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        receiving.place(scope(tmp_path, otlp=otlp))
        assert await accepted(port, traces(1))
        assert not writer.is_closing()
        writer.close()


async def test_a_port_that_is_taken_refuses_the_start_and_a_reload_only_says_so(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with taken_port() as taken:
        refused = built(tmp_path)
        refused.place(scope(tmp_path, otlp=f'"127.0.0.1:{taken}"'))
        with pytest.raises(StartError, match=r"choose another agent\.otlp_listen"):
            await refused.run()
        receiving = built(tmp_path)
        async with running(receiving) as task:
            receiving.place(scope(tmp_path, otlp=f'"127.0.0.1:{port}"'))
            await until(lambda: receiving.figures() is not None)
            receiving.place(scope(tmp_path, otlp=f'"127.0.0.1:{taken}"'))
            await until(lambda: receiving.trouble is not None)
            assert f"cannot take telemetry on 127.0.0.1:{taken}" in str(receiving.trouble)
            assert not task.done()


async def test_nothing_to_take_in_is_no_part_of_the_agent(tmp_path: Path) -> None:
    receiving = built(tmp_path)
    receiving.place(scope(tmp_path, otlp="null"))
    assert not receiving.asked
    async with running(receiving) as task:
        await asyncio.sleep(0)
        assert not task.done()
        assert receiving.figures() is None


def test_gaia_run_follows_the_files_named_beside_the_table(tmp_path: Path) -> None:
    (web,) = free_ports(1)
    scope(tmp_path, otlp="null", web=web)
    named, telling = tmp_path / "a.log", tmp_path / "b.log"
    named.write_text('{"level":"ERROR","event":"boom"}\n')
    telling.write_text('{"level":"ERROR","event":"bang","service":"chat"}\n')
    command = [
        sys.executable,
        "-m",
        "agent.cli",
        "run",
        "--follow",
        f"auth={named}",
        "--follow",
        str(telling),
    ]
    wanted = {
        f'gaia_telemetry_error_logs_total{{env="production",service="{service}"}} 1'
        for service in ("auth", "chat")
    }

    def shown() -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{web}/metrics") as answer:
            return wanted <= set(answer.read().decode().splitlines())
        return False

    env = {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE) as process:
        try:
            until_sync(shown, within_s=20, what="both services' ERROR lines on /metrics")
        finally:
            process.terminate()
            process.communicate(timeout=10)
