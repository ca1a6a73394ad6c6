"""`kill -9` at every step of the outbox: nothing is lost, nothing is invented."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.alerts.receivers import Inbox, http_receiver

STEPS = [
    f"{moment} {kind}"
    for kind in ("trigger", "resolve")
    for moment in ("before", "within", "after", "sent", "noted")
]


def _run(path: Path, inbox: Inbox, step: str, phase: str) -> int:
    return subprocess.run(
        [sys.executable, "-m", "tests.alerts.crashing", str(path), inbox.url, step, phase],
        cwd=Path(__file__).parents[2], timeout=60, check=False,
    ).returncode  # fmt: skip


def _told(inbox: Inbox) -> list[tuple[str, str, bool]]:
    return [
        (one["kind"], one["episode"], one["repeated"])
        for one in (request.json["gaia"] for request in inbox.accepted)
    ]


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_loses_no_trigger_and_no_resolve_and_invents_none(step: str, tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with http_receiver() as inbox:
        assert _run(path, inbox, step, "fault") == -9
        assert _run(path, inbox, "", "after") == 0
        told = _told(inbox)
    kinds = [kind for kind, _, _ in told]
    episodes = {episode for _, episode, _ in told}
    if step in ("before trigger", "within trigger"):
        # It died before the fault was on disk, and the fault was over when it came back.
        assert told == []
        return
    assert len(episodes) == 1
    assert kinds[0] == "trigger"
    assert kinds[-1] == "resolve"
    repeats = [kind for kind, _, repeated in told if repeated]
    # At least once: what died between sending and noting it is sent again, and says so.
    assert kinds.count("trigger") == (2 if step == "sent trigger" else 1)
    assert kinds.count("resolve") == (2 if step == "sent resolve" else 1)
    if step.startswith("sent"):
        assert repeats == [step.removeprefix("sent ")]


def test_without_a_crash_there_is_one_of_each(tmp_path: Path) -> None:
    with http_receiver() as inbox:
        assert _run(tmp_path / "journal.db", inbox, "", "fault") == 0
        assert [kind for kind, _, _ in _told(inbox)] == ["trigger", "resolve"]
