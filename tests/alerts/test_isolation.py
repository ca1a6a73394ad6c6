"""When nearly nothing answers: is it us? Then nobody is called; if not, everybody is, in one message."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from alerts.canary import Canary, parse, stand_ins, validated
from alerts.channel import channels
from alerts.external import ExternalAlert
from alerts.isolation import Reach
from alerts.notice import NoticeKind
from alerts.receiver import Console, Pagerduty, Receiver, Smtp, Webhook
from alerts.rule import TargetStateRule
from checks.finding import State
from checks.reason import Reason
from checks.secret import Secret
from checks.target import Kind, Target, TargetKey
from tests.alerts.world import World, plan

CANARIES = (parse("192.0.2.1:443"), parse("dns://198.51.100.1/example.org"))
BASE = World().plan.targets[0]
MANY = tuple(
    replace(BASE, key=replace(BASE.key, service=f"svc{number}"), address=f"10.0.0.{number}:80")
    for number in range(10)
)


def _world(
    targets: tuple[Target, ...] = MANY, canaries: tuple[Canary, ...] = CANARIES, *, path: Path | None = None
) -> World:
    """Ten services that depend on nothing, all well, and canaries that answered at the start."""
    world = World(
        plan({"service_down": TargetStateRule()}, targets=targets, dependencies={}, canaries=canaries),
        path=path,
    )
    for service in world.targets:
        world.look(service)
    if canaries:
        assert world.judge.asks(world.now_s)
        world.judge.canary(reachable=True, now_s=world.now_s)
    world.pass_s(30)
    return world


def _cut(world: World, *, answered: bool | None = None) -> None:
    """Within a second nothing comes back from anywhere; the canaries are asked as the agent asks them."""
    world.down = set(world.targets)
    for number in range(3):
        for service in world.targets:
            world.look(service, State.DOWN, Reason.TIMEOUT)
            if world.judge.asks(world.now_s) and answered is not None:
                world.judge.canary(reachable=answered, now_s=world.now_s)
        world.now_s += 0.3 * (number + 1)


def _time(world: World, seconds: int, *, answered: bool) -> None:
    for _ in range(seconds):
        if world.judge.asks(world.now_s):
            world.judge.canary(reachable=answered, now_s=world.now_s)
        world.now_s += 1
        if round(world.now_s) % 10 == 0:
            for service in world.targets:
                if service in world.down:
                    world.look(service, State.DOWN, Reason.TIMEOUT)
                else:
                    world.look(service)
        world.transitions += world.judge.tick(world.now_s)


def test_while_it_is_cut_off_nothing_is_judged_and_one_alert_says_so() -> None:
    world = _world()
    _cut(world, answered=False)
    _time(world, 600, answered=False)
    assert world.said() == ["trigger agent_isolated"]
    assert world.states() == {"agent_isolated ": "firing"}
    assert world.judge.isolation.blind
    assert "10 of 10 targets do not answer, nor does 192.0.2.1:443" in world.judge.isolation.said()


def test_once_the_canary_answers_everything_is_looked_at_again_before_anything_is_told() -> None:
    world = _world()
    _cut(world, answered=False)
    _time(world, 60, answered=False)
    world.down = {"svc3"}
    world.judge.canary(reachable=True, now_s=world.now_s)
    assert world.judge.isolation.reach is Reach.RETURNING
    assert set(world.judge.isolation.silent()) == {target.key for target in MANY}
    for service in world.targets:
        for _ in range(2):
            world.look(service, State.DOWN if service == "svc3" else State.UP, Reason.TIMEOUT)
            world.now_s += 0.1
    _time(world, 60, answered=True)
    assert world.said()[0] == "trigger agent_isolated"
    assert sorted(world.said()[1:]) == ["resolve agent_isolated", "trigger service_down svc3"]
    assert not world.judge.isolation.holds


def test_targets_that_answer_again_release_it_too_even_if_no_canary_does() -> None:
    world = _world()
    _cut(world, answered=False)
    _time(world, 60, answered=False)
    world.down = set()
    _time(world, 60, answered=False)
    assert world.said() == ["trigger agent_isolated", "resolve agent_isolated"]
    assert world.states() == {}


def test_when_all_targets_are_down_but_a_canary_answers_there_is_one_message() -> None:
    world = _world()
    _cut(world, answered=True)
    _time(world, 30, answered=True)
    assert world.said() == ["trigger many_at_once"]
    assert "PROD · 10 things wrong at once" in world.told()[0].title
    world.down = set()
    _time(world, 60, answered=True)
    assert world.said() == ["trigger many_at_once", "resolve many_at_once"]


def test_a_page_that_was_told_before_is_neither_repeated_nor_resolved_while_it_is_cut_off() -> None:
    world = _world()
    world.kill("svc1")
    assert world.said() == ["trigger service_down svc1"]
    _cut(world, answered=False)
    _time(world, 7 * 3600, answered=False)
    assert world.told(NoticeKind.RESOLVE) == []
    assert world.said() == ["trigger service_down svc1", "trigger agent_isolated"]
    world.down = set()
    _time(world, 60, answered=True)
    assert set(world.said()[2:]) == {"resolve agent_isolated", "resolve service_down svc1"}


def test_what_others_judged_is_held_too_and_has_time_to_be_confirmed_again() -> None:
    world = _world()
    theirs = [ExternalAlert(labels={"alertname": "Theirs", "service": "svc1", "severity": "critical"})]
    world.judge.receive(theirs, world.now_s)
    world.judge.tick(world.now_s)
    _cut(world, answered=False)
    _time(world, 900, answered=False)
    world.down = set()
    _time(world, 60, answered=True)
    assert [one.ended for one in world.told(NoticeKind.RESOLVE)] == ["recovered"]  # Only our own.
    _time(world, 400, answered=True)
    assert "expired" in [one.ended for one in world.told(NoticeKind.RESOLVE)]


def test_canaries_that_do_not_say_anything_hold_a_page_for_seconds_only() -> None:
    world = _world()
    _cut(world)
    assert world.told() == []
    for _ in range(6):
        world.now_s += 1
        world.judge.asks(world.now_s)
        world.judge.tick(world.now_s)
    assert world.said() == ["trigger many_at_once"]


def test_a_canary_that_never_answered_while_targets_did_holds_back_nothing_and_is_named() -> None:
    world = World(plan({"service_down": TargetStateRule()}, targets=MANY, dependencies={}, canaries=CANARIES))
    for service in world.targets:
        world.look(service)
    assert world.judge.asks(world.now_s)
    world.judge.canary(reachable=False, now_s=world.now_s)
    _cut(world, answered=False)
    _time(world, 5, answered=False)
    assert world.said() == ["trigger many_at_once"]
    assert "mend 192.0.2.1:443, dns://198.51.100.1:53/example.org" in world.judge.isolation.lacks()


def test_an_agent_that_starts_without_a_network_believes_its_canaries() -> None:
    world = World(plan({"service_down": TargetStateRule()}, targets=MANY, dependencies={}, canaries=CANARIES))
    _cut(world, answered=False)
    _time(world, 60, answered=False)
    assert world.said() == ["trigger agent_isolated"]


def test_without_any_canary_all_are_told_in_one_message_that_says_what_cannot_be_ruled_out() -> None:
    world = _world(canaries=())
    _cut(world)
    _time(world, 5, answered=True)
    assert world.said() == ["trigger many_at_once"]
    assert "no canary is configured" in dict(world.told()[0].body)["Note"]


def test_an_answer_whatever_it_says_shows_that_the_way_is_open() -> None:
    world = _world()
    for service in world.targets:
        world.fail(service)
        assert not world.judge.asks(world.now_s)
    assert world.judge.isolation.reach is Reach.CLEAR


@pytest.mark.parametrize(("silent", "asked"), [(7, False), (8, True)])
def test_four_in_five_are_nearly_all(silent: int, *, asked: bool) -> None:
    world = _world()
    for service in list(world.targets)[:silent]:
        world.look(service, State.DOWN, Reason.UNREACHABLE)
    assert world.judge.asks(world.now_s) is asked


def test_what_sleeps_or_is_looked_at_right_here_does_not_count() -> None:
    here = Target(
        key=TargetKey(env="production", service="machine", check="host", vantage="agent"),
        kind=Kind.HOST, address="local",
    )  # fmt: skip
    world = _world((*MANY, here))
    for service in list(world.targets)[:5]:
        world.look(service, State.ASLEEP, Reason.ASLEEP)
    for service in list(world.targets)[5:9]:
        world.look(service, State.DOWN, Reason.TIMEOUT)
    assert world.judge.asks(world.now_s), "four of the five that are awake"


def test_a_clock_that_is_set_back_does_not_prolong_an_absence() -> None:
    world = _world()
    _cut(world, answered=False)
    world.now_s -= 5000
    world.down = set()
    _time(world, 60, answered=True)
    assert world.judge.isolation.reach is Reach.CLEAR


def test_a_restart_while_cut_off_says_it_once(tmp_path: Path) -> None:
    world = _world(path=tmp_path / "journal.db")
    _cut(world, answered=False)
    _time(world, 30, answered=False)
    world.restart()
    _cut(world, answered=False)
    _time(world, 60, answered=False)
    assert world.said() == ["trigger agent_isolated"]


@pytest.mark.parametrize(
    ("text", "canary"),
    [
        ("1.1.1.1:443", Canary(kind="tcp", host="1.1.1.1", port=443)),
        ("tcp://[2606:4700::1111]:443", Canary(kind="tcp", host="2606:4700::1111", port=443)),
        ("dns://9.9.9.9", Canary(kind="dns", host="9.9.9.9", port=53, name="example.org")),
        ("dns://9.9.9.9:5353/fly.io", Canary(kind="dns", host="9.9.9.9", port=5353, name="fly.io")),
    ],
)
def test_a_canary_as_people_write_it(text: str, canary: Canary) -> None:
    assert parse(text) == parse(str(canary)) == canary


@pytest.mark.parametrize("text", ["", "1.1.1.1", "http://example.org", "host:port", "tcp://a:1/x", "dns://"])
def test_what_is_no_canary_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="write host:port, tcp://host:port or dns://server/name"):
        parse(text)


def test_one_canary_is_none() -> None:
    assert validated(()) == ()
    with pytest.raises(ValueError, match="name at least two"):
        validated(("1.1.1.1:443", "1.1.1.1:53"))


def test_without_canaries_the_receivers_own_places_serve() -> None:
    receivers = {
        "a": Receiver(pagerduty=Pagerduty(routing_key=Secret("k")), console=Console()),
        "b": Receiver(
            webhook=Webhook(url=Secret("http://127.0.0.1:8080/x")),
            smtp=Smtp(host="mail", to=("x@y",), sender="z@y"),
            notify=(Secret("ntfy://topic"), Secret("https://hook.example/y")),
        ),
    }
    assert [str(one) for one in stand_ins(channels(receivers, "production"))] == [
        "events.pagerduty.com:443", "127.0.0.1:8080", "mail:587", "hook.example:443",
    ]  # fmt: skip
