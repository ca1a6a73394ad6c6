"""A real webhook receiver on 127.0.0.1: keeps every body with the second it came."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One alert of one POST, Alertmanager's v4 form."""

    at_s: float
    status: str
    fingerprint: str
    labels: dict[str, str]
    annotations: dict[str, str]
    body: str

    @property
    def rule(self) -> str:
        return self.labels["alertname"]

    @property
    def service(self) -> str:
        return self.labels.get("service", "")


class Webhook:
    """`deliveries` grows as POSTs arrive, one entry per alert in them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.deliveries: list[Delivery] = []

    def take(self, body: bytes) -> None:
        text = body.decode()
        message: dict[str, Any] = json.loads(text)
        self.deliveries += [
            Delivery(
                at_s=time.monotonic(),
                status=alert["status"],
                fingerprint=alert.get("fingerprint", ""),
                labels=alert["labels"],
                annotations=alert.get("annotations", {}),
                body=text,
            )
            for alert in message["alerts"]
        ]

    def of(self, service: str, status: str) -> list[Delivery]:
        """What came for one service or server, `firing` or `resolved`."""
        return [each for each in self.deliveries if (each.service, each.status) == (service, status)]


@contextmanager
def webhook() -> Iterator[Webhook]:
    """A receiver on a free port that answers 200 to everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            received.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received = Webhook(f"http://127.0.0.1:{server.server_address[1]}/hook")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
