"""Debian's Alertmanager on 127.0.0.1, for as long as a test needs it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BINARY = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
needs_alertmanager = pytest.mark.skipif(
    BINARY is None, reason="Alertmanager (Debian: prometheus-alertmanager) is not installed"
)


@contextmanager
def alertmanager(folder: Path, webhook: str, port: int) -> Iterator[str]:
    """Its URL. What is labelled notified_by="agent" and the Watchdog go nowhere, the rest to `webhook`."""
    assert BINARY is not None
    config = {
        "route": {
            "receiver": "us", "group_by": ["..."], "group_wait": "10ms", "group_interval": "1s",
            "routes": [{"matchers": ['notified_by="agent"'], "receiver": "nobody"}],
        },
        "receivers": [{"name": "nobody"}, {"name": "us", "webhook_configs": [{"url": webhook}]}],
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "am.yml").write_text(json.dumps(config))
    url = f"http://127.0.0.1:{port}"
    command = [
        BINARY, f"--config.file={folder}/am.yml", f"--storage.path={folder}/data",
        "--cluster.listen-address=", f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            _ready(url)
            yield url
        finally:
            running.kill()


def alerts(url: str, **labels: str) -> list[Any]:
    """What it has, with these labels."""
    with urllib.request.urlopen(f"{url}/api/v2/alerts", timeout=5) as answer:
        found = json.load(answer)
    return [one for one in found if labels.items() <= one["labels"].items()]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def _ready(url: str) -> None:
    end = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < end, "Alertmanager did not start"
