"""From a killed service to a page at a webhook: the agent beside Debian's Prometheus and Alertmanager."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from tests.alerts.receivers import Inbox, http_receiver
from tests.waiting import until_sync

INTERVAL_S = 10
PROMETHEUS = shutil.which("prometheus")
ALERTMANAGER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")

SERVICE = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = b"requests_total 1\\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words):
        pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def main() -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours = stack.enter_context(http_receiver())
        theirs = stack.enter_context(http_receiver())
        port = free_port()
        service = _start(stack, [sys.executable, "-c", SERVICE, str(port)], folder)
        until_sync(lambda: _answers(f"http://127.0.0.1:{port}/"), within_s=20)
        _agent(stack, folder / "gaia", port, ours)
        peers = PROMETHEUS is not None and ALERTMANAGER is not None
        if peers:
            _peers(stack, folder, port, theirs)
        fault_s = time.monotonic()
        os.kill(service.pid, signal.SIGKILL)
        print(f"a service looked at every {INTERVAL_S} s is killed; until its page is at a webhook:")
        print(f"  gaia: {_paged(ours, fault_s, within_s=30):.3f} s, confirmation included")
        if peers:
            peer_s = _paged(theirs, fault_s, within_s=60)
            print(f"  Prometheus + Alertmanager, for: 0s, group_wait: 0s: {peer_s:.1f} s")
        else:
            print(
                "  Prometheus + Alertmanager: not installed here (Debian: prometheus prometheus-alertmanager)"
            )


def _paged(inbox: Inbox, fault_s: float, *, within_s: float) -> float:
    until_sync(lambda: inbox.accepted, within_s=within_s, what="a page")
    return time.monotonic() - fault_s


def _agent(stack: ExitStack, folder: Path, port: int, inbox: Inbox) -> None:
    folder.mkdir()
    document = {
        "platform": "bench",
        "environments": {
            "production": {"alias": "prod", "check_interval": f"{INTERVAL_S}s", "alerts": "comprehensive"}
        },
        "agent": {"otlp_listen": None},
        "services": {"web": {"url": f"http://127.0.0.1:{port}", "health": "/"}},
        "alerts": {"receivers": {"on_call": {"webhook": {"url": inbox.url}}}},
    }
    (folder / "gaia.yaml").write_text(json.dumps(document))
    listen = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "agent.cli", "run", "--env", "production", "--listen", listen]
    _start(stack, command, folder)
    until_sync(lambda: _answers(f"http://{listen}/readyz"), within_s=30, what="the agent")
    # Not at the edge of a look: somewhere within the interval, as faults are.
    time.sleep(3)


def _peers(stack: ExitStack, folder: Path, port: int, inbox: Inbox) -> None:
    assert PROMETHEUS is not None
    assert ALERTMANAGER is not None
    manager, prometheus = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    route = {"receiver": "hook", "group_wait": "0s", "group_interval": "1s"}
    hook = {"name": "hook", "webhook_configs": [{"url": inbox.url}]}
    (folder / "am.json").write_text(json.dumps({"route": route, "receivers": [hook]}))
    rule = {"alert": "Down", "expr": "up == 0"}
    (folder / "rules.json").write_text(json.dumps({"groups": [{"name": "g", "rules": [rule]}]}))
    every = f"{INTERVAL_S}s"
    target = {"targets": [f"127.0.0.1:{port}"]}
    (folder / "prometheus.json").write_text(
        json.dumps({
            "global": {"scrape_interval": every, "scrape_timeout": "5s", "evaluation_interval": every},
            "rule_files": ["rules.json"],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [manager]}]}]},
            "scrape_configs": [{"job_name": "web", "metrics_path": "/", "static_configs": [target]}],
        })
    )  # fmt: skip
    _start(
        stack,
        [ALERTMANAGER, "--config.file=am.json", f"--web.listen-address={manager}", "--storage.path=am",
         "--cluster.listen-address="],
        folder,
    )  # fmt: skip
    _start(
        stack,
        [PROMETHEUS, "--config.file=prometheus.json", f"--web.listen-address={prometheus}",
         "--storage.tsdb.path=tsdb"],
        folder,
    )  # fmt: skip
    until_sync(lambda: _seen_up(prometheus), within_s=60, what="Prometheus' first scrape")


def _seen_up(address: str) -> bool:
    answer = _get(f"http://{address}/api/v1/query?query=up")
    return answer is not None and '"1"' in answer


def _answers(url: str) -> bool:
    return _get(url) is not None


def _get(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return str(answer.read().decode())
    except OSError:
        return None


def _start(stack: ExitStack, command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    stack.callback(_stop, process)
    return process


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port
