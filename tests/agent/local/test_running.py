from __future__ import annotations

from pathlib import Path

import pytest

from agent.local.child import LocalError
from agent.local.running import Running, RunningPart, forget_running, read_running, write_running

_RUNNING = Running(
    page="http://127.0.0.1:9877/",
    environment="production",
    restart_after_s=10.0,
    parts=(RunningPart(name="nats", address="127.0.0.1:4222", pid=7),),
)


def test_what_runs_is_read_as_written_until_forgotten(tmp_path: Path) -> None:
    write_running(tmp_path, _RUNNING)
    assert read_running(tmp_path) == _RUNNING
    assert read_running(tmp_path).pid("nats") == 7
    forget_running(tmp_path)
    with pytest.raises(
        LocalError, match=r"no gaia up runs in .*: start it first, or name its folder with --data"
    ):
        read_running(tmp_path)


def test_an_unknown_part_is_answered_with_those_there_are() -> None:
    with pytest.raises(LocalError, match=r'no part is called "nat"; running: nats'):
        _RUNNING.pid("nat")
