"""A channel that takes nothing: said through the others, with how much waits and why, and its end."""

from __future__ import annotations

from alerts.notice import NoticeKind
from alerts.receiver import Console, Receiver
from alerts.rule import Severity
from alerts.troubles import Trouble, Troubles
from tests.alerts.receivers import Mood, http_receiver
from tests.alerts.test_delivery import SteppedClock, hook, notice, posted
from tests.alerts.world import World, plan
from tests.waiting import until

PAGER = Trouble(
    channel="on_call/pagerduty", waiting=3, oldest_s=130.0, severity=Severity.PAGE,
    error="events.pagerduty.com answered 503: overloaded",
)  # fmt: skip


def _world() -> World:
    return World(plan(receivers={"team": Receiver(console=Console())}))


def test_it_is_an_alert_like_any_other_and_ends_when_the_channel_takes_again() -> None:
    world, troubles = _world(), Troubles()
    world.judge.receive(troubles.tick([PAGER], "production", world.now_s), world.now_s)
    world.pass_s(2)
    (told,) = world.told()
    assert told.title.startswith(
        "PROD · cannot reach on_call through pagerduty: 3 messages wait, the oldest for 2 min 10 s: "
        "events.pagerduty.com answered 503"
    )
    assert told.severity is Severity.PAGE
    world.pass_s(20)
    world.judge.receive(troubles.tick([], "production", world.now_s), world.now_s)
    world.pass_s(2)
    (end,) = world.told(NoticeKind.RESOLVE)
    assert (end.ended, end.episode) == ("recovered", told.episode)


def test_it_is_confirmed_while_it_lasts_and_asked_for_every_quarter_minute() -> None:
    troubles = Troubles()
    assert len(troubles.tick([PAGER], "production", 1000.0)) == 1
    assert troubles.tick([PAGER], "production", 1014.0) == ()
    assert len(troubles.tick([PAGER], "production", 1015.0)) == 1
    # A clock that is set back by an hour does not stop it.
    assert len(troubles.tick([PAGER], "production", -2000.0)) == 1


async def test_a_channel_is_in_trouble_after_a_minute_and_no_longer_once_it_takes_something() -> None:
    clock = SteppedClock()
    with http_receiver(Mood.ERROR) as bad, http_receiver() as good:
        async with posted({"bad": hook(bad), "good": hook(good)}, clock=clock) as post:
            post.put("bad", notice(1, severity=Severity.CHAT), notice(2))
            post.put("good", notice(1))
            await until(lambda: len(bad.got) >= 2 and good.accepted)
            assert post.dispatcher.troubles() == ()
            clock.ahead_s += 61
            (trouble,) = post.dispatcher.troubles()
            assert (trouble.channel, trouble.waiting, trouble.severity) == ("bad/webhook", 2, Severity.PAGE)
            assert "503" in trouble.error
            bad.mood = Mood.OK
            clock.ahead_s += 60
            post.put("bad", notice(3))
            await until(lambda: not post.journal.queued(), within_s=10)
            assert post.dispatcher.troubles() == ()


async def test_a_final_no_is_a_trouble_until_the_channel_takes_another() -> None:
    clock = SteppedClock()
    with http_receiver(Mood.REFUSES) as bad, http_receiver() as good:
        async with posted({"bad": hook(bad), "good": hook(good)}, clock=clock) as post:
            post.put("bad", notice(1))
            await until(lambda: post.dispatcher.status()[0].dead == 1)
            (trouble,) = post.dispatcher.troubles()
            assert (trouble.waiting, "400: no such key" in trouble.error) == (0, True)
            bad.mood = Mood.OK
            post.put("bad", notice(2))
            await until(lambda: len(bad.accepted) == 1)
            await until(lambda: post.dispatcher.troubles() == ())


async def test_with_nobody_else_to_tell_there_is_nothing_to_say() -> None:
    clock = SteppedClock()
    with http_receiver(Mood.REFUSES) as bad:
        async with posted({"bad": hook(bad)}, clock=clock) as post:
            post.put("bad", notice(1))
            await until(lambda: post.dispatcher.status()[0].dead == 1)
            assert post.dispatcher.troubles() == ()
