"""From kill -9 and SIGSTOP of a service, PostgreSQL and NATS to their name and a delivered page, at 10 s."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import psutil

from agent.local.nats import LocalNats
from agent.local.ports import free_ports
from agent.local.postgres import LocalPostgres
from tests.acceptance.webhook import Webhook, webhook
from tests.bench.agent_process import REPOSITORY, AgentProcess, agent_process

_ROUNDS = 5


class _Part(Protocol):
    @property
    def pid(self) -> int: ...
    def kill(self) -> None: ...
    def start(self) -> None: ...


_FILE = """\
platform: bench
environments: {{production: {{alias: prod, check_interval: 10s}}}}
services: {{web: {{url: "http://127.0.0.1:{web}"}}}}
databases: {{postgres: {{url: "{postgres}", profile: development}}}}
brokers: {{nats: {{url: "{nats}", profile: development}}}}
agent: {{listen: "127.0.0.1:{port}", otlp_listen: null}}
alerts: {{receivers: {{desk: {{webhook: {{url: "{webhook}"}}}}}}}}
"""


def main() -> None:
    """Print the medians beside the limits of DESIGN §7."""
    seen: dict[str, list[float]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gaia-bench-")))
        hook = stack.enter_context(webhook())
        # A password that is also a word of the log would be masked there.
        postgres = LocalPostgres(folder / "pg", password="of-the-bench")
        nats = LocalNats(folder / "nats")
        for server in (postgres, nats):
            server.start()
            stack.callback(server.stop)
        web_port, port = free_ports(2)
        web = _Service(web_port)
        stack.callback(web.kill)
        text = _FILE.format(web=web_port, postgres=postgres.url, nats=nats.url, port=port, webhook=hook.url)
        for _ in range(_ROUNDS):
            # A new agent each round: the same one would rightly call this flapping.
            with agent_process(text) as agent:
                agent.wait_for("web.started", within_s=30)
                for name, part in (("web", web), ("postgres", postgres), ("nats", nats)):
                    _kill(agent, hook, name, part, seen)
                    _freeze(agent, name, part, seen)
    for what, seconds in seen.items():
        print(f"{what:<32} {_spread(seconds)}")
    print("limits: named 50 ms, page 250 ms, frozen named 2.5 s; a poller at 10 s needs up to 10 s for each")


def _kill(agent: AgentProcess, hook: Webhook, name: str, part: _Part, seen: dict[str, list[float]]) -> None:
    _settled(agent, name)
    before = len(hook.of(name, "firing"))
    killed_s = time.monotonic()
    part.kill()
    named_s = agent.wait_for("target.changed", within_s=20, after_s=killed_s, service=name)
    seen.setdefault(f"{name} killed, named", []).append(named_s - killed_s)
    _wait(lambda: len(hook.of(name, "firing")) > before, 20)
    seen.setdefault(f"{name} killed, page delivered", []).append(hook.of(name, "firing")[-1].at_s - killed_s)
    part.start()
    agent.wait_for("target.changed", within_s=40, after_s=killed_s, service=name, state="up")


def _freeze(agent: AgentProcess, name: str, part: _Part, seen: dict[str, list[float]]) -> None:
    _settled(agent, name)
    frozen_s = time.monotonic()
    family = [part.pid, *(child.pid for child in psutil.Process(part.pid).children(recursive=True))]
    for one in family:
        os.kill(one, signal.SIGSTOP)
    named_s = agent.wait_for("target.changed", within_s=30, after_s=frozen_s, service=name)
    seen.setdefault(f"{name} frozen, named", []).append(named_s - frozen_s)
    for one in family:
        os.kill(one, signal.SIGCONT)
    agent.wait_for("target.changed", within_s=40, after_s=frozen_s, service=name, state="up")


def _settled(agent: AgentProcess, name: str) -> None:
    """Wait until the last word about it is "up" and the sentinel holds its connection again."""

    def up() -> bool:
        states = [
            line["state"]
            for _, line in agent.lines
            if line.get("event") == "target.changed" and line["service"] == name
        ]
        return bool(states) and states[-1] == "up"

    try:
        _wait(up, 40)
    except TimeoutError:
        told = [line for _, line in agent.lines if line.get("service") == name]
        raise TimeoutError(f"{name} is not up: {told[-3:]}") from None
    threading.Event().wait(2.5)


def _wait(condition: Callable[[], object], within_s: float) -> None:
    end_s = time.monotonic() + within_s
    pause = threading.Event()
    while not condition():
        if time.monotonic() > end_s:
            raise TimeoutError
        pause.wait(0.005)


def _spread(seconds: list[float]) -> str:
    low, high = min(seconds) * 1000, max(seconds) * 1000
    return f"{statistics.median(seconds) * 1000:.0f} ms median ({low:.0f} to {high:.0f}, n={len(seconds)})"


class _Service:
    """A small HTTP service in a process of its own."""

    def __init__(self, port: int) -> None:
        self._command = [sys.executable, "-m", "tests.bench.small_service", str(port)]
        self._process = subprocess.Popen(self._command, cwd=REPOSITORY)

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, cwd=REPOSITORY)


if __name__ == "__main__":
    main()
