"""Real receivers on 127.0.0.1 that answer well, badly, slowly or not at all."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Mood(StrEnum):
    OK = "ok"
    ERROR = "500"
    BUSY = "429"
    REFUSES = "400"
    HANGS = "hang"
    DRIPS = "drip"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Inbox:
    """What a receiver got, and the mood it is in."""

    port: int
    mood: Mood = Mood.OK
    retry_after: str = "7"
    got: list[Request] = field(default_factory=list)
    accepted: list[Request] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def http_receiver(mood: Mood = Mood.OK) -> Iterator[Inbox]:
    """A webhook, PagerDuty, Opsgenie, Slack and Alertmanager in one."""
    inbox = Inbox(port=0, mood=mood)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = Request(self.command, self.path, dict(self.headers), body)
            inbox.got.append(request)
            match inbox.mood:
                case Mood.HANGS:
                    inbox.released.wait(20)
                case Mood.DRIPS:
                    self._drip()
                case Mood.ERROR:
                    self._answer(503, b"overloaded")
                case Mood.BUSY:
                    self._answer(429, b"slow down", {"Retry-After": inbox.retry_after})
                case Mood.REFUSES:
                    self._answer(400, b"no such key")
                case _:
                    inbox.accepted.append(request)
                    self._answer(200, b'{"ok": true, "ts": "171.5"}')

        do_GET = do_POST  # noqa: N815  # the standard library's name

        def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _drip(self) -> None:
            self.connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            for _ in range(200):
                if inbox.released.wait(0.1):
                    return
                try:
                    self.connection.sendall(b".")
                except OSError:
                    return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    inbox.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield inbox
    finally:
        inbox.released.set()
        server.shutdown()
        server.server_close()


@contextmanager
def smtp_receiver(mood: Mood = Mood.OK) -> Iterator[Inbox]:
    """A mail server that takes a message, or answers as its mood is."""
    listener = socket.create_server(("127.0.0.1", 0))
    inbox = Inbox(port=listener.getsockname()[1], mood=mood)

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=_talk, args=(connection, inbox), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield inbox
    finally:
        inbox.released.set()
        listener.close()


def _talk(connection: socket.socket, inbox: Inbox) -> None:
    with connection, connection.makefile("rb") as lines:
        if inbox.mood is Mood.HANGS:
            inbox.released.wait(20)
            return
        connection.sendall(b"220 here\r\n")
        for line in lines:
            word = line.strip().upper()[:4]
            if inbox.mood is Mood.DRIPS:
                for _ in range(200):
                    if inbox.released.wait(0.1):
                        return
                    connection.sendall(b"2")
            if word == b"MAIL" and inbox.mood in (Mood.ERROR, Mood.BUSY, Mood.REFUSES):
                connection.sendall(b"550 no\r\n" if inbox.mood is Mood.REFUSES else b"451 later\r\n")
            elif word == b"DATA":
                connection.sendall(b"354 go\r\n")
                body = b""
                for part in lines:
                    if part == b".\r\n":
                        break
                    body += part
                request = Request("MAIL", "", {}, body)
                inbox.got.append(request)
                inbox.accepted.append(request)
                connection.sendall(b"250 taken\r\n")
            elif word == b"QUIT":
                connection.sendall(b"221 bye\r\n")
                return
            else:
                connection.sendall(b"250 ok\r\n")


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port
