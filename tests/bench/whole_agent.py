"""CPU, memory and punctuality of the whole agent at 1,000 targets / 5 s and 10,000 / 10 s, while scraped."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import psutil

from agent.local.ports import free_ports
from tests.bench.agent_process import AgentProcess, agent_process
from tests.bench.http_origin import origin

_WARM_S = 12.0
_WINDOW_S = 30.0
_SCRAPE_EVERY_S = 15.0
_LAGS = re.compile(rb"^gaia_probe_schedule_lag_seconds\{[^}]*\} (\S+)$", re.MULTILINE)


def main() -> None:
    """Print each arm's CPU seconds per 1,000 probes, share of a core, memory and lateness."""
    _limit_files()
    with origin() as port:
        small = _agent("gaia, 1,000 targets / 5 s, new connections", port, 1000, 5)
        _agent("gaia, 1,000 targets / 5 s, default mode", port, 1000, 5, connection="mixed")
        _agent("gaia, 10,000 targets / 10 s, new connections", port, 10_000, 10)
        if shutil.which("prometheus") and shutil.which("prometheus-blackbox-exporter"):
            stack = _stack(port, 1000, 5)
            print(f"ratio gaia / (blackbox + Prometheus) at 1,000 / 5 s: {small / stack:.2f} (limit 0.20)")
        else:
            print("blackbox_exporter and Prometheus are not installed: no comparison in this run")


def _agent(name: str, port: int, targets: int, interval_s: int, *, connection: str = "fresh") -> float:
    (listen,) = free_ports(1)
    services = "\n".join(
        f'  s{number}: {{url: "http://{_address(number)}:{port}",'
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
        probes_s, share, lags = _measure(agent, listen, targets / interval_s)
        print(
            f"{name}: {probes_s:.3f} CPU s / 1,000 probes, {share:.1%} of a core,"
            f" RSS {agent.rss_bytes / 2**20:.0f} MiB, lateness p99 {lags * 1000:.1f} ms"
        )
    return probes_s


def _measure(agent: AgentProcess, port: int, per_second: float) -> tuple[float, float, float]:
    before_s, started_s = agent.cpu_s, time.monotonic()
    page = b""
    while time.monotonic() - started_s < _WINDOW_S:
        threading.Event().wait(_SCRAPE_EVERY_S)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            page = answer.read()
    elapsed_s = time.monotonic() - started_s
    used_s = agent.cpu_s - before_s
    lags = sorted(float(lag) for lag in _LAGS.findall(page))
    return used_s / (per_second * elapsed_s / 1000), used_s / elapsed_s, lags[int(0.99 * (len(lags) - 1))]


def _stack(port: int, targets: int, interval_s: int) -> float:
    """blackbox_exporter and Prometheus doing the same: CPU s per 1,000 probes of both together."""
    blackbox_port, prometheus_port = free_ports(2)
    with tempfile.TemporaryDirectory(prefix="gaia-bench-") as folder:
        place = Path(folder)
        (place / "blackbox.yml").write_text("modules: {http_2xx: {prober: http}}\n")
        urls = ", ".join(f"'http://{_address(number)}:{port}/health'" for number in range(targets))
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
            before_s = sum(_cpu_s(process.pid) for process in processes)
            threading.Event().wait(_WINDOW_S)
            used_s = sum(_cpu_s(process.pid) for process in processes) - before_s
        finally:
            for process in processes:
                process.kill()
                process.wait()
    per_thousand = used_s / (targets / interval_s * _WINDOW_S / 1000)
    print(f"blackbox + Prometheus, {targets:,} / {interval_s} s: {per_thousand:.3f} CPU s / 1,000 probes")
    return per_thousand


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _address(number: int) -> str:
    return f"127.0.{1 + number // 250}.{1 + number % 250}"


def _limit_files() -> None:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    os.environ.setdefault("PYTHONUNBUFFERED", "1")


if __name__ == "__main__":
    main()
