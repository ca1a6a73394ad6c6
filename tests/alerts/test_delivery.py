"""At least once, in order, whatever the receiver does; one channel never delays another."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec

from alerts.batch import Batch, Ending
from alerts.channel import Channel, channels
from alerts.dispatcher import Dispatcher
from alerts.journal import Journal
from alerts.notice import Notice, NoticeKind
from alerts.notifiers import catalog
from alerts.notifiers.notifier import Delivery, Notifier, NotifyError
from alerts.receiver import DeadMan, Receiver, Webhook
from alerts.rule import Severity
from checks.secret import Secret
from checks.units import Duration
from tests.alerts.receivers import Inbox, Mood, closed_port, http_receiver
from tests.waiting import until


def notice(
    number: int = 1, kind: NoticeKind = NoticeKind.TRIGGER, *, severity: Severity = Severity.PAGE
) -> Notice:
    now_s = time.time()
    return Notice(
        kind=kind, episode=f"{number:016x}:1", env="production", alertname="down", component=f"svc{number}",
        severity=severity, title=f"PROD · svc{number} is down", sms="down", body=(("", "down"),),
        labels={"alertname": "down", "service": f"svc{number}"}, at_s=now_s, fired_at_s=now_s,
        resolved_at_s=now_s if kind is NoticeKind.RESOLVE else None,
    )  # fmt: skip


class SteppedClock:
    """The machine's clocks, with a wall clock that a test moves on."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def monotonic_s(self) -> float:
        return time.monotonic() + self.ahead_s

    def wall_s(self) -> float:
        return time.time() + self.ahead_s


class Post:
    """A journal, its dispatcher, and a hand that puts notices in."""

    def __init__(self, journal: Journal, dispatcher: Dispatcher, names: dict[str, str]) -> None:
        self.journal = journal
        self.dispatcher = dispatcher
        self._names = names

    def put(self, receiver: str, *notices: Notice, seq: int = 0) -> None:
        name = self._names[receiver]
        batch = Batch(
            outbox=[(name, seq, one) for one in notices if one.kind is not NoticeKind.RESOLVE],
            endings=[
                Ending(notice=one, channels=(name,)) for one in notices if one.kind is NoticeKind.RESOLVE
            ],
        )
        self.journal.commit(batch, time.time())


@asynccontextmanager
async def posted(
    receivers: dict[str, Receiver],
    *,
    journal: Journal | None = None,
    clock: SteppedClock | None = None,
    build: Callable[[Channel], Notifier] = catalog.build,
    dead_man: DeadMan | None = None,
) -> AsyncIterator[Post]:
    book = journal or Journal(None)
    every = channels(receivers, "production")
    dispatcher = Dispatcher(book, every, clock=clock or SteppedClock(), build=build, dead_man=dead_man)
    task = asyncio.create_task(dispatcher.run())
    await asyncio.sleep(0)
    try:
        yield Post(book, dispatcher, {one.receiver: one.name for one in every})
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def hook(inbox_or_url: Inbox | str, **more: object) -> Receiver:
    url = inbox_or_url if isinstance(inbox_or_url, str) else inbox_or_url.url
    settings = Receiver(webhook=Webhook(url=Secret(url)), timeout=Duration(0.5), max_per_minute=6000)
    return msgspec.structs.replace(settings, **more)


def _has(inbox: Inbox, count: int) -> bool:
    return len(inbox.accepted) == count


def kinds(inbox: Inbox) -> list[str]:
    return [
        f"{request.json['gaia']['kind']} {request.json['gaia']['component']}" for request in inbox.accepted
    ]


async def test_a_page_is_at_its_receiver_within_a_quarter_of_a_second() -> None:
    with http_receiver() as inbox:
        async with posted({"a": hook(inbox)}) as post:
            started = time.monotonic()
            post.put("a", notice())
            await until(lambda: inbox.accepted)
            assert time.monotonic() - started < 0.25
            await until(lambda: not post.journal.queued())


async def test_a_receiver_that_fails_for_a_while_gets_everything_later_in_order() -> None:
    with http_receiver(Mood.ERROR) as inbox:
        async with posted({"a": hook(inbox)}) as post:
            post.put("a", notice(1))
            await until(lambda: len(inbox.got) >= 2, within_s=10)
            assert post.dispatcher.oldest_unsent_s > 0
            inbox.mood = Mood.OK
            await until(lambda: kinds(inbox) == ["trigger svc1"], within_s=10)
            post.put("a", notice(1, NoticeKind.RESOLVE))
            await until(lambda: kinds(inbox) == ["trigger svc1", "resolve svc1"])
            assert inbox.accepted[0].json["gaia"]["repeated"] is True
            assert inbox.accepted[1].json["gaia"]["repeated"] is False


async def test_retry_after_is_honoured() -> None:
    clock = SteppedClock()
    with http_receiver(Mood.BUSY) as inbox:
        inbox.retry_after = "120"
        async with posted({"a": hook(inbox)}, clock=clock) as post:
            post.put("a", notice())
            await until(lambda: post.journal.queued() and post.journal.queued()[0].attempts == 1)
            (row,) = post.journal.queued()
            assert row.next_at_s - time.time() > 110
            assert row.http_status == 429


async def test_a_no_is_final_and_kept_for_the_record() -> None:
    with http_receiver(Mood.REFUSES) as inbox:
        async with posted({"a": hook(inbox)}) as post:
            post.put("a", notice())
            await until(lambda: post.dispatcher.status()[0].dead == 1)
            (row,) = post.journal.outbox_of(notice().episode)
            assert (row.state, row.http_status, row.attempts) == ("dead", 400, 1)
            assert "400: no such key" in row.last_error
            assert len(inbox.got) == 1


async def test_a_hanging_channel_does_not_delay_another() -> None:
    with http_receiver(Mood.HANGS) as bad, http_receiver() as good:
        async with posted({"bad": hook(bad), "good": hook(good)}) as post:
            post.put("bad", *(notice(number) for number in range(20)))
            await until(lambda: bad.got)
            for number in range(5):
                started = time.monotonic()
                post.put("good", notice(100 + number))
                await until(partial(_has, good, number + 1))
                assert time.monotonic() - started < 0.25


async def test_the_event_loop_never_waits_for_a_receiver() -> None:
    with http_receiver(Mood.DRIPS) as bad:
        async with posted({"bad": hook(bad)}) as post:
            post.put("bad", *(notice(number) for number in range(5)))
            await until(lambda: bad.got)
            worst = 0.0
            for _ in range(50):
                before = time.monotonic()
                await asyncio.sleep(0.01)
                worst = max(worst, time.monotonic() - before)
            assert worst < 0.2


async def test_a_call_that_never_got_through_and_is_over_becomes_one_message() -> None:
    with http_receiver(Mood.ERROR) as inbox:
        async with posted({"a": hook(inbox)}) as post:
            post.put("a", notice())
            await until(lambda: inbox.got)
            await until(lambda: post.journal.queued()[0].attempts >= 1)
            inbox.mood = Mood.OK
            post.put("a", notice(1, NoticeKind.RESOLVE))
            await until(lambda: not post.journal.queued(), within_s=10)
    said = kinds(inbox)
    assert said in (["resolve svc1"], ["trigger svc1", "resolve svc1"])
    if len(said) == 1:
        assert "did not get through" in inbox.accepted[0].json["gaia"]["title"]


async def test_a_page_nobody_takes_goes_to_the_stand_in_and_so_does_its_end() -> None:
    clock = SteppedClock()
    with http_receiver() as stand_in:
        receivers = {
            "first": hook(f"http://127.0.0.1:{closed_port()}", failover="second"),
            "second": hook(stand_in),
        }
        async with posted(receivers, clock=clock) as post:
            post.put("first", notice())
            await until(lambda: post.dispatcher.status()[0].failed >= 1)
            assert stand_in.accepted == []
            clock.ahead_s = 61
            await until(lambda: kinds(stand_in) == ["trigger svc1"], within_s=8)
            post.put("first", notice(1, NoticeKind.RESOLVE))
            await until(lambda: kinds(stand_in) == ["trigger svc1", "resolve svc1"])


async def test_a_breaker_opens_and_probes_again() -> None:
    clock = SteppedClock()
    with http_receiver(Mood.ERROR) as inbox:
        async with posted({"a": hook(inbox)}, clock=clock) as post:
            post.put("a", *(notice(number) for number in range(5)))
            await until(lambda: post.dispatcher.status()[0].breaker_open, within_s=10)
            tried = len(inbox.got)
            clock.ahead_s += 29
            await asyncio.sleep(0.2)
            assert len(inbox.got) == tried
            inbox.mood = Mood.OK
            clock.ahead_s += 100
            post.put("a", notice(99))
            await until(lambda: len(inbox.accepted) == 6, within_s=10)
            assert not post.dispatcher.status()[0].breaker_open


async def test_more_than_the_rate_allows_is_merged_and_counted_and_nothing_is_dropped() -> None:
    with http_receiver() as inbox:
        async with posted({"a": hook(inbox, max_per_minute=60)}) as post:
            post.put("a", *(notice(number) for number in range(100)))
            await until(lambda: not post.journal.queued(), within_s=10)
    assert len(inbox.accepted) <= 12
    told = {
        episode
        for request in inbox.accepted
        for episode in (request.json["gaia"]["also"] or [request.json["gaia"]["episode"]])
    }
    assert told == {notice(number).episode for number in range(100)}


async def test_a_defect_of_a_notifier_is_retried_and_never_loses_the_page() -> None:
    class Broken:
        dedups = False

        def __init__(self) -> None:
            self.calls = 0

        def deliver(self, _: Notice, *, deadline_s: float, ref: str | None = None) -> Delivery:
            del deadline_s, ref
            self.calls += 1
            if self.calls == 1:
                raise ZeroDivisionError("a defect")
            return Delivery()

        def warm(self) -> None:
            raise NotifyError("nobody there", retryable=True)

    broken = Broken()
    async with posted({"a": hook("http://x")}, build=lambda _: broken) as post:
        post.put("a", notice())
        await until(lambda: not post.journal.queued(), within_s=5)
    assert broken.calls == 2


async def test_a_doubt_gets_every_channel_ready_at_most_twice_a_minute() -> None:
    class Slow:
        dedups = False

        def __init__(self) -> None:
            self.begun = 0

        def deliver(self, _: Notice, *, deadline_s: float, ref: str | None = None) -> Delivery:
            raise AssertionError((deadline_s, ref))

        def warm(self) -> None:
            self.begun += 1

    slow, clock = Slow(), SteppedClock()
    async with posted({"a": hook("http://x")}, clock=clock, build=lambda _: slow) as post:
        post.dispatcher.prepare()
        post.dispatcher.prepare()
        await until(lambda: slow.begun == 1)
        clock.ahead_s += 30
        post.dispatcher.prepare()
        await until(lambda: slow.begun == 2)


async def test_what_was_queued_when_the_process_died_is_sent_by_the_next_and_marked(tmp_path: Path) -> None:
    first = Journal(tmp_path / "j.db")
    every = channels({"a": hook("http://x")}, "production")
    first.commit(Batch(outbox=[(every[0].name, 0, notice())]), time.time())
    first.close()
    with http_receiver() as inbox:
        async with posted({"a": hook(inbox)}, journal=Journal(tmp_path / "j.db")) as post:
            await until(lambda: not post.journal.queued())
        assert inbox.accepted[0].json["gaia"]["repeated"] is True
        async with posted({"a": hook(inbox)}, journal=Journal(tmp_path / "j.db")):
            await asyncio.sleep(0.1)
        assert len(inbox.accepted) == 1


async def test_a_test_message_goes_to_every_channel_of_a_receiver() -> None:
    with http_receiver() as inbox:
        async with posted({"a": hook(inbox)}) as post:
            assert post.dispatcher.test("a", "mira").channels == ("a/webhook",)
            await until(lambda: kinds(inbox) == ["test "])


async def test_the_dead_mans_ping_stops_when_pages_do_not_leave() -> None:
    clock = SteppedClock()
    with http_receiver() as pinged:
        receivers = {"a": hook(f"http://127.0.0.1:{closed_port()}")}
        dead_man = DeadMan(url=Secret(f"{pinged.url}/ping"), every=Duration(0.05))
        async with posted(receivers, clock=clock, dead_man=dead_man) as post:
            await until(lambda: len(pinged.got) >= 2)
            assert post.dispatcher.pinged_at_s > 0
            post.put("a", notice())
            clock.ahead_s = 301
            await until(lambda: post.dispatcher.oldest_unsent_s > 300)
            await asyncio.sleep(0.1)
            before = len(pinged.got)
            await asyncio.sleep(0.2)
            assert len(pinged.got) == before


async def test_channels_change_while_it_runs_and_nothing_is_lost() -> None:
    with http_receiver(Mood.ERROR) as old, http_receiver() as new:
        async with posted({"a": hook(old)}) as post:
            post.put("a", notice())
            await until(lambda: old.got)
            post.dispatcher.reload(channels({"a": hook(new)}, "production"))
            await until(lambda: kinds(new) == ["trigger svc1"], within_s=10)
