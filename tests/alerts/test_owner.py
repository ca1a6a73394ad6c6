"""Alertmanager beside us: told of everything, again and again; and who calls when it owns the calls."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from alerts.batch import OutboxRow
from alerts.notice import NoticeKind
from alerts.owner import Fate, fate
from alerts.receiver import Alertmanager, Owner, Receiver
from checks.secret import Secret
from checks.units import Duration
from tests.alerts.alertmanager import alertmanager, alerts, free_port, needs_alertmanager
from tests.alerts.receivers import Mood, closed_port, http_receiver
from tests.alerts.test_delivery import SteppedClock, hook, kinds, notice, posted
from tests.waiting import until

ALERTMANAGERS = frozenset({"am/alertmanager"})


def _row(channel: str, kind: NoticeKind = NoticeKind.TRIGGER, **more: object) -> OutboxRow:
    made = OutboxRow(id=1, channel=channel, notice=notice(1, kind), seq=0, created_at_s=0.0)
    return msgspec.structs.replace(made, **more)


TRIGGER, RESOLVE = _row("a"), _row("a", NoticeKind.RESOLVE)
SENT, DEAD = _row("am/alertmanager", state="sent"), _row("am/alertmanager", state="dead")


@pytest.mark.parametrize(
    ("row", "told", "alone_s", "decided"),
    [
        (TRIGGER, [TRIGGER, _row("am/alertmanager")], 0.0, Fate.OPEN),
        (TRIGGER, [TRIGGER, SENT], 0.0, Fate.THEIRS),
        (TRIGGER, [TRIGGER, SENT], 600.0, Fate.THEIRS),
        (TRIGGER, [TRIGGER, _row("am/alertmanager")], 59.0, Fate.OPEN),
        (TRIGGER, [TRIGGER, _row("am/alertmanager")], 60.0, Fate.OURS),
        (TRIGGER, [TRIGGER, DEAD], 0.0, Fate.OURS),
        (TRIGGER, [TRIGGER], 0.0, Fate.OURS),
        (_row("a", attempts=1), [SENT], 0.0, Fate.OURS),
        (RESOLVE, [_row("a", state="sent"), SENT], 0.0, Fate.OURS),
        (RESOLVE, [_row("a", state="merged"), SENT], 0.0, Fate.THEIRS),
        (_row("a", NoticeKind.REMINDER), [_row("a", state="merged"), SENT], 0.0, Fate.THEIRS),
        (_row("a", NoticeKind.TEST), [], 0.0, Fate.OURS),
    ],
    ids=["asked", "taken", "taken, then gone", "not yet", "a minute", "refused", "not asked", "begun",
         "ours to end", "theirs to end", "theirs to remind", "test"],
)  # fmt: skip
def test_who_calls(row: OutboxRow, told: list[OutboxRow], alone_s: float, decided: Fate) -> None:
    assert fate(row, told, ALERTMANAGERS, alone_s=alone_s) is decided


def _left(url: str, **more: object) -> Receiver:
    return hook(url, owner=Owner.ALERTMANAGER, **more)


def _pushes(*urls: str) -> Receiver:
    options = Alertmanager(urls=tuple(Secret(url) for url in urls))
    return Receiver(alertmanager=options, timeout=Duration(2), max_per_minute=6000)


async def test_what_alertmanager_took_is_not_called_for_twice() -> None:
    with http_receiver() as theirs, http_receiver() as ours:
        receivers = {"pager": _left(ours.url), "am": _pushes(theirs.url)}
        async with posted(receivers) as post:
            for kind in (NoticeKind.TRIGGER, NoticeKind.RESOLVE):
                post.put("pager", notice(1, kind))
                post.put("am", notice(1, kind))
                await until(lambda: not post.journal.queued())
            pager = [
                row for row in post.journal.outbox_of(notice(1).episode) if row.channel == "pager/webhook"
            ]
            assert [(row.state, row.last_error) for row in pager] == [("merged", "left to Alertmanager")] * 2
    assert ours.got == []
    pushed = [one["labels"] for request in theirs.accepted for one in request.json]
    # Its routes must call: nothing says that we did.
    assert not any("notified_by" in labels for labels in pushed if labels["alertname"] == "down")


async def test_without_an_alertmanager_for_a_minute_we_call_and_we_end_it() -> None:
    clock = SteppedClock()
    with http_receiver() as ours, http_receiver(Mood.ERROR) as theirs:
        receivers = {"pager": _left(ours.url), "am": _pushes(theirs.url)}
        async with posted(receivers, clock=clock) as post:
            post.put("am", notice(1))
            post.put("pager", notice(1))
            await until(lambda: theirs.got)
            clock.ahead_s += 50
            post.put("am", notice(2))
            assert ours.got == []
            clock.ahead_s += 11
            await until(lambda: kinds(ours) == ["trigger svc1"], within_s=10)
            # It is back, and takes the alert late; the end is ours all the same.
            theirs.mood = Mood.OK
            clock.ahead_s += 60
            post.put("am", notice(1, NoticeKind.RESOLVE))
            post.put("pager", notice(1, NoticeKind.RESOLVE))
            await until(lambda: kinds(ours) == ["trigger svc1", "resolve svc1"], within_s=10)


async def test_a_receiver_of_ours_is_called_at_once_whatever_alertmanager_does() -> None:
    with http_receiver() as ours:
        receivers = {
            "pager": _left(f"http://127.0.0.1:{closed_port()}"),
            "chat": hook(ours),
            "am": _pushes(f"http://127.0.0.1:{closed_port()}"),
        }
        async with posted(receivers) as post:
            for receiver in receivers:
                post.put(receiver, notice(1))
            await until(lambda: kinds(ours) == ["trigger svc1"])


@needs_alertmanager
async def test_a_real_alertmanager_hears_the_alert_its_end_and_that_we_are_alive(tmp_path: Path) -> None:
    port = free_port()
    with http_receiver() as called, alertmanager(tmp_path, called.url, port) as url:
        async with posted({"pager": _left(f"{called.url}/ours"), "am": _pushes(url)}) as post:
            post.put("pager", notice(1))
            post.put("am", notice(1))
            await until(lambda: alerts(url, alertname="down", service="svc1"))
            await until(lambda: alerts(url, alertname="Watchdog", notified_by="agent"))
            await until(lambda: called.accepted, within_s=10)
            post.put("pager", notice(1, NoticeKind.RESOLVE))
            post.put("am", notice(1, NoticeKind.RESOLVE))
            await until(lambda: len(called.accepted) == 2, within_s=10)
        assert [request.json["status"] for request in called.accepted] == ["firing", "resolved"]
        assert not any(request.path == "/ours" for request in called.got)


@needs_alertmanager
async def test_an_alertmanager_that_forgot_everything_is_told_again(tmp_path: Path) -> None:
    from alerts.batch import Batch
    from alerts.told import Told

    clock, port = SteppedClock(), free_port()
    opened = notice(1)
    told = Told(
        episode=opened.episode, fingerprint="1", env="production", alertname="down", component="svc1",
        severity=opened.severity, labels=opened.labels, title="t", text="t", fired_at_s=time.time(),
        told_at_s=time.time(), channels=("am/alertmanager",),
    )  # fmt: skip
    with http_receiver() as called:
        with alertmanager(tmp_path / "one", called.url, port) as url:
            async with posted({"am": _pushes(url)}, clock=clock) as post:
                post.journal.commit(Batch(episodes=[told]), time.time())
                post.put("am", opened)
                await until(lambda: alerts(url, alertname="down"))
                journal = post.journal
        with alertmanager(tmp_path / "two", called.url, port) as url:
            # A fresh one under the same address: the next push, at the start, tells it.
            async with posted({"am": _pushes(url)}, journal=journal, clock=clock):
                await until(lambda: alerts(url, alertname="down", notified_by="agent"))
        # We call: its own route drops what is marked so.
        assert called.got == []
