from __future__ import annotations

import http.server
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from agent.local.traffic import MIX, Traffic
from tests.waiting import until_sync


class Gateway:
    """Answers like the real one; `tokens` counts the tokens given, only the newest is good."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, int]] = []
        self.tokens = 0
        self.refuse_sign_in = 2
        self.hang = threading.Event()
        self.url = ""

    def answer(self, path: str, authorization: str) -> tuple[int, bytes]:
        if path == "/api/v1/auth/users":
            return 409, b"{}"
        if path == "/api/v1/auth/tokens":
            if self.refuse_sign_in:
                self.refuse_sign_in -= 1
                return 503, b"{}"
            self.tokens += 1
            return 200, json.dumps({"access_token": f"token-{self.tokens}"}).encode()
        return (200 if authorization == f"Bearer token-{self.tokens}" else 401), b'{"id": "a1"}'


@contextmanager
def _gateway() -> Iterator[Gateway]:
    gateway = Gateway()

    class Handler(http.server.BaseHTTPRequestHandler):
        def _any(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = gateway.answer(self.path, self.headers.get("Authorization", ""))
            gateway.seen.append((self.command, self.path, status))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = _any  # noqa: N815  # http.server looks for these names.

        def log_message(self, *_args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    gateway.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield gateway
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def _traffic(url: str, *, rate: float) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=Traffic(url, password="x" * 8, rate=rate).run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5)
        assert not thread.is_alive()


def test_it_signs_in_however_long_that_takes_then_asks_each_service_in_turn() -> None:
    with _gateway() as gateway, _traffic(gateway.url, rate=100):
        until_sync(lambda: len([s for _, _, s in gateway.seen if s == 200]) > 2 * len(MIX), within_s=10)
        until_sync(lambda: ("DELETE", "/api/v1/assets/a1", 200) in gateway.seen, what="cleaned up")
    asked = Counter(path.split("/")[3].partition("?")[0] for _, path, status in gateway.seen if status == 200)
    assert set(asked) == {"auth", "assets", "chat"}
    assert gateway.tokens == 1


def test_an_expired_token_leads_to_a_new_sign_in() -> None:
    with _gateway() as gateway, _traffic(gateway.url, rate=100):
        until_sync(lambda: gateway.tokens == 1, within_s=10)
        gateway.tokens = 7  # What was given before is not good any more.
        until_sync(lambda: gateway.tokens == 8, within_s=10)
        before = len(gateway.seen)
        until_sync(lambda: any(status == 200 for _, _, status in gateway.seen[before:]))
