"""The roster: an alert that was never bad is a name and nothing more, and what rests is let go."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from alerts.external import ExternalAlert
from alerts.external import instance_of as posted
from alerts.instance import Instance
from alerts.machine import FLAP_WINDOW_S, Phase, Standing
from alerts.roster import Roster
from checks.finding import State
from checks.target import Kind, Target, TargetKey
from tests.alerts.world import START_S, World, plan


@pytest.fixture
def world() -> World:
    made = World()
    made.pass_s(30)
    return made


def _woken(roster: Roster, name: str, component: str) -> Instance:
    sleeping = next(one for one in roster.all() if (one.alertname, one.component) == (name, component))
    found = roster.named(sleeping.fingerprint, name, component)
    assert found is not None
    return found


def test_a_platform_that_is_well_has_no_alert_in_memory() -> None:
    world = World()
    world.pass_s(60, traffic=True)
    assert world.judge.instances() != ()
    assert world.judge.active() == ()
    assert Roster(plan()).by_fingerprint == {}


def test_the_same_alert_is_woken_once() -> None:
    roster = Roster(plan())
    first = _woken(roster, "database_down", "postgres")
    assert _woken(roster, "database_down", "postgres") is first
    assert list(roster.by_fingerprint.values()) == [first]


def test_what_is_well_and_has_not_flapped_lately_is_let_go() -> None:
    roster = Roster(plan())
    lately, long_ago = _woken(roster, "service_down", "auth"), _woken(roster, "database_down", "postgres")
    theirs = posted(ExternalAlert(labels={"alertname": "Lag"}), "production")
    roster.add(theirs)
    lately.standing = Standing(changes=(START_S,))
    long_ago.standing = Standing(changes=(START_S - FLAP_WINDOW_S - 1,))
    roster.rest(START_S)
    assert list(roster.by_fingerprint.values()) == [lately]
    assert theirs not in list(roster.all())


def test_what_is_not_well_is_never_let_go() -> None:
    roster = Roster(plan())
    firing = _woken(roster, "database_down", "postgres")
    firing.standing = Standing(phase=Phase.FIRING, fired_at_s=START_S - 86400)
    roster.file(firing)
    roster.rest(START_S)
    assert roster.on() == [firing]


def test_a_new_plan_keeps_an_alert_only_where_its_rule_and_target_are_the_same() -> None:
    before = Roster(plan())
    old = _woken(before, "database_down", "postgres")
    after = Roster(plan())
    kept = after.again(old)
    assert kept is not None
    assert kept.fingerprint == old.fingerprint
    without = plan()
    gone = replace(without, targets=tuple(one for one in without.targets if one.key.service != "postgres"))
    assert Roster(gone).again(old) is None


def test_nobody_can_post_an_alert_under_the_name_of_ours(world: World) -> None:
    labels = world.alert("database_down", "postgres").labels
    world.judge.receive([ExternalAlert(labels=labels)], world.now_s)
    world.pass_s(30)
    assert world.told() == []


def test_an_alert_that_is_asleep_is_explained_by_what_is_known_now(world: World) -> None:
    world.look("auth", message="auth answers")
    assert world.alert("service_down", "auth").evidence == "auth answers"
    world.look("auth", State.DEGRADED, message="auth is slow")
    (shown,) = [
        one for one in world.judge.instances(world.now_s, of="service_down auth") if one.component == "auth"
    ]
    assert (shown.state, shown.alertname) == (Phase.OK, "service_down")


def test_when_very_many_fail_within_a_second_the_next_tick_judges_the_rest() -> None:
    targets = tuple(
        Target(
            key=TargetKey(env="production", service=f"s{number}", check="health", vantage="local"),
            kind=Kind.SERVICE,
            address="s:1",
        )
        for number in range(120)
    )
    world = World(plan(targets=targets))
    for target in targets:
        world.kill(target.key.service)
    at_once = len(world.judge.active())
    assert 0 < at_once < len(targets)
    world.pass_s(1, looks=False)
    fired = [one for one in world.judge.active() if one.alertname == "service_down" and one.fired_at_s]
    assert len(fired) == len(targets)
