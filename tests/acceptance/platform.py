"""A real `gaia up` in a folder of its own, driven as a person would: by its lines, signals and API."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.local.child import descendants
from agent.local.ports import free_ports
from tests.waiting import until_sync

REPOSITORY = Path(__file__).resolve().parents[2]
_ROW = re.compile(r"^  (\S+)\s+(\S.*?)\s+pid (\d+)$")
_AGAIN = re.compile(r"up\s+(\S+)\s+runs again, pid (\d+)")


class RunningPlatform:
    """`lines` grows as it prints; `pid` follows restarts."""

    def __init__(self, process: subprocess.Popen[str], port: int, folder: Path) -> None:
        self.process = process
        self.port = port
        self.folder = folder
        self.lines: list[str] = []
        self._pids: dict[str, int] = {}
        self._addresses: dict[str, str] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def pid(self, part: str) -> int:
        return self._pids[part]

    def address(self, part: str) -> str:
        return self._addresses[part]

    def parts(self) -> tuple[str, ...]:
        """The names of what runs, as `gaia up` prints them."""
        return tuple(self._pids)

    def family(self) -> tuple[int, ...]:
        """Every process below `gaia up` now."""
        return descendants(self.process.pid)

    def get(self, path: str, *, accept: str = "*/*") -> bytes:
        """The agent's answer; empty while it does not answer."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers={"Accept": accept})
        try:
            with urllib.request.urlopen(request, timeout=2) as answer:
                body: bytes = answer.read()
                return body
        except urllib.error.HTTPError as error:
            return error.read()
        except OSError:
            return b""

    def get_json(self, path: str) -> Any:
        body = self.get(path)
        return json.loads(body) if body else None

    def states(self) -> dict[str, str]:
        """Component → its worst state on the page, from /api/v1/status."""
        status = self.get_json("/api/v1/status") or {}
        return {
            component["service"]: component["state"]
            for environment in status.get("environments", ())
            for component in environment["components"]
        }

    def all_up(self) -> bool:
        """Whether every part is up; the machine may be busy with other tests."""
        states = self.states()
        states.pop("machine", None)
        return len(states) >= 6 and set(states.values()) == {"up"}

    def is_down_in_metrics(self, service: str) -> bool:
        return any(
            line.startswith("gaia_target_state{")
            and f'service="{service}"' in line
            and 'state="down"' in line
            and line.rpartition(" ")[2].startswith("1")
            for line in self.get("/metrics").decode().splitlines()
        )

    def alerts(self, *states: str) -> set[tuple[str, str]]:
        """Component and rule of the alerts in one of `states`."""
        alerts = (self.get_json("/api/v1/alerts") or {}).get("alerts", ())
        return {(alert["service"], alert["name"]) for alert in alerts if alert["state"] in states}

    def notified(self, service: str) -> set[str]:
        """The receivers known to have taken the alerts of one component."""
        alerts = (self.get_json("/api/v1/alerts") or {}).get("alerts", ())
        return {channel for alert in alerts if alert["service"] == service for channel in alert["notified"]}

    def kill(self, part: str) -> float:
        """kill -9 of one part; the monotonic second it happened."""
        os.kill(self.pid(part), signal.SIGKILL)
        return time.monotonic()

    def says(self, text: str, *, within_s: float = 10.0) -> None:
        """Wait for a line that contains `text`."""
        until_sync(
            lambda: any(text in line for line in self.lines),
            within_s=within_s,
            what=f"{text!r} among {self.lines}",
        )

    def interrupt(self, *, within_s: float = 15.0) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(within_s)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if row := _ROW.match(line.rstrip("\n")):
                self._addresses[row[1]], self._pids[row[1]] = row[2], int(row[3])
            if again := _AGAIN.search(line):
                self._pids[again[1]] = int(again[2])
            self.lines.append(line.rstrip("\n"))


def launch(folder: Path, *words: str, notify: str = "") -> RunningPlatform:
    """Start `gaia up` without waiting for it."""
    (port,) = free_ports(1)
    environ = {**os.environ, "GAIA_NOTIFY_URL": notify, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "agent.cli", "up", "--port", str(port), *words]
    if "--config" not in words:
        command += ["--config", str(REPOSITORY / "gaia.yaml")]
    process = subprocess.Popen(
        command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return RunningPlatform(process, port, folder)


def platform_file(folder: Path, *changes: tuple[str, str]) -> Path:
    """The strategy's gaia.yaml with pieces of text replaced, for shorter intervals and windows."""
    text = (REPOSITORY / "gaia.yaml").read_text("utf-8")
    for old, new in changes:
        assert old in text, f"gaia.yaml has no {old!r} any more"
        text = text.replace(old, new)
    path = folder / "gaia.yaml"
    path.write_text(text, "utf-8")
    return path


@contextmanager
def running(folder: Path, *words: str, notify: str = "") -> Iterator[RunningPlatform]:
    """A platform that is up; interrupted afterwards, killed if that does not help."""
    platform = launch(folder, *words, notify=notify)
    try:
        until_sync(
            lambda: (
                platform.process.poll() is not None
                or "Ctrl-C stops everything" in "".join(platform.lines[-1:])
            ),
            within_s=120,
            what="platform started",
        )
        assert platform.process.poll() is None, platform.lines
        yield platform
    finally:
        if platform.process.poll() is None:
            platform.process.send_signal(signal.SIGINT)
            try:
                platform.process.wait(20)
            except subprocess.TimeoutExpired:
                platform.process.kill()
        sys.stdout.write("\n".join(["--- gaia up said:", *platform.lines, "---", ""]))
