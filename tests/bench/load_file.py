"""How long gaia.yaml takes from disk to a scope, beside what reading its YAML alone takes; and the memory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
FILE: Final = ROOT / "gaia.yaml"
ENVIRON: Final = {"DATABASE_URL": "postgresql://h/d", "NATS_URL": "nats://h", "ONCALL_URL": "https://h/x"}
ROUNDS: Final = 30

# Run in a process of its own: what starting the agent pays, and what the tables keep in memory.
COLD: Final = """
import sys, time
from pathlib import Path
import asyncio, yaml, msgspec
started = time.process_time()
from agent.platform.load import load
imported = time.process_time()
rss = lambda: int(open("/proc/self/statm").read().split()[1]) * 4096
import checks.postgres.kind, checks.nats.kind, checks.host.check
checked = time.process_time()
before = rss()
load(Path(sys.argv[1]), environ=dict(zip(sys.argv[2::2], sys.argv[3::2]))).scope("production")
loaded = time.process_time()
print(loaded - checked, imported - started, checked - imported, rss(), rss() - before)
"""


def main() -> None:
    """Print CPU milliseconds and memory."""
    import yaml

    from agent.platform.load import load
    from agent.platform.read import read

    content = FILE.read_bytes()
    size = f"{len(content.splitlines())} lines, {len(content) / 1024:.1f} KiB"
    whole_ms = _cpu_ms(lambda: load(FILE, environ=ENVIRON).scope("production"))
    tree_ms = _cpu_ms(lambda: read(content, "gaia.yaml"))
    c_ms = _cpu_ms(lambda: yaml.load(content, Loader=yaml.CSafeLoader))
    python_ms = _cpu_ms(lambda: yaml.safe_load(content), rounds=5)
    print(f"load gaia.yaml ({size}), all checks, 3 environments: {whole_ms:.1f} ms CPU")
    print(f"  of it the tree with positions: {tree_ms:.1f} ms")
    print(f"  peers, YAML alone: C safe_load {c_ms:.1f} ms, Python safe_load {python_ms:.1f} ms")
    words = [word for pair in ENVIRON.items() for word in pair]
    runs = []
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", COLD, str(FILE), *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        runs.append([float(figure) for figure in done.stdout.split()])
    first_s, imports_s, checks_s, rss, growth = min(runs)
    print(
        f"first load in a new process: {first_s * 1e3:.0f} ms CPU; before it the imports of the loader and "
        f"its vocabulary {imports_s * 1e3:.0f} ms, of the kinds of check {checks_s * 1e3:.0f} ms"
    )
    print(f"memory: {rss / 2**20:.1f} MiB RSS, {growth / 2**20:.1f} of it by loading")


def _cpu_ms(act: Callable[[], object], *, rounds: int = ROUNDS) -> float:
    """The least CPU time of one call; the least, because the machine is shared."""
    times = []
    for _ in range(rounds):
        started = time.process_time()
        act()
        times.append(time.process_time() - started)
    return min(times) * 1e3
