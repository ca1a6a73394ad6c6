"""Who is told of an end, what is merged and kept, and that a set clock holds nothing up."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from alerts.allowance import Allowance
from alerts.batch import Batch, Ending, OutboxRow
from alerts.channel import channels
from alerts.digest import digest_of
from alerts.journal import Journal
from alerts.notice import Notice, NoticeKind
from alerts.notifiers.webhook import envelope
from alerts.receiver import Receiver, Slack, Webhook
from checks.secret import Secret
from checks.units import Duration
from tests.alerts.receivers import Mood, closed_port, http_receiver
from tests.alerts.test_delivery import SteppedClock, hook, kinds, notice, posted
from tests.waiting import until


def _ended(
    journal: Journal, number: int = 1, *, told: tuple[str, ...] = ("a", "b"), **more: object
) -> list[str]:
    over = notice(number, NoticeKind.RESOLVE)
    ending = msgspec.structs.replace(Ending(notice=over, channels=told), **more)
    return [row.channel for row in journal.commit(Batch(endings=[ending]), 2.0)]


def _opened(*names: str) -> tuple[Journal, dict[str, OutboxRow]]:
    journal = Journal(None)
    rows = journal.commit(Batch(outbox=[(name, 0, notice(1)) for name in names]), 1.0)
    return journal, {row.channel: row for row in rows}


def test_an_end_goes_to_whoever_got_the_call_stand_ins_too() -> None:
    journal, _ = _opened("a", "b", "stand-in")
    assert _ended(journal) == ["a", "b", "stand-in"]


def test_a_channel_that_refused_the_call_is_not_told_of_its_end() -> None:
    journal, rows = _opened("a", "b")
    journal.failed(msgspec.structs.replace(rows["a"], attempts=1, http_status=400), dead=True)
    assert _ended(journal) == ["b"]


def test_a_channel_that_may_have_taken_the_call_is_told_of_its_end() -> None:
    # Its first attempt got no answer: whether it was taken is not known.
    journal, rows = _opened("a", "b")
    journal.failed(msgspec.structs.replace(rows["a"], attempts=2, http_status=400), dead=True)
    assert _ended(journal) == ["a", "b"]


def test_a_channel_that_wants_no_ends_is_spared_and_its_stand_in_is_not() -> None:
    journal, _ = _opened("a", "stand-in")
    assert _ended(journal, told=("a",), spared=frozenset({"a"})) == ["stand-in"]


def test_an_end_is_told_once() -> None:
    journal, _ = _opened("a")
    assert _ended(journal, told=("a",)) == ["a"]
    assert _ended(journal, told=("a",)) == []


def test_what_became_of_two_messages_is_on_disk_before_the_one_is_sent(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db")
    trigger, end = journal.commit(
        Batch(outbox=[("a", 0, notice(1)), ("a", 0, notice(1, NoticeKind.RESOLVE))]), 1.0
    )
    both = msgspec.structs.replace(end, notice=msgspec.structs.replace(end.notice, title="fired and over"))
    journal.merge([trigger], 2.0, into=both)
    journal.close()
    (row,) = Journal(tmp_path / "j.db").queued()
    assert row.notice.title == "fired and over"


def test_a_digest_for_a_program_carries_every_alert() -> None:
    body = envelope(digest_of([notice(number) for number in range(3)], 7))
    assert [alert.labels["service"] for alert in body.alerts] == ["svc0", "svc1", "svc2"]
    assert len({alert.fingerprint for alert in body.alerts}) == 3
    assert body.common_labels == {"alertname": "down"}
    assert body.group_key == "digest:7"


async def test_a_test_message_is_never_counted_among_things_that_are_wrong() -> None:
    with http_receiver() as inbox:
        async with posted({"a": hook(inbox, max_per_minute=1)}) as post:
            post.put("a", *(notice(number) for number in range(30)))
            post.dispatcher.test("a", "mira")
            await until(lambda: not post.journal.queued())
    assert kinds(inbox) == ["trigger ", "test "]
    assert len(inbox.accepted[0].json["alerts"]) == 30


async def test_retry_after_holds_for_the_whole_channel() -> None:
    clock = SteppedClock()
    with http_receiver(Mood.BUSY) as inbox:
        inbox.retry_after = "90"
        async with posted({"a": hook(inbox)}, clock=clock) as post:
            post.put("a", notice(1))
            await until(lambda: len(inbox.got) == 1)
            await until(lambda: post.journal.queued()[0].attempts == 1)
            inbox.mood = Mood.OK
            clock.ahead_s += 80
            post.put("a", notice(2))
            await until(lambda: post.dispatcher.status()[0].queued == 2)
            assert len(inbox.got) == 1
            clock.ahead_s += 20
            post.put("a", notice(3))
            await until(lambda: len(inbox.accepted) == 3)


async def test_a_clock_that_is_set_back_keeps_nobody_waiting() -> None:
    class SetBack(SteppedClock):
        behind_s = 0.0

        def wall_s(self) -> float:
            return super().wall_s() - self.behind_s

    clock = SetBack()
    with http_receiver(Mood.ERROR) as inbox:
        async with posted({"a": hook(inbox)}, clock=clock) as post:
            post.put("a", notice())
            await until(lambda: post.journal.queued()[0].attempts >= 1)
            clock.behind_s = 7200.0
            inbox.mood = Mood.OK
            await until(lambda: kinds(inbox) == ["trigger svc1"], within_s=10)


async def test_a_clock_that_jumps_ahead_gives_nothing_up() -> None:
    class Ahead(SteppedClock):
        jump_s = 0.0

        def wall_s(self) -> float:
            return super().wall_s() + self.jump_s

    clock = Ahead()
    with http_receiver(Mood.ERROR) as inbox:
        async with posted({"a": hook(inbox)}, clock=clock) as post:
            post.put("a", notice())
            await until(lambda: post.journal.queued()[0].attempts >= 1)
            clock.jump_s = 3 * 86400.0
            await until(lambda: len(inbox.got) >= 3, within_s=10)
            assert post.dispatcher.status()[0].dead == 0
            inbox.mood = Mood.OK
            await until(lambda: kinds(inbox) == ["trigger svc1"], within_s=15)


async def test_a_reload_leaves_alone_what_stays_and_takes_up_what_comes_back() -> None:
    with http_receiver() as inbox:
        bad = hook(f"http://127.0.0.1:{closed_port()}")
        every = {"a": bad, "b": hook(inbox)}
        async with posted(every) as post:
            post.put("a", *(notice(number) for number in range(5)))
            await until(lambda: post.dispatcher.status()[0].breaker_open, within_s=10)
            post.dispatcher.reload(channels({"a": bad}, "production"))
            assert post.dispatcher.status()[0].breaker_open
            post.put("b", notice(9))
            assert [one.channel for one in post.dispatcher.status()] == ["a/webhook"]
            post.dispatcher.reload(channels(every, "production"))
            await until(lambda: kinds(inbox) == ["trigger svc9"])


async def test_a_call_that_waited_for_its_turn_and_is_over_is_one_message_too() -> None:
    clock = SteppedClock()
    with http_receiver(Mood.ERROR) as inbox:
        async with posted({"a": hook(inbox)}, clock=clock) as post:
            post.put("a", *(notice(number) for number in range(5)))
            await until(lambda: post.dispatcher.status()[0].breaker_open, within_s=10)
            # Nothing is tried while the breaker is open.
            post.put("a", notice(9))
            clock.ahead_s += 25
            post.put("a", notice(9, NoticeKind.RESOLVE))
            inbox.mood = Mood.OK
            clock.ahead_s += 40
            post.put("a", notice(10))
            await until(lambda: not post.journal.queued(), within_s=10)
    assert [one for one in kinds(inbox) if one.endswith("svc9")] == ["resolve svc9"]


def test_the_breaker_lets_one_try_through_every_half_minute_and_closes_on_success() -> None:
    allowance = Allowance(600, 0.0)
    for _ in range(5):
        allowance.failed(10.0, asked_s=None)
    assert allowance.broken
    assert allowance.wait_s(10.0) == 30.0
    assert allowance.wait_s(40.0) == 0.0
    allowance.failed(40.0, asked_s=None)
    assert allowance.wait_s(41.0) == 29.0
    allowance.succeeded()
    assert not allowance.broken


@pytest.mark.parametrize(("per_minute", "wait_s"), [(60, 1.0), (30, 2.0), (6, 10.0)])
def test_the_rate_is_a_bucket_of_ten(per_minute: int, wait_s: float) -> None:
    allowance = Allowance(per_minute, 0.0)
    for _ in range(10):
        assert allowance.wait_s(0.0) == 0.0
        allowance.spend()
    assert allowance.wait_s(0.0) == pytest.approx(wait_s)
    assert allowance.wait_s(wait_s) == 0.0


@pytest.mark.parametrize(
    ("receiver", "per_minute"),
    [
        (Receiver(slack=Slack(webhook=Secret("https://x"))), 60),
        (Receiver(notify=(Secret("tgram://token/1"),)), 20),
        (Receiver(notify=(Secret("mailto://a:b@example.org"),)), 10),
        (Receiver(webhook=Webhook(url=Secret("https://x"))), 30),
        (Receiver(slack=Slack(webhook=Secret("https://x")), max_per_minute=5), 5),
    ],
    ids=["slack", "telegram", "mail", "webhook", "as written"],
)
def test_a_channel_sends_no_more_than_its_service_takes(receiver: Receiver, per_minute: int) -> None:
    (channel,) = channels({"a": receiver}, "production")
    assert channel.per_minute == per_minute


def test_the_lane_is_told_how_long_to_wait_in_seconds_of_the_receiver() -> None:
    allowance = Allowance(600, 0.0)
    allowance.failed(5.0, asked_s=120.0)
    assert allowance.wait_s(5.0) == 120.0


def _deliveries(notices: list[Notice]) -> set[str]:
    return {one.episode for one in notices}


async def test_nothing_is_lost_when_receivers_come_and_go() -> None:
    """Five channels in five moods, twenty episodes each: the well one is not delayed, the others catch up."""
    moods = [Mood.ERROR, Mood.BUSY, Mood.HANGS, Mood.DRIPS]
    with (
        http_receiver() as good,
        http_receiver() as a,
        http_receiver() as b,
        http_receiver() as c,
        http_receiver() as d,
    ):
        bad = [a, b, c, d]
        for inbox, mood in zip(bad, moods, strict=True):
            inbox.mood, inbox.retry_after = mood, "0.2"
        receivers = {"good": hook(good)} | {
            f"bad{number}": hook(inbox, timeout=Duration(0.2)) for number, inbox in enumerate(bad)
        }
        async with posted(receivers) as post:
            for number in range(4):
                post.put(f"bad{number}", *(notice(one) for one in range(3)))
            await until(lambda: all(inbox.got for inbox in bad))
            post.put("good", *(notice(one) for one in range(3)))
            await until(lambda: len(good.accepted) == 3)
            # Not one of the others has taken anything by then.
            assert [len(inbox.accepted) for inbox in bad] == [0, 0, 0, 0]
            for inbox in bad:
                inbox.mood = Mood.OK
            c.released.set()
            await until(lambda: not post.journal.queued(), within_s=60)
    for inbox in bad:
        told = {request.json["gaia"]["episode"] for request in inbox.accepted}
        assert told == _deliveries([notice(one) for one in range(3)])
