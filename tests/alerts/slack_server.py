"""A Slack that remembers its messages: what is edited, what is in a thread, what was deleted."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(slots=True)
class Message:
    """One message: its text now, how often it was edited, and what was said under it."""

    text: str
    edits: int = 0
    thread: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Workspace:
    port: int = 0
    messages: dict[str, Message] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def say(self, call: dict[str, str]) -> dict[str, object]:
        under = call.get("thread_ts")
        if under is not None:
            if under not in self.messages:
                return {"ok": False, "error": "thread_not_found"}
            self.messages[under].thread.append(call["text"])
            return {"ok": True, "ts": f"{under}.{len(self.messages[under].thread)}"}
        ts = f"17100000{len(self.messages):02d}.000100"
        self.messages[ts] = Message(text=call["text"])
        return {"ok": True, "ts": ts}

    def edit(self, call: dict[str, str]) -> dict[str, object]:
        message = self.messages.get(call["ts"])
        if message is None:
            return {"ok": False, "error": "message_not_found"}
        message.text = call["text"]
        message.edits += 1
        return {"ok": True, "ts": call["ts"]}


@contextmanager
def slack_server() -> Iterator[Workspace]:
    workspace = Workspace()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            method = {"/api/chat.postMessage": workspace.say, "/api/chat.update": workspace.edit}[self.path]
            body = json.dumps(method(call)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    workspace.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield workspace
    finally:
        server.shutdown()
        server.server_close()
