"""`kill -9` at every step of the outbox: nothing is lost, nothing is invented."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.alerts.receivers import Inbox, Mood, http_receiver

STEPS = [
    f"{moment} {kind}"
    for kind in ("trigger", "resolve")
    for moment in ("before", "within", "after", "sent", "noted")
]


def _run(path: Path, inbox: Inbox, step: str, phase: str, *more: str) -> int:
    return subprocess.run(
        [sys.executable, "-m", "tests.alerts.crashing", str(path), inbox.url, step, phase, *more],
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


@pytest.mark.parametrize(
    "step",
    ["before refusal", "after refusal", "before stand-in", "within stand-in", "sent trigger", "noted trigger",
     "before resolve", "within resolve", "sent resolve"],
)  # fmt: skip
def test_a_stand_in_is_called_and_told_of_the_end_wherever_it_dies(step: str, tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with http_receiver(Mood.REFUSES) as first, http_receiver() as stand_in:
        assert _run(path, stand_in, step, "fault", first.url) == -9
        assert _run(path, stand_in, "", "after", first.url) == 0
        told = _told(stand_in)
    kinds = [kind for kind, _, _ in told]
    assert len({episode for _, episode, _ in told}) == 1
    if step == "before refusal":
        # It was over before the refusal was known: one message says both.
        assert kinds == ["resolve"]
        assert "did not get through" in stand_in.accepted[0].json["gaia"]["title"]
        return
    assert (kinds[0], kinds[-1]) == ("trigger", "resolve")
    assert kinds.count("trigger") == (2 if step == "sent trigger" else 1)
    assert kinds.count("resolve") == (2 if step == "sent resolve" else 1)
    # Who refused the call hears of no end.
    assert {request.json["gaia"]["kind"] for request in first.got} == {"trigger"}


def test_without_a_crash_there_is_one_of_each(tmp_path: Path) -> None:
    with http_receiver() as inbox:
        assert _run(tmp_path / "journal.db", inbox, "", "fault") == 0
        assert [kind for kind, _, _ in _told(inbox)] == ["trigger", "resolve"]
