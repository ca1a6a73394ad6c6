"""Load by plain sockets: cheap enough to leave the processor to the server under test."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import psutil


def request_bytes(path: str, headers: dict[str, str] | None = None) -> bytes:
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: bench",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Connection:
    """One kept connection; answers must have a Content-Length and status 200."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._left = b""

    def send(self, request: bytes) -> None:
        self._socket.sendall(request)

    def receive(self) -> None:
        data = self._left
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more()
        head = data[:end].lower()
        if not head.startswith(b"http/1.1 200"):
            raise AssertionError(head)
        start = head.index(b"content-length:") + 15
        length = int(head[start:].split(b"\r\n", 1)[0])
        while len(data) < end + 4 + length:
            data += self._more()
        self._left = data[end + 4 + length :]

    def _more(self) -> bytes:
        piece = self._socket.recv(65536)
        if not piece:
            raise AssertionError("the server closed the connection")
        return piece

    def close(self) -> None:
        self._socket.close()


def cpu_per_request_s(
    port: int, pids: list[int], request: bytes, *, count: int, connections: int = 8
) -> float:
    """Processor seconds of the processes `pids` per request, of `count` sent `connections` at a time."""
    open_ = [Connection(port) for _ in range(connections)]
    for connection in open_ * 4:
        connection.send(request)
        connection.receive()
    before = cpu_s(pids)
    for _ in range(count // connections):
        for connection in open_:
            connection.send(request)
        for connection in open_:
            connection.receive()
    spent = cpu_s(pids) - before
    for connection in open_:
        connection.close()
    return spent / (count // connections * connections)


def latencies_s(port: int, request: bytes, *, count: int) -> list[float]:
    """Seconds of `count` requests one after the other on one connection, sorted."""
    connection = Connection(port)
    for _ in range(20):
        connection.send(request)
        connection.receive()
    taken = []
    for _ in range(count):
        start = time.perf_counter()
        connection.send(request)
        connection.receive()
        taken.append(time.perf_counter() - start)
    connection.close()
    return sorted(taken)


def cpu_s(pids: list[int]) -> float:
    """Processor seconds of all threads of `pids`: to the nanosecond on Linux, else in the kernel's ticks."""
    return sum(_scheduled_s(pid) for pid in pids)


def _scheduled_s(pid: int) -> float:
    try:
        return (
            sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat"))
            / 1e9
        )
    except OSError:
        times = psutil.Process(pid).cpu_times()
        return times.user + times.system
