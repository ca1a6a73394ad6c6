"""A real agent whose network is cut: it holds its tongue; where only its targets are gone, it calls, once."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from agent.local.ports import free_ports
from tests.acceptance.webhook import Webhook, webhook
from tests.agent.test_process import Running
from tests.waiting import until_sync

_SERVICES = 6


class Place:
    """Something that answers HTTP at a fixed port, until its line is cut."""

    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"

    def __init__(self, port: int) -> None:
        self.port = port
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None

    def mend(self) -> None:
        """Listen, at the same port as before."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Refuse new connections and end those that are open."""
        if self._listener is not None:
            # Closing alone would leave the port open for as long as accept() waits.
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        for connection in tuple(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            waiting = b""
            while received := connection.recv(65536):
                waiting += received
                while b"\r\n\r\n" in waiting:
                    _, _, waiting = waiting.partition(b"\r\n\r\n")
                    connection.sendall(self.answer)
        self._open.discard(connection)


class Net:
    """The services and the canaries of one test, all well at first."""

    def __init__(self) -> None:
        places = [Place(port) for port in free_ports(_SERVICES + 2)]
        self.services, self.canaries = places[:_SERVICES], places[_SERVICES:]
        for place in places:
            place.mend()


@contextmanager
def watched(folder: Path, hook: Webhook, net: Net) -> Iterator[Running]:
    (port,) = free_ports(1)
    document = {
        "platform": "far",
        "environments": {"production": {"alias": "prod", "check_interval": "2s"}},
        "services": {
            f"s{number}": {"url": f"http://127.0.0.1:{place.port}", "health": "/"}
            for number, place in enumerate(net.services)
        },
        "agent": {"listen": f"127.0.0.1:{port}", "otlp_listen": None},
        "alerts": {
            "receivers": {"desk": {"webhook": {"url": hook.url}}},
            "canaries": [f"127.0.0.1:{place.port}" for place in net.canaries[:1]]
            + [f"tcp://localhost:{place.port}" for place in net.canaries[1:]],
        },
    }
    running = Running(folder, msgspec.json.encode(document).decode(), port)
    try:
        running.until({f"s{number}": "up" for number in range(_SERVICES)})
        yield running
    finally:
        running.process.terminate()
        running.process.wait(20)


@pytest.fixture
def net() -> Iterator[Net]:
    with ExitStack() as stack:
        made = Net()
        for place in (*made.services, *made.canaries):
            stack.callback(place.cut)
        yield made


def _firing(running: Running) -> set[tuple[str, str]]:
    status = running.status()
    return status.firing if status is not None else set()


def _get(running: Running, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{running.port}{path}", timeout=5) as answer:
        return str(answer.read().decode())


def _cut_off_shows(running: Running) -> bool:
    return 'gaia_agent_part_up{part="reach production"} 0' in _get(running, "/metrics")


def test_an_agent_whose_network_is_cut_calls_nobody_and_says_so_everywhere(tmp_path: Path, net: Net) -> None:
    with webhook() as hook, watched(tmp_path, hook, net) as running:
        until_sync(lambda: "judged by 127.0.0.1" in _get(running, "/health"), within_s=10)
        for place in (*net.services, *net.canaries):
            place.cut()
        until_sync(lambda: ("agent_isolated", "") in _firing(running), within_s=15, what=running.log())
        running.until({f"s{number}": "down" for number in range(_SERVICES)})
        assert "the agent is cut off: 6 of 6 targets do not answer" in _get(running, "/health")
        assert _cut_off_shows(running)
        assert 'gaia_alert_state{alertname="agent_isolated",alertstate="firing"' in _get(running, "/metrics")
        for place in (*net.services, *net.canaries):
            place.mend()
        running.until({f"s{number}": "up" for number in range(_SERVICES)})
        until_sync(lambda: not _cut_off_shows(running), within_s=20, what=running.log())
        until_sync(lambda: hook.of("", "resolved"), within_s=20, what=running.log())
        # The receiver could be reached all the time: what it got is all that was said.
        assert {one.rule for one in hook.deliveries} == {"agent_isolated"}


def test_all_targets_down_while_a_canary_answers_is_told_in_one_message(tmp_path: Path, net: Net) -> None:
    with webhook() as hook, watched(tmp_path, hook, net) as running:
        until_sync(lambda: "judged by 127.0.0.1" in _get(running, "/health"), within_s=10)
        net.canaries[0].cut()
        for place in net.services:
            place.cut()
        until_sync(lambda: hook.deliveries, within_s=15, what=running.log())
        running.until({f"s{number}": "down" for number in range(_SERVICES)})
        (digest,) = {one.fingerprint: one for one in hook.deliveries}.values()
        assert digest.rule == "many_at_once"
        assert "6 things wrong at once" in digest.body
        assert "all 6 are at host 127.0.0.1" in digest.body
