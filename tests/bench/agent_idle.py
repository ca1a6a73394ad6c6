"""One agent watching four services, a database, a broker and its host at 10 s: start, memory, idle CPU."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from agent.local.nats import LocalNats
from agent.local.ports import free_ports
from agent.local.postgres import LocalPostgres
from tests.bench.agent_process import REPOSITORY, AgentProcess, agent_process

_ROUNDS = 3
_WINDOW_S = 30.0
_SERVICES = ("gateway", "auth", "asset", "chat")
_FILE = """\
platform: bench
environments: {{production: {{alias: prod, check_interval: 10s}}}}
services:
{services}
databases: {{postgres: {{url: "{postgres}"}}}}
brokers: {{nats: {{url: "{nats}", monitor_url: "{monitor}", jetstream: true}}}}
hosts: {{here: {{}}}}
agent: {{listen: "127.0.0.1:{port}", otlp_listen: "127.0.0.1:{otlp}"}}
alerts: {{receivers: {{desk: {{webhook: {{url: "http://127.0.0.1:9/"}}}}}}}}
"""


def main() -> None:
    """Print start to first verdict, to all verdicts, to the served page; RSS; CPU of one core."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gaia-bench-")))
        # A password that is also a word of the log would be masked there.
        postgres = LocalPostgres(folder / "pg", password="of-the-bench")
        nats = LocalNats(folder / "nats")
        for server in (postgres, nats):
            server.start()
            stack.callback(server.stop)
        ports = free_ports(len(_SERVICES) + 2)
        for port in ports[:-2]:
            command = [sys.executable, "-m", "tests.bench.small_service", str(port)]
            process = subprocess.Popen(command, cwd=REPOSITORY)
            stack.callback(process.kill)
        text = _FILE.format(
            services="\n".join(
                f'  {name}: {{url: "http://127.0.0.1:{port}"}}'
                for name, port in zip(_SERVICES, ports, strict=False)
            ),
            postgres=postgres.url,
            nats=nats.url,
            monitor=nats.monitor_url,
            port=ports[-2],
            otlp=ports[-1],
        )
        for number in range(1, _ROUNDS + 1):
            bare_s = _bare_s()
            with agent_process(text) as agent:
                _measure(agent, number, bare_s)


def _bare_s() -> float:
    """How long an interpreter takes that only imports asyncio: what no agent on it can go below."""
    started_s = time.monotonic()
    subprocess.run([sys.executable, "-c", "import asyncio"], check=True)
    return time.monotonic() - started_s


def _measure(agent: AgentProcess, number: int, bare_s: float) -> None:
    first_s = agent.wait_for("target.changed", within_s=10) - agent.started_s
    served_s = agent.wait_for("web.started", within_s=20) - agent.started_s
    otlp_s = agent.wait_for("telemetry.listening", within_s=20) - agent.started_s
    last_s = (
        max(at_s for at_s, line in agent.lines if line.get("event") == "target.changed") - agent.started_s
    )
    threading.Event().wait(5)
    before_s = agent.cpu_s
    threading.Event().wait(_WINDOW_S)
    share = (agent.cpu_s - before_s) / _WINDOW_S
    print(
        f"round {number}: first verdict {first_s * 1000:.0f} ms (limit 150; `import asyncio` alone takes"
        f" {bare_s * 1000:.0f}: {first_s / bare_s:.1f} times), all 7 {last_s * 1000:.0f} ms,"
        f" OTLP port open {otlp_s * 1000:.0f} ms (limit 500), page served {served_s * 1000:.0f} ms;"
        f" RSS {agent.rss_bytes / 2**20:.1f} MiB (limit 48);"
        f" {share:.2%} of a core at 7 checks / 10 s with sentinels"
    )


if __name__ == "__main__":
    main()
