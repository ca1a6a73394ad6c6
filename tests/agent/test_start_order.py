"""The first looks do not wait for modules that only other targets need, and nothing is left out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

FILE = """\
platform: test
environments: {production: {alias: prod}}
services:
  auth: {url: "http://127.0.0.1:1", depends_on: [postgres]}
  chat: {url: "http://127.0.0.1:1"}
databases: {postgres: {url: "postgres://x:y@127.0.0.1:1/z"}}
brokers: {nats: {url: "nats://127.0.0.1:1"}}
hosts: {here: {}}
"""
STORY = """\
import asyncio, json, sys
from pathlib import Path
from agent.settings import Settings
from agent.watching import Watching
from checks.clock import SystemClock

HEAVY = (
    "checks.postgres.check",
    "checks.nats.check",
    "psutil",
    "pythonjsonlogger",
    "shutil",
    "importlib.metadata",
    "email",
    "http.client",
    "html",
    "sqlite3",
    "agent.assembly",
    "agent.receiving",
    "agent.web",
    "alerts.judge",
)

async def told():
    _, scopes = Settings(config=Path(sys.argv[1]), environ={}).scopes()
    watching = Watching(scopes, SystemClock(), soon=True)
    seen = {"before": [name for name in HEAVY if name in sys.modules],
            "first": [watch.target.key.service for watch in watching.watches]}
    running = asyncio.ensure_future(watching.run())
    await watching.first_pass(within_s=20)
    seen["all"] = [row.target.key.service for row in watching.board.rows()]
    seen["looked"] = sorted(row.target.key.service for row in watching.board.rows() if row.looks)
    seen["causes"] = watching.watches[0].depends_on
    running.cancel()
    await asyncio.wait([running])
    return seen

print(json.dumps(asyncio.run(told())))
"""


def test_services_are_looked_at_before_what_databases_and_brokers_need_is_imported(tmp_path: Path) -> None:
    file = tmp_path / "gaia.yaml"
    file.write_text(FILE)
    done = subprocess.run(
        [sys.executable, "-c", STORY, str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "before": [],
        "first": ["auth", "chat"],
        "all": ["auth", "chat", "postgres", "nats", "here"],
        "looked": ["auth", "chat", "here", "nats", "postgres"],
        "causes": ["postgres"],
    }
