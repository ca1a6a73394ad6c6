from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from agent.local.child import Child, LocalError
from agent.local.part import Part
from agent.local.supervisor import Supervisor, table
from tests.waiting import until


class Heard:
    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []

    def part(self, name: str, state: str, text: str) -> None:
        self.told.append((name, state, text))


def _part(tmp_path: Path, name: str, script: str, *, restart_after_s: float | None = 0.05) -> Part:
    ready = tmp_path / f"{name}.ready"

    def spawn() -> Child:
        ready.unlink(missing_ok=True)
        return Child(["sh", "-c", script.format(ready=ready)], log=tmp_path / f"{name}.log")

    return Part(
        name=name, address="127.0.0.1:1", spawn=spawn, is_ready=ready.exists,
        restart_after_s=restart_after_s, stop_within_s=0.5, ready_within_s=5.0,
    )  # fmt: skip


_SERVES = "touch {ready}; exec sleep 60"


def _pid(part: Part) -> int:
    assert part.child is not None
    return part.child.pid


async def test_a_killed_part_is_told_and_started_again_and_the_others_live_on(tmp_path: Path) -> None:
    heard = Heard()
    supervisor = Supervisor(heard)
    first, second = _part(tmp_path, "first", _SERVES), _part(tmp_path, "second", _SERVES)
    try:
        await supervisor.start(first, second)
        keeping = asyncio.create_task(supervisor.keep())
        pids = (_pid(first), _pid(second))
        os.kill(pids[0], signal.SIGKILL)
        await until(lambda: len(heard.told) == 2)
        assert heard.told == [
            ("first", "down", "exited: killed by signal 9 (SIGKILL); starting it again at once"),
            ("first", "up", f"runs again, pid {_pid(first)}"),
        ]
        assert _pid(first) != pids[0]
        assert _pid(second) == pids[1]
        keeping.cancel()
    finally:
        await supervisor.stop()
    assert (first.exit_code(), second.exit_code()) == (-signal.SIGTERM, -signal.SIGTERM)


async def test_with_never_a_part_stays_down(tmp_path: Path) -> None:
    heard = Heard()
    supervisor = Supervisor(heard)
    part = _part(tmp_path, "only", "touch {ready}; sleep 0.1; exit 3", restart_after_s=None)
    await supervisor.start(part)
    await asyncio.wait_for(supervisor.keep(), 5)
    assert heard.told == [("only", "down", "exited with 3; it is not started again (--restart-after never)")]


async def test_a_part_that_cannot_start_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    supervisor = Supervisor(Heard())
    with pytest.raises(LocalError) as caught:
        await supervisor.start(_part(tmp_path, "broken", "echo no licence >&2; exit 4"))
    assert str(caught.value) == (
        f"broken exited with 4 while starting; {tmp_path}/broken.log ends with:\n    no licence"
    )


async def test_groups_stop_last_first_and_the_deaf_are_killed(tmp_path: Path) -> None:
    heard = Heard()
    supervisor = Supervisor(heard)
    order = tmp_path / "order"
    polite = (
        f"trap 'echo $0 {{ready}} >> {order}; exit 0' TERM; touch {{ready}}; while :; do sleep 0.02; done"
    )
    deaf = "trap '' TERM; touch {ready}; while :; do sleep 0.02; done"
    await supervisor.start(_part(tmp_path, "a", polite))
    await supervisor.start(_part(tmp_path, "b", polite), _part(tmp_path, "deaf", deaf))
    os.kill(_pid(supervisor.parts[0]), signal.SIGSTOP)
    await supervisor.stop()
    assert order.read_text().split() == ["sh", f"{tmp_path}/b.ready", "sh", f"{tmp_path}/a.ready"]
    assert [part.exit_code() for part in supervisor.parts] == [0, 0, -signal.SIGKILL]
    assert heard.told == [("deaf", "stopping", "no exit in 0.5 s: killed")]


async def test_a_part_that_ends_at_once_is_given_ever_more_time(tmp_path: Path) -> None:
    heard = Heard()
    supervisor = Supervisor(heard)
    part = _part(tmp_path, "loop", "touch {ready}; exit 1", restart_after_s=0.0)
    await supervisor.start(part)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(supervisor.keep(), 2.5)
    assert [text.rpartition("; ")[2] for _, state, text in heard.told if state == "down"][:2] == [
        "starting it again at once",
        "starting it again in 1.5 s",
    ]


async def test_the_table_lists_what_runs_where(tmp_path: Path) -> None:
    supervisor = Supervisor(Heard())
    part = Part(
        name="nats", address="127.0.0.1:4222", is_ready=lambda: True,
        spawn=lambda: Child([sys.executable, "-c", "pass"], log=tmp_path / "log"),
    )  # fmt: skip
    await supervisor.start(part)
    assert table(supervisor.parts) == f"  nats  127.0.0.1:4222  pid {_pid(part)}"
    await supervisor.stop()
