"""CPU, memory and punctuality of the whole agent at 1,000 targets / 5 s and 10,000 / 10 s, while scraped."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple

import psutil

from agent.local.ports import free_ports
from tests.bench.agent_process import AgentProcess, agent_process
from tests.bench.http_origin import address_of, origin, raise_file_limit
from tests.bench.probers import Table

_WARM_S = 12.0
_WINDOW_S = 20.0
_SCRAPE_EVERY_S = 10.0
_ROUNDS = 3
_TARGETS, _INTERVAL_S = 1000, 5
_FRESH, _MIXED = "gaia, new connection each", "gaia, default (kept, 5th new)"
_STACK, _BLACKBOX = "blackbox + Prometheus", "blackbox_exporter alone"
_LAGS = re.compile(rb"^gaia_probe_schedule_lag_seconds\{[^}]*\} (\S+)$", re.MULTILINE)


class Seen(NamedTuple):
    """What one agent did: CPU seconds per 1,000 probes, share of a core, memory, lateness p99."""

    per_thousand_s: float
    share: float
    rss_bytes: int
    late_s: float


def main() -> None:
    """Print CPU seconds per 1,000 probes and lateness of each, and the share of a core and memory of many."""
    raise_file_limit()
    cpu, late = Table(), Table()
    with origin() as port:
        for _ in range(_ROUNDS):
            for name, connection in ((_FRESH, "fresh"), (_MIXED, "mixed")):
                seen = _agent(port, _TARGETS, _INTERVAL_S, connection)
                cpu.add(name, seen.per_thousand_s)
                late.add(name, seen.late_s * 1000)
            stack = _stack(port, _TARGETS, _INTERVAL_S)
            cpu.add(_STACK, stack and stack[0] + stack[1])
            cpu.add(_BLACKBOX, stack and stack[0])
        large = _agent(port, 10_000, 10, "fresh")
    print(
        f"CPU s per 1,000 probes of everything, {_TARGETS:,} targets / {_INTERVAL_S} s while scraped,"
        f" median [min-max] of {_ROUNDS} rounds"
    )
    for name, limit in ((_FRESH, "limit 0.35"), (_MIXED, "limit 0.20"), (_STACK, ""), (_BLACKBOX, "")):
        cpu.row(name, ".3f", limit)
    cpu.ratio("gaia new / (blackbox + Prometheus)", _FRESH, _STACK, "0.20")
    cpu.ratio("gaia new / blackbox alone", _FRESH, _BLACKBOX, "0.25")
    cpu.ratio("gaia default / (blackbox + Prometheus)", _MIXED, _STACK, "0.125")
    print("schedule lateness p99, ms")
    for name in (_FRESH, _MIXED):
        late.row(name, ".1f", "limit 5")
    print(
        f"10,000 targets / 10 s, new connections: {large.share:.1%} of a core (limit 25 %),"
        f" RSS {large.rss_bytes / 2**20:.0f} MiB (limit 120 MB), lateness p99 {large.late_s * 1000:.1f} ms"
        f" (limit 25), {large.per_thousand_s:.3f} CPU s / 1,000"
    )


def _agent(port: int, targets: int, interval_s: int, connection: str) -> Seen:
    (listen,) = free_ports(1)
    services = "\n".join(
        f'  s{number}: {{url: "http://{address_of(number)}:{port}",'
        f" http: {{connection: {connection}, heartbeat: 0s}}}}"
        for number in range(targets)
    )
    text = (
        f"platform: bench\nenvironments: {{production: {{alias: prod, check_interval: {interval_s}s}}}}\n"
        f"services:\n{services}\nagent: {{listen: '127.0.0.1:{listen}', otlp_listen: null}}\n"
    )
    with agent_process(text) as agent:
        agent.wait_for("web.started", within_s=120)
        threading.Event().wait(_WARM_S)
        return _measure(agent, listen, targets / interval_s)


def _measure(agent: AgentProcess, port: int, per_second: float) -> Seen:
    before_s, started_s = agent.cpu_s, time.monotonic()
    page = b""
    while time.monotonic() - started_s < _WINDOW_S:
        threading.Event().wait(_SCRAPE_EVERY_S)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            page = answer.read()
    elapsed_s = time.monotonic() - started_s
    used_s = agent.cpu_s - before_s
    lags = sorted(float(lag) for lag in _LAGS.findall(page))
    late_s = lags[int(0.99 * (len(lags) - 1))]
    return Seen(used_s / (per_second * elapsed_s / 1000), used_s / elapsed_s, agent.rss_bytes, late_s)


def _stack(port: int, targets: int, interval_s: int) -> tuple[float, float] | None:
    """blackbox_exporter and Prometheus doing the same: CPU s per 1,000 probes of each; None without them."""
    if not (shutil.which("prometheus") and shutil.which("prometheus-blackbox-exporter")):
        return None
    blackbox_port, prometheus_port = free_ports(2)
    with tempfile.TemporaryDirectory(prefix="gaia-bench-") as folder:
        place = Path(folder)
        (place / "blackbox.yml").write_text("modules: {http_2xx: {prober: http}}\n")
        urls = ", ".join(f"'http://{address_of(number)}:{port}/health'" for number in range(targets))
        (place / "prometheus.yml").write_text(
            f"scrape_configs:\n- job_name: b\n  scrape_interval: {interval_s}s\n  metrics_path: /probe\n"
            f"  params: {{module: [http_2xx]}}\n  static_configs: [{{targets: [{urls}]}}]\n"
            "  relabel_configs:\n  - {source_labels: [__address__], target_label: __param_target}\n"
            f"  - {{target_label: __address__, replacement: '127.0.0.1:{blackbox_port}'}}\n"
        )
        commands = (
            ["prometheus-blackbox-exporter", f"--config.file={place}/blackbox.yml",
             f"--web.listen-address=127.0.0.1:{blackbox_port}"],
            ["prometheus", f"--config.file={place}/prometheus.yml", f"--storage.tsdb.path={place}/data",
             f"--web.listen-address=127.0.0.1:{prometheus_port}"],
        )  # fmt: skip
        processes = [
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for command in commands
        ]
        try:
            threading.Event().wait(_WARM_S)
            before_s = [_cpu_s(process.pid) for process in processes]
            threading.Event().wait(_WINDOW_S)
            probes = targets / interval_s * _WINDOW_S
            blackbox_s, prometheus_s = (
                (_cpu_s(process.pid) - used_s) / probes * 1000
                for process, used_s in zip(processes, before_s, strict=True)
            )
        finally:
            for process in processes:
                process.kill()
                process.wait()
    return blackbox_s, prometheus_s


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
