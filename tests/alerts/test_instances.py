"""Several instances of one service: which rule speaks, what it says, and when it calls."""

from __future__ import annotations

from pathlib import Path

from alerts.rule import Rule
from checks.finding import State
from checks.reason import Reason
from checks.target import Kind, Target, TargetKey
from checks.verdict import Verdict
from tests.alerts.world import COMPREHENSIVE, World, plan

_CHAT = "chat"


def _target(vantage: str) -> Target:
    key = TargetKey(env="production", service=_CHAT, check="http", vantage=vantage)
    return Target(key=key, kind=Kind.SERVICE, address=f"http://{vantage}.internal:8003")


class Fleet(World):
    """One service at several vantages, each driven by the name of its vantage."""

    def __init__(
        self, *vantages: str, rules: dict[str, Rule] | None = None, path: Path | None = None
    ) -> None:
        targets = tuple(map(_target, vantages))
        super().__init__(plan(rules, targets=targets, dependencies={}), path=path)
        self.targets = dict(zip(vantages, targets, strict=True))
        self.verdicts = {vantage: Verdict() for vantage in vantages}

    def now(self, rule: str) -> str:
        return self.alert(rule, _CHAT).evidence


THREE = ("instance_1", "instance_2", "instance_3")


def fleet(*vantages: str) -> Fleet:
    world = Fleet(*(vantages or THREE))
    world.pass_s(40)
    return world


def test_one_of_three_is_degraded_in_chat_and_calls_nobody_at_night() -> None:
    world = fleet()
    world.kill("instance_2")
    world.pass_s(290)
    assert "service_down chat" not in world.states()
    assert world.states()["component_degraded chat"] == "pending"
    said = world.now("component_degraded")
    assert said.startswith("1 of 3 instances does not answer: http://instance_2.internal:8003: ")
    world.pass_s(60)
    assert "trigger component_degraded chat" in world.said()
    assert {one.severity.value for one in world.told()} == {"chat"}
    world.heal("instance_2")
    world.pass_s(200)
    assert "resolve component_degraded chat" in world.said()


def test_the_last_one_pages_at_once_and_its_alert_has_no_instance() -> None:
    world = fleet()
    world.kill("instance_1")
    world.kill("instance_3")
    assert "service_down chat" not in world.states()
    fell_s = world.now_s
    world.kill("instance_2")
    assert world.states()["service_down chat"] == "firing"
    page = next(one for one in world.told() if one.alertname == "service_down")
    assert page.at_s - fell_s <= 0.25
    assert "3 of 3 instances do not answer: http://instance_1.internal:8003: nobody listens" in page.title
    alert = world.alert("service_down", _CHAT)
    identity = {"alertname": "service_down", "env": "production", "service": "chat", "check": "http"}
    assert alert.labels == identity | {"severity": "page"}


def test_down_ends_when_one_answers_again_and_what_is_left_is_degraded() -> None:
    world = fleet()
    for vantage in THREE:
        world.kill(vantage)
    world.pass_s(20)
    world.heal("instance_3")
    world.pass_s(40)
    assert "resolve service_down chat" in world.said()
    assert world.states()["component_degraded chat"] == "pending"
    assert "2 of 3 instances do not answer" in world.now("component_degraded")


def test_an_instance_that_is_asleep_answers_nobody() -> None:
    world = fleet()
    world.look("instance_1", State.ASLEEP, Reason.ASLEEP)
    world.kill("instance_2")
    assert "service_down chat" not in world.states()
    world.kill("instance_3")
    assert world.states()["service_down chat"] == "firing"
    assert "2 of 3 instances do not answer, 1 is asleep" in world.now("service_down")


def test_nothing_is_called_before_every_instance_was_looked_at() -> None:
    world = Fleet(*THREE)
    world.kill("instance_1")
    assert world.states() == {}
    world.look("instance_2")
    world.look("instance_3")
    assert "service_down chat" not in world.states()
    assert world.states()["component_degraded chat"] == "pending"


def test_the_public_way_is_a_sentence_of_its_own() -> None:
    world = fleet("public", *THREE)
    world.kill("public")
    down = [one for one in world.judge.active() if one.alertname == "service_down"]
    assert [one.labels["vantage"] for one in down] == ["public"]
    assert "of 3 instances" not in down[0].evidence
    world.kill("instance_1")
    assert [one for one in world.judge.active() if one.alertname == "service_down"] == down
    world.kill("instance_2")
    world.kill("instance_3")
    down = [one for one in world.judge.active() if one.alertname == "service_down"]
    assert {one.labels["vantage"] for one in down} == {"public", "instances"}


def test_an_instance_nobody_can_see_is_one_alert_that_names_it() -> None:
    world = Fleet(*THREE, rules={"no_data": COMPREHENSIVE["no_data"]})
    world.pass_s(40)
    for _ in range(8):
        for vantage in THREE[:2]:
            world.look(vantage)
        world.pass_s(10, looks=False)
    assert world.states() == {"no_data chat": "firing"}
    assert world.now("no_data").startswith("1 of 3 instances: http://instance_3.internal:8003: nothing known")


def test_a_restart_keeps_the_page_as_it_was(tmp_path: Path) -> None:
    world = Fleet(*THREE, path=tmp_path / "alerts.db")
    world.pass_s(40)
    for vantage in THREE:
        world.kill(vantage)
    world.pass_s(20)
    world.restart()
    world.pass_s(60)
    assert world.states()["service_down chat"] == "firing"
    assert world.said().count("trigger service_down chat") == 1


def test_an_instance_that_came_back_is_not_told_as_slow() -> None:
    world = fleet()
    world.kill("instance_2")
    world.pass_s(60)
    world.heal("instance_2")
    world.pass_s(60)
    assert world.states() == {}
    assert world.said() == []


def test_one_slow_instance_is_told_by_its_address() -> None:
    world = fleet()
    for _ in range(5):
        for vantage in THREE:
            world.look(vantage, latency_s=4.0 if vantage == "instance_3" else 0.01)
        world.pass_s(10, looks=False)
    assert world.states() == {"slow_probes chat": "firing"}
    assert world.now("slow_probes").startswith("1 of 3 instances: http://instance_3.internal:8003: ")


def test_a_service_that_goes_from_degraded_to_down_has_not_recovered() -> None:
    world = fleet()
    world.kill("instance_2")
    world.pass_s(345)
    world.kill("instance_1")
    world.kill("instance_3")
    world.pass_s(60)
    assert world.said() == ["trigger component_degraded chat", "trigger service_down chat"]
    for vantage in THREE:
        world.heal(vantage)
    world.pass_s(60)
    assert sorted(world.said()[2:]) == ["resolve component_degraded chat", "resolve service_down chat"]
