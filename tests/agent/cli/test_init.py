"""`gaia init` from fly.toml files and from services that run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agent.cli import main
from agent.platform.load import load

GATEWAY_PROD = """\
app = "gaia-gateway-prod"
primary_region = "fra"
[http_service]
  internal_port = 8080
  auto_stop_machines = "off"
  min_machines_running = 2
  [[http_service.checks]]
    path = "/health"
    interval = "10s"
[metrics]
  port = 9091
  path = "/metrics"
[[vm]]
  memory = "2gb"
  cpus = 2
  cpu_kind = "performance"
"""
GATEWAY_DEV = """\
app = "gaia-gateway-dev"
[http_service]
  auto_stop_machines = true
  min_machines_running = 0
[[vm]]
  size = "shared-cpu-1x"
"""
CHAT_PROD = """\
app = "gaia-chat-prod"
[http_service]
  auto_stop_machines = "off"
  min_machines_running = 3
"""
NATS = 'app = "gaia-nats-prod"\n[build]\n  image = "nats:2.11-alpine"\n'
DATABASE = 'app = "gaia-db-prod"\n[build]\n  image = "flyio/postgres-flex:17"\n'


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    files = {
        "gateway/fly.production.toml": GATEWAY_PROD,
        "gateway/fly.dev.toml": GATEWAY_DEV,
        "chat/fly.toml": CHAT_PROD,
        "nats/fly.toml": NATS,
        "db/fly.toml": DATABASE,
        "node_modules/x/fly.toml": 'app = "not-ours"\n',
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_fly_files_become_a_file_that_is_valid_and_says_what_they_said(repository: Path) -> None:
    assert main(["init", str(repository), "--platform", "gaia"]) == 0
    text = (repository / "gaia.yaml").read_text()
    assert (
        text.splitlines()[1:]
        == """\
platform: gaia

environments:
  development:
    alias: dev
    alerts: none
    machines: {auto_stop: stop, min: 0, max: 1}   # max: fly.toml does not say
  production:
    alias: prod
    check_interval: 10s
    alerts: comprehensive
    machines: {auto_stop: off, min: 3, max: 3}   # max: fly.toml does not say
services:
  chat:
    url: https://gaia-chat-{env}.fly.dev
    internal_url: http://gaia-chat-{env}.flycast
    health: /health   # fly.toml has no check
  gateway:
    url: https://gaia-gateway-{env}.fly.dev
    internal_url: http://gaia-gateway-{env}.flycast
    health: /health
    metrics: /metrics
    resources:
      development: {memory: 256MB, cpus: 1, cpu_kind: shared}
      # 2GB is too little for 2 performance CPUs: the least is 4GB
      production: {memory: 2GB, cpus: 2, cpu_kind: performance, deployed_as: {memory: 4GB}}
    environments:
      production: {machines: {auto_stop: off, min: 2, max: 2}}
databases:
  db:
    url: "${DATABASE_URL}"
    app: gaia-db-{env}
brokers:
  nats:
    url: "${NATS_URL}"
    monitor_url: http://gaia-nats-{env}.internal:8222
    app: gaia-nats-{env}
# alerts:
#   receivers:
#     on_call: {notify: ["${ONCALL_URL}"]}   # without a receiver nobody is called
""".splitlines()
    )
    platform = load(
        repository / "gaia.yaml", environ={"DATABASE_URL": "postgresql://h/d", "NATS_URL": "nats://h"}
    )
    assert platform.scope("prod").services["chat"].app == "gaia-chat-prod"
    assert platform.warnings == ()


def test_a_file_that_is_there_is_kept(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = repository / "gaia.yaml"
    path.write_text("mine")
    assert main(["init", str(repository)]) == 3
    assert (path.read_text(), capsys.readouterr().err) == (
        "mine",
        f"gaia init: {path} is there already; --force replaces it\n",
    )
    assert main(["init", str(repository), "--force"]) == 0
    assert path.read_text() != "mine"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("app = ", "fly.toml cannot be read: Invalid value"),
        ("[build]\n", 'fly.toml has no app = "..."'),
        (None, "no fly*.toml below"),
    ],
)
def test_what_cannot_be_used_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, said: str
) -> None:
    if text is not None:
        (tmp_path / "fly.toml").write_text(text)
    assert main(["init", str(tmp_path)]) == 3
    assert capsys.readouterr().err.startswith(f"gaia init: {said}")
    assert not (tmp_path / "gaia.yaml").exists()


class Shop(BaseHTTPRequestHandler):
    """A service with its health in an unusual place."""

    def do_GET(self) -> None:
        answers = {"/healthz": b"ok", "/metrics": b"# TYPE up gauge\nup 1\n"}
        body = answers.get(self.path)
        self.send_response(200 if body is not None else 404)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # The parent's name for it.
        """Nobody reads it."""


@pytest.fixture
def shop() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_running_service_is_asked_where_its_health_is(
    shop: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path), "--url", shop, "--url", "http://127.0.0.1:1", "--output", "-"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[6:11] == [
        '  "127-0-0-1":',
        f'    url: "{shop}"',
        "    health: /healthz",
        "    metrics: /metrics",
        '  "127-0-0-1-2":',
    ]


def test_an_address_with_a_password_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path), "--url", "https://me:sw0rdfish@shop.example"]) == 3
    err = capsys.readouterr().err
    assert "the address carries a password" in err
    assert "sw0rdfish" not in err
