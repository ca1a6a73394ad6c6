"""Debian's blackbox_exporter as a peer to be compared with, where it is installed."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.waiting import until_sync

_BINARY: Final = shutil.which("prometheus-blackbox-exporter") or shutil.which("blackbox_exporter")


@contextlib.contextmanager
def blackbox_exporter(config: str, folder: Path) -> Iterator[str]:
    """The base URL of one that runs with `config`; skips the test where there is none."""
    if _BINARY is None:
        pytest.skip("prometheus-blackbox-exporter is not installed")
    file = folder / "blackbox.yml"
    file.write_text(config)
    with socket.create_server(("127.0.0.1", 0)) as server:
        listen = f"127.0.0.1:{server.getsockname()[1]}"
    process = subprocess.Popen(
        [_BINARY, f"--config.file={file}", f"--web.listen-address={listen}", "--log.level=error"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until_sync(lambda: _answers(listen), within_s=10, what="blackbox_exporter")
        yield f"http://{listen}"
    finally:
        process.kill()
        process.wait()


def ask(base: str, module: str, target: str, **more: str) -> str:
    """What it says of one target."""
    query = urllib.parse.urlencode({"module": module, "target": target, **more})
    with urllib.request.urlopen(f"{base}/probe?{query}", timeout=10) as answer:
        text: str = answer.read().decode()
        return text


def _answers(listen: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{listen}/-/healthy", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
