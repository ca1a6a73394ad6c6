"""A small steady traffic of real requests through the gateway: `python -m agent.local.traffic URL`.

Open loop: requests leave on time however slow the answers are, as those of real users do.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

PASSWORD_VARIABLE: Final = "TRAFFIC_PASSWORD"  # noqa: S105  # The name of a variable.
_EMAIL: Final = "traffic@gaia.example"
_TIMEOUT_S: Final = 20.0
_WORKERS: Final = 64
_REPORT_EVERY_S: Final = 60.0
_SIGN_IN_PAUSE_S: Final = 1.0
_WELL_WITHIN_S: Final = 30.0
_WELL_PAUSE_S: Final = 0.25


class Request(Struct, frozen=True):
    """One request of the mix; `{n}` in the body is a running number. `undo` deletes what it made."""

    method: str
    path: str
    body: str = ""
    type: str = "application/json"
    undo: bool = False


_READS: Final = (
    Request("GET", "/api/v1/auth/me"),
    Request("GET", "/api/v1/assets"),
    Request("GET", "/api/v1/chat/rooms/lobby/messages"),
)
_WRITES: Final = (
    Request("GET", "/api/v1/auth/api-keys"),
    Request("POST", "/api/v1/assets?name=note.txt", "Note {n}", "text/plain", undo=True),
    Request("POST", "/api/v1/chat/rooms/lobby/messages", '{"text": "Message {n}"}'),
)
MIX: Final = (*_READS, *_READS, *_READS, *_WRITES)
"""In turn, so that each service gets the same share."""

_PREPARE: Final = (Request("POST", "/api/v1/chat/rooms", '{"id": "lobby", "title": "Lobby"}'),)


class Traffic:
    """Signs up once, signs in when needed, then walks through the mix at a fixed rate."""

    def __init__(self, url: str, *, password: str, rate: float) -> None:
        where = urlsplit(url)
        self._host, self._port = where.hostname or "127.0.0.1", where.port or 80
        self._credentials = json.dumps({"email": _EMAIL, "password": password}).encode()
        self._period_s = 1 / rate
        self._token = ""
        self._answers: Counter[str] = Counter()
        self._in_flight = threading.BoundedSemaphore(_WORKERS)

    def run(self, stop: threading.Event) -> None:
        """Until `stop`; a platform that does not answer is tried again for ever."""
        pool = ThreadPoolExecutor(_WORKERS)
        try:
            self._until_well(stop)
            self._walk(pool, stop)
        finally:
            # Whoever waits for an answer is left behind: nobody here needs it any more.
            pool.shutdown(wait=False, cancel_futures=True)

    def _until_well(self, stop: threading.Event) -> None:
        """No user comes before the doors are open: a platform that still starts is given half a minute."""
        end = time.monotonic() + _WELL_WITHIN_S
        while time.monotonic() < end:
            status, body = self._exchange("GET", "/health", None, {})
            starting = status in {0, http.client.SERVICE_UNAVAILABLE} or b'"status":"warn"' in body[:64]
            if not starting or stop.wait(_WELL_PAUSE_S):
                return

    def _walk(self, pool: ThreadPoolExecutor, stop: threading.Event) -> None:
        due = report = time.monotonic()
        for number, request in zip(itertools.count(1), itertools.cycle(MIX), strict=False):
            while not self._token:
                self._sign_in()
                if stop.wait(0 if self._token else _SIGN_IN_PAUSE_S):
                    return
            # After a pause (sleep of the machine, no token) the past is not made up for.
            due = max(due + self._period_s, time.monotonic() - 1)
            if stop.wait(max(0.0, due - time.monotonic())):
                return
            if self._in_flight.acquire(blocking=False):
                pool.submit(self._send, request, number)
            else:
                self._answers["skipped, too many in flight"] += 1
            if time.monotonic() - report > _REPORT_EVERY_S:
                report = time.monotonic()
                self._report()

    def _sign_in(self) -> None:
        for path in ("/api/v1/auth/users", "/api/v1/auth/tokens"):
            status, body = self._exchange(
                "POST", path, self._credentials, {"Content-Type": "application/json"}
            )
            if path.endswith("tokens") and status == http.client.OK:
                self._token = json.loads(body)["access_token"]
                for request in _PREPARE:
                    self._ask(request, 0)

    def _send(self, request: Request, number: int) -> None:
        try:
            made = self._ask(request, number)
            if request.undo and made:
                self._ask(
                    Request("DELETE", f"{request.path.partition('?')[0]}/{json.loads(made)['id']}"), number
                )
        finally:
            self._in_flight.release()

    def _ask(self, request: Request, number: int) -> bytes:
        """The answer's body, empty unless it succeeded."""
        token = self._token
        headers = {"Authorization": f"Bearer {token}", "Content-Type": request.type}
        body = request.body.replace("{n}", str(number)).encode() or None
        status, answer = self._exchange(request.method, request.path, body, headers)
        if status == http.client.UNAUTHORIZED and token == self._token:
            self._token = ""  # Expired: the next turn signs in again.
        return answer if status in {http.client.OK, http.client.CREATED} else b""

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        """Status and body; status 0 when nobody answered."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_S)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            status, answer = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            status, answer = 0, b""
            self._answers[type(error).__name__] += 1
        else:
            what = path.removeprefix("/api/v1").partition("?")[0].split("/")[1]
            self._answers[f"{method} /{what} {status}"] += 1
        finally:
            connection.close()
        return status, answer

    def _report(self) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        counts = ", ".join(f"{count} × {what}" for what, count in sorted(self._answers.items()))
        sys.stdout.write(f"{now} {counts}\n")
        sys.stdout.flush()
        self._answers.clear()


def main(words: list[str]) -> int:
    """Until SIGTERM; the user's password comes in the environment."""
    parser = argparse.ArgumentParser(prog="python -m agent.local.traffic")
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, default=5.0, help="requests per second")
    args = parser.parse_args(words)
    for number in (signal.SIGTERM, signal.SIGINT):
        # At once: `gaia up` waits for nobody's answer.
        signal.signal(number, lambda *_: os._exit(0))
    Traffic(args.url, password=os.environ[PASSWORD_VARIABLE], rate=args.rate).run(threading.Event())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
