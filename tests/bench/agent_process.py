"""A real agent process for benchmarks: started on a file, timed from outside, read by its log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]
_STOPS_WITHIN_S = 15.0


@dataclass(slots=True)
class AgentProcess:
    """`lines` grows as the agent logs: each line's facts, with the monotonic second it was read."""

    process: subprocess.Popen[str]
    folder: Path
    started_s: float
    lines: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    def read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                facts = json.loads(line)
            except ValueError:
                facts = {"event": line.rstrip()}
            self.lines.append((time.monotonic(), facts))

    def first(self, event: str, *, after_s: float = 0.0, **facts: str) -> float | None:
        """When the first such line after `after_s` was read; None when there is none yet."""
        for at_s, line in list(self.lines):
            if at_s >= after_s and line.get("event") == event and facts.items() <= line.items():
                return at_s
        return None

    def wait_for(self, event: str, *, within_s: float, after_s: float = 0.0, **facts: str) -> float:
        """The same, waiting for it. Raises TimeoutError."""
        end_s = time.monotonic() + within_s
        pause = threading.Event()
        while (found := self.first(event, after_s=after_s, **facts)) is None:
            if time.monotonic() > end_s:
                raise TimeoutError(f"{event} {facts} not seen within {within_s} s")
            pause.wait(0.005)
        return found

    @property
    def cpu_s(self) -> float:
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    @property
    def rss_bytes(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)


@contextmanager
def agent_process(text: str, *words: str) -> Iterator[AgentProcess]:
    """`gaia run` on the file `text` in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="gaia-bench-") as folder:
        (Path(folder) / "gaia.yaml").write_text(text)
        command = [sys.executable, "-m", "agent.cli", "run", *words]
        environ = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        started_s = time.monotonic()
        process = subprocess.Popen(
            command, cwd=folder, env=environ, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        agent = AgentProcess(process, Path(folder), started_s)
        reader = threading.Thread(target=agent.read, daemon=True)
        reader.start()
        try:
            yield agent
        finally:
            process.terminate()
            try:
                process.wait(_STOPS_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            reader.join()
