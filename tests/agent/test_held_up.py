"""A stopped agent blames nobody: a real agent, real targets that are all well, SIGSTOP and SIGCONT."""

from __future__ import annotations

import random
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.request import urlopen

from agent.local.ports import free_ports
from tests.acceptance.webhook import webhook
from tests.agent.test_process import Running, website
from tests.far import far
from tests.servers import NatsServer, PostgresServer
from tests.waiting import until_sync

# At an interval of 1 s a look may take 0.8 s.
FILE = """\
platform: foreign
environments:
  production: {{alias: prod, check_interval: 1s}}
services:
  web:
    url: "http://127.0.0.1:{web}"
    health: /
    checks:
      port: {{kind: tcp, address: "127.0.0.1:{web}"}}
      plugin: {{kind: exec, command: ["/bin/sh", "-c", "sleep 0.4; echo OK"]}}
databases:
  postgres: {{url: "{postgres}", profile: development}}
brokers:
  nats: {{url: "{nats}", profile: development}}
agent: {{listen: "127.0.0.1:{port}", otlp_listen: null}}
alerts:
  receivers:
    desk: {{webhook: {{url: "{webhook}"}}}}
"""
TARGETS = 400
OVERLOADED = """\
platform: foreign
environments:
  production: {{alias: prod, check_interval: 1s, alerts: none}}
services:
{services}
alerts:
  policies: {{none: []}}
agent: {{listen: "127.0.0.1:{port}", otlp_listen: null}}
"""
STOPS_S = (1.0, 2.5, 1.3, 6.0, 0.9, 1.1, 3.0, 1.0)
REASON = re.compile(r'reason="([^"]*)"')
RUN = re.compile(r"^gaia_probe_runs_total\{(.*)\} (\S+)$", re.MULTILINE)


def looks(agent: Running) -> dict[str, float]:
    """How many looks there were so far, by their labels."""
    with urlopen(f"http://127.0.0.1:{agent.port}/metrics") as answer:
        return {labels: float(count) for labels, count in RUN.findall(answer.read().decode())}


def taken(agent: Running) -> float:
    return sum(looks(agent).values())


def has_taken(agent: Running, count: float) -> bool:
    return taken(agent) >= count


def stop_for(agent: Running, stopped_s: float) -> None:
    agent.process.send_signal(signal.SIGSTOP)
    try:
        threading.Event().wait(stopped_s)
    finally:
        agent.process.send_signal(signal.SIGCONT)


@contextmanager
def starved(agent: Running) -> Iterator[None]:
    """Only every tenth 10 ms are the agent's."""
    fed = threading.Event()

    def starve() -> None:
        while not fed.is_set():
            agent.process.send_signal(signal.SIGSTOP)
            fed.wait(0.09)
            agent.process.send_signal(signal.SIGCONT)
            fed.wait(0.01)

    thread = threading.Thread(target=starve)
    thread.start()
    try:
        yield
    finally:
        fed.set()
        thread.join()
        agent.process.send_signal(signal.SIGCONT)


def test_a_stopped_agent_calls_no_target_down_and_nobody_and_still_pages_what_dies(
    tmp_path: Path, postgres_server: PostgresServer, nats_server: NatsServer
) -> None:
    web, port = free_ports(2)
    moments = random.Random(7)
    with (
        webhook() as hook,
        far(web, one_way_s=0.05) as far_web,
        far(postgres_server.port, one_way_s=0.015) as far_postgres,
        far(nats_server.port, one_way_s=0.02) as far_nats,
    ):
        text = FILE.format(
            web=far_web,
            postgres=postgres_server.url.replace(f":{postgres_server.port}", f":{far_postgres}"),
            nats=nats_server.url.replace(f":{nats_server.port}", f":{far_nats}"),
            port=port,
            webhook=hook.url,
        )
        agent = Running(tmp_path, text, port)
        try:
            with website(web):
                well = {"web": "up", "postgres": "up", "nats": "up"}
                agent.until(well)
                for stopped_s in STOPS_S:
                    threading.Event().wait(moments.random())
                    before = taken(agent)
                    stop_for(agent, stopped_s)
                    until_sync(partial(has_taken, agent, before + 10), within_s=10)
                agent.until(well)
                assert [labels for labels in looks(agent) if 'result="down"' in labels] == [], agent.log()
                assert hook.deliveries == []
                held = [labels for labels in looks(agent) if 'reason="agent"' in labels]
                assert held, "no look was under way in any stop: the test saw nothing"
            until_sync(lambda: hook.of("web", "firing"), within_s=15, what="a page for what really died")
        finally:
            agent.process.kill()
            agent.process.wait()


def test_an_agent_with_a_tenth_of_a_core_and_more_than_it_can_look_at_answers_and_stops(
    tmp_path: Path,
) -> None:
    (port,) = free_ports(1)
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        services = "".join(f'  s{n}: {{url: "http://{address}", health: /{n}}}\n' for n in range(TARGETS))
        agent = Running(tmp_path, OVERLOADED.format(port=port, services=services), port)
        try:
            until_sync(agent.status, within_s=30, what="a status")
            with starved(agent):
                before = taken(agent)
                until_sync(partial(has_taken, agent, before + TARGETS), within_s=60)
                silent_or_unknown = {reason for labels in looks(agent) for reason in REASON.findall(labels)}
                assert silent_or_unknown <= {"timeout", "agent"}
                agent.process.send_signal(signal.SIGTERM)
                assert agent.process.wait(30) == 0, agent.log()
        finally:
            agent.process.kill()
            agent.process.wait()
