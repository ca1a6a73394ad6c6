"""kill -9 on the same faults: what the agent, and Debian's Prometheus and Alertmanager, then say.

Of three services `stays` and `returns` die and are paged. Then whoever judges is killed and comes back while
both are still down. Then whoever notifies is killed, just after a silence for `quiet` was accepted; `returns`
recovers while it is away, and `quiet` dies once it is back. (The agent is both.) Prometheus resends each
second, so that what it does shows within a minute; with its default of a minute it does the same later.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.alerts.receivers import Inbox, http_receiver
from tests.bench.page_beside_prometheus import ALERTMANAGER, PROMETHEUS, SERVICE, free_port
from tests.waiting import until_sync

_FOR_S = 10
_DEAD_S = 3.0
_WATCHED_S = 40.0
_TOKEN = "a-token-for-writing"
_NAMES = ("stays", "returns", "quiet")


@dataclass
class Part:
    """One process that can be killed and started again in its place."""

    command: list[str]
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        self.process = subprocess.Popen(
            self.command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=environment,
        )  # fmt: skip

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@dataclass
class Side:
    """One stack: who judges, who notifies, where silences are made, and what its receiver got."""

    name: str
    inbox: Inbox
    address: str
    judges: Part
    notifies: Part
    found: dict[str, int] = field(default_factory=dict)

    def said(self, since: int = 0) -> list[tuple[str, str]]:
        """(service, firing or resolved) in order, from the `since`th message on."""
        return list(_alerts(self.inbox.accepted[since:]))

    def count(self, service: str, status: str, since: int = 0) -> int:
        return self.said(since).count((service, status))

    def called_for_both(self) -> bool:
        return bool(self.count("stays", "firing") and self.count("returns", "firing"))

    def silence(self, service: str) -> None:
        now = datetime.now(UTC)
        self._ask("POST", "/api/v2/silences", {
            "matchers": [{"name": "service", "value": service, "isRegex": False, "isEqual": True}],
            "startsAt": now.isoformat(), "endsAt": (now + timedelta(hours=1)).isoformat(),
            "createdBy": "bench", "comment": "planned",
        })  # fmt: skip

    def silences(self) -> int:
        return sum(one["status"]["state"] == "active" for one in self._ask("GET", "/api/v2/silences"))

    def answers(self) -> bool:
        try:
            self.silences()
        except OSError:
            return False
        return True

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(
            f"http://{self.address}{path}", method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {_TOKEN}"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)


def _alerts(requests: list[Any]) -> Iterator[tuple[str, str]]:
    for request in requests:
        for alert in request.json["alerts"]:
            yield alert["labels"].get("service", ""), alert["status"]


def main() -> None:
    if PROMETHEUS is None or ALERTMANAGER is None:
        print("Prometheus and Alertmanager are not installed here: the agent alone")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        services = {name: Part([sys.executable, "-c", SERVICE, str(free_port())], folder) for name in _NAMES}
        for part in services.values():
            part.start()
            stack.callback(part.kill)
        sides = [_ours(stack, folder / "gaia", services)]
        if PROMETHEUS is not None and ALERTMANAGER is not None:
            sides.append(_theirs(stack, folder, services))
        until_sync(lambda: all(side.answers() for side in sides), within_s=60, what="both stacks")
        _passes(5 * _DEAD_S)
        _judge_dies(sides, services)
        _notifier_dies(sides, services)
        _print(sides)


def _judge_dies(sides: list[Side], services: dict[str, Part]) -> None:
    services["stays"].kill()
    services["returns"].kill()
    for side in sides:
        until_sync(side.called_for_both, within_s=120, what=f"both pages of {side.name}")
    marks = [len(side.inbox.accepted) for side in sides]
    for side in sides:
        side.judges.kill()
    _passes(_DEAD_S)
    for side in sides:
        side.judges.start()
    _passes(_WATCHED_S)
    for side, mark in zip(sides, marks, strict=True):
        side.found["false resolves: who judges is killed"] = side.count("stays", "resolved", mark)
        side.found["repeated pages: who judges is killed"] = side.count("stays", "firing", mark)


def _notifier_dies(sides: list[Side], services: dict[str, Part]) -> None:
    until_sync(lambda: all(side.answers() for side in sides), within_s=60, what="both stacks again")
    marks = [len(side.inbox.accepted) for side in sides]
    for side in sides:
        side.silence("quiet")
        side.notifies.kill()
    services["returns"].start()
    _passes(4 * _DEAD_S)
    for side in sides:
        side.notifies.start()
    until_sync(lambda: all(side.answers() for side in sides), within_s=60, what="both stacks once more")
    for side in sides:
        side.found["lost silences: who notifies is killed"] = int(side.silences() == 0)
    services["quiet"].kill()
    _passes(_WATCHED_S)
    for side, mark in zip(sides, marks, strict=True):
        side.found["lost resolves: who notifies is killed"] = int(
            side.count("returns", "resolved", mark) == 0
        )
        side.found["repeated pages: who notifies is killed"] = side.count("stays", "firing", mark)
        side.found["pages for what was silenced"] = side.count("quiet", "firing", mark)


def _print(sides: list[Side]) -> None:
    width = max(map(len, sides[0].found))
    print(f"{'after kill -9':{width}}  " + "  ".join(f"{side.name:>25}" for side in sides))
    for what in sides[0].found:
        print(f"{what:{width}}  " + "  ".join(f"{side.found[what]:>25}" for side in sides))
    print(f"for: {_FOR_S}s, a look each second; dead for {_DEAD_S:.0f} s, watched for {_WATCHED_S:.0f} s")


def _passes(seconds: float) -> None:
    """A benchmark waits for what must not come."""
    time.sleep(seconds)


def _ours(stack: ExitStack, folder: Path, services: dict[str, Part]) -> Side:
    inbox = stack.enter_context(http_receiver())
    folder.mkdir()
    listen = f"127.0.0.1:{free_port()}"
    document = {
        "platform": "bench",
        "environments": {"production": {"alias": "prod", "check_interval": "1s", "alerts": "few"}},
        "agent": {"otlp_listen": None, "token": _TOKEN},
        "services": {
            name: {"url": f"http://127.0.0.1:{part.command[-1]}", "health": "/"}
            for name, part in services.items()
        },
        "alerts": {
            "policies": {"few": ["service_down"]},
            "rules": {"service_down": {"signal": "target_state", "kinds": ["service"], "for": f"{_FOR_S}s"}},
            "receivers": {"on_call": {"webhook": {"url": inbox.url}}},
        },
    }
    (folder / "gaia.yaml").write_text(json.dumps(document))
    command = [sys.executable, "-m", "agent.cli", "run", "--env", "production", "--listen", listen]
    part = Part(command, folder)
    part.start()
    stack.callback(part.kill)
    return Side("gaia", inbox, listen, part, part)


def _theirs(stack: ExitStack, folder: Path, services: dict[str, Part]) -> Side:
    assert PROMETHEUS is not None
    assert ALERTMANAGER is not None
    inbox = stack.enter_context(http_receiver())
    manager = f"127.0.0.1:{free_port()}"
    route = {"receiver": "hook", "group_by": ["service"], "group_wait": "0s", "group_interval": "1s"}
    hook = {"name": "hook", "webhook_configs": [{"url": inbox.url}]}
    (folder / "am.json").write_text(json.dumps({"route": route, "receivers": [hook]}))
    rule = {"alert": "Down", "expr": "up == 0", "for": f"{_FOR_S}s"}
    (folder / "rules.json").write_text(json.dumps({"groups": [{"name": "g", "rules": [rule]}]}))
    targets = [
        {"targets": [f"127.0.0.1:{part.command[-1]}"], "labels": {"service": name}}
        for name, part in services.items()
    ]
    (folder / "prometheus.json").write_text(
        json.dumps({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.json"],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [manager]}]}]},
            "scrape_configs": [{"job_name": "web", "metrics_path": "/", "static_configs": targets}],
        })
    )  # fmt: skip
    notifies = Part(
        [ALERTMANAGER, "--config.file=am.json", f"--web.listen-address={manager}", "--storage.path=am",
         "--cluster.listen-address="],
        folder,
    )  # fmt: skip
    judges = Part(
        [PROMETHEUS, "--config.file=prometheus.json", f"--web.listen-address=127.0.0.1:{free_port()}",
         "--storage.tsdb.path=tsdb", "--rules.alert.resend-delay=1s"],
        folder,
    )  # fmt: skip
    for part in (notifies, judges):
        part.start()
        stack.callback(part.kill)
    return Side("Prometheus + Alertmanager", inbox, manager, judges, notifies)
