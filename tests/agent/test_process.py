"""The agent as a process: start, reload, crash and stop, against real servers."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from agent.local.ports import free_ports
from agent.web.source import ActiveAlert, AgentStatus
from tests.acceptance.webhook import Webhook, webhook
from tests.servers import NatsServer, PostgresServer
from tests.waiting import until_sync

FILE = """\
platform: foreign
environments:
  production: {{alias: prod, check_interval: 1s}}
services:
  web: {{url: "http://127.0.0.1:{web}", health: /}}
databases:
  postgres: {{url: "{postgres}", profile: development}}
brokers:
  nats: {{url: "{nats}", profile: development}}
agent: {{listen: "127.0.0.1:{port}", otlp_listen: null}}
alerts:
  receivers:
    desk: {{webhook: {{url: "{webhook}"}}}}
"""


class Component(msgspec.Struct):
    service: str
    state: str
    reason: str


class Environment(msgspec.Struct):
    components: tuple[Component, ...]


class Status(msgspec.Struct):
    environments: tuple[Environment, ...]
    alerts: tuple[ActiveAlert, ...]
    agent: AgentStatus

    @property
    def states(self) -> dict[str, str]:
        return {part.service: part.state for part in self.environments[0].components}

    @property
    def firing(self) -> set[tuple[str, str]]:
        return {(alert.name, alert.service) for alert in self.alerts if alert.state == "firing"}


class Running:
    """One `gaia run` in a folder, started again as often as a test likes."""

    def __init__(self, folder: Path, text: str, port: int) -> None:
        self.folder = folder
        self.file = folder / "gaia.yaml"
        self.file.write_text(text)
        self.port = port
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "agent.cli", "run"]
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, stderr=log, stdout=log, env=environ())
        return self.process

    def status(self) -> Status | None:
        with (
            suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/status") as answer,
        ):
            return msgspec.json.decode(answer.read(), type=Status)
        return None

    def until(self, states: dict[str, str]) -> Status:
        def reached() -> bool:
            status = self.status()
            return status is not None and states.items() <= status.states.items()

        until_sync(reached, within_s=15, what=f"{states}; the log says:\n{self.log()}")
        status = self.status()
        assert status is not None
        return status

    def has_noted_every_delivery(self) -> bool:
        status = self.status()
        return status is not None and bool(status.firing) and status.agent.undelivered == 0

    def gaia(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "agent.cli", *words]
        return subprocess.run(
            command, cwd=self.folder, env=environ(), capture_output=True, text=True, check=False, timeout=30
        )

    def log(self) -> str:
        return (self.folder / "agent.log").read_text()


def environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}


@contextmanager
def running(folder: Path, hook: Webhook, *, web: int, postgres: str, nats: str) -> Iterator[Running]:
    (port,) = free_ports(1)
    text = FILE.format(web=web, postgres=postgres, nats=nats, port=port, webhook=hook.url)
    agent = Running(folder, text, port)
    try:
        yield agent
    finally:
        agent.process.kill()
        agent.process.wait()


@contextmanager
def website(port: int) -> Iterator[None]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as receiver:
        yield receiver


@pytest.fixture
def web() -> int:
    return free_ports(1)[0]


def test_a_few_lines_about_a_foreign_platform_are_told_the_truth(
    tmp_path: Path, hook: Webhook, web: int, postgres_server: PostgresServer, nats_server: NatsServer
) -> None:
    with running(tmp_path, hook, web=web, postgres=postgres_server.url, nats=nats_server.url) as agent:
        agent.until({"web": "down", "postgres": "up", "nats": "up"})
        checked = agent.gaia("check")
        assert (checked.returncode, "connection_refused" in checked.stdout) == (2, True)
        assert agent.gaia("check", "postgres", "nats").returncode == 0
        assert agent.gaia("check", "nothing-of-this-name").returncode == 3
        with website(web):
            agent.until({"web": "up", "postgres": "up", "nats": "up"})
            assert agent.gaia("check").returncode == 0


def test_killed_while_firing_it_goes_on_without_telling_twice_and_still_resolves(
    tmp_path: Path, hook: Webhook, web: int, postgres_server: PostgresServer, nats_server: NatsServer
) -> None:
    with running(tmp_path, hook, web=web, postgres=postgres_server.url, nats=nats_server.url) as agent:
        until_sync(lambda: hook.of("web", "firing"), within_s=15, what="a page")
        # Killed before it noted the receiver's answer it would have to tell again: at least once.
        until_sync(agent.has_noted_every_delivery, within_s=10, what="every delivery noted")
        agent.process.kill()
        agent.process.wait()
        agent.start()
        status = agent.until({"web": "down", "postgres": "up"})
        assert ("service_down", "web") in status.firing
        with website(web):
            until_sync(lambda: hook.of("web", "resolved"), within_s=20, what="a resolve")
        assert [delivery.status for delivery in hook.deliveries] == ["firing", "resolved"]


def test_a_reload_applies_a_good_file_and_refuses_a_bad_one_keeping_everything(
    tmp_path: Path, hook: Webhook, web: int, postgres_server: PostgresServer, nats_server: NatsServer
) -> None:
    with running(tmp_path, hook, web=web, postgres=postgres_server.url, nats=nats_server.url) as agent:
        before = agent.until({"web": "down", "postgres": "up", "nats": "up"})
        good = agent.file.read_text()
        agent.file.write_text(good.replace("check_interval", "check_intervall"))
        refused = agent.gaia("reload", "--url", f"http://127.0.0.1:{agent.port}")
        assert refused.returncode == 3
        assert (
            'gaia.yaml:3:29: error: unknown key "check_intervall"; did you mean "check_interval"?'
            in refused.stderr
        )
        after = agent.status()
        assert after is not None
        assert after.agent.config_hash == before.agent.config_hash
        assert "check_intervall" in (after.agent.config_problem or "")
        assert ("service_down", "web") in after.firing

        agent.file.write_text(good.replace("  nats: {", "  events: {"))
        assert agent.gaia("reload", "--url", f"http://127.0.0.1:{agent.port}").returncode == 0
        after = agent.until({"events": "up", "postgres": "up"})
        assert "nats" not in after.states
        assert after.agent.config_problem is None
        assert ("service_down", "web") in after.firing, "what fired before the reload fires after it"
        assert len(hook.of("web", "firing")) == 1


def test_a_bad_file_stops_the_start_with_every_mistake_and_exit_code_3(tmp_path: Path) -> None:
    (tmp_path / "gaia.yaml").write_text(
        "platform: x\nenvironments:\n  production: {alias: prod, check_interval: 2mins}\nservice: {}\n"
    )
    agent = subprocess.run(
        [sys.executable, "-m", "agent.cli", "run"],
        cwd=tmp_path, env=environ(), capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert agent.returncode == 3
    assert [line.split(": error")[0] for line in agent.stderr.splitlines()] == [
        "gaia.yaml:3:45",
        "gaia.yaml:4:1",
    ]


def test_a_second_agent_on_the_same_data_says_who_holds_it(
    tmp_path: Path, hook: Webhook, web: int, postgres_server: PostgresServer, nats_server: NatsServer
) -> None:
    with running(tmp_path, hook, web=web, postgres=postgres_server.url, nats=nats_server.url) as agent:
        agent.until({"postgres": "up"})
        second = agent.gaia("run")
        assert second.returncode == 3
        assert f"another agent (process {agent.process.pid}) uses .gaia" in second.stderr


def test_a_taken_port_is_an_error_with_its_remedy(
    tmp_path: Path, hook: Webhook, web: int, postgres_server: PostgresServer, nats_server: NatsServer
) -> None:
    with running(tmp_path, hook, web=web, postgres=postgres_server.url, nats=nats_server.url) as agent:
        agent.until({"postgres": "up"})
        second = agent.gaia("run", "--data", "elsewhere")
        assert second.returncode == 3
        assert f"cannot serve on 127.0.0.1:{agent.port}: " in second.stderr
        assert "choose another with --listen" in second.stderr


def test_it_stops_cleanly_and_its_log_has_no_secret(
    tmp_path: Path, hook: Webhook, web: int, nats_server: NatsServer
) -> None:
    url = "postgres://gaia:correct-horse-battery@127.0.0.1:1/app?sslmode=disable"
    with running(tmp_path, hook, web=web, postgres=url, nats=nats_server.url) as agent:
        agent.until({"postgres": "down", "nats": "up"})
        agent.process.send_signal(signal.SIGTERM)
        assert agent.process.wait(10) == 0
        log = agent.log()
        assert '"event": "agent.stopped"' in log
        assert "correct-horse" not in log
        assert "Traceback" not in log
        assert not (tmp_path / ".gaia" / "agent.pid").read_text()
