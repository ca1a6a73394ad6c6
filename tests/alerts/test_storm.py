"""Many at once often have something in common: the digest says what, and what speaks against it."""

from __future__ import annotations

from msgspec.structs import replace

from alerts.external import ExternalAlert
from alerts.notice import Notice
from alerts.rule import TargetStateRule
from checks.finding import State
from checks.reason import Reason
from checks.target import Target
from tests.alerts.world import World, plan

BASE = World().plan.targets[0]
DOWN = {"service_down": TargetStateRule()}


def _target(name: str, address: str) -> Target:
    return replace(BASE, key=replace(BASE.key, service=name), address=address)


def _world(targets: tuple[Target, ...], dependencies: dict[str, tuple[str, ...]] | None = None) -> World:
    world = World(plan(DOWN, targets=targets, dependencies=dependencies or {}))
    for service in world.targets:
        world.look(service)
    world.pass_s(30)
    return world


def _fail(world: World, names: list[str]) -> None:
    """Each answers 503, three times, within a second: nobody was told of any before the last failed."""
    world.down = set(names)
    for _ in range(3):
        for name in names:
            world.look(name, State.DOWN, Reason.STATUS, message=f"{name} answers 503")
        world.now_s += 0.3


def _causes(notice: Notice) -> str:
    return dict(notice.body).get("Likely cause", "")


def _digest(world: World) -> Notice:
    (digest,) = [one for one in world.told() if one.alertname == "many_at_once"]
    return digest


def test_what_all_need_is_named_even_when_nothing_watches_it() -> None:
    names = [f"s{number}" for number in range(8)]
    world = _world(
        tuple(_target(name, f"10.0.0.{number}:80") for number, name in enumerate(names)),
        dict.fromkeys(names, ("storage",)),
    )
    _fail(world, names)
    world.pass_s(15)
    assert "all 8 need storage, which is not watched itself" in _causes(_digest(world))


def test_five_with_one_cause_are_one_message_and_four_are_not() -> None:
    names = [f"s{number}" for number in range(5)]
    targets = tuple(_target(name, f"10.0.0.{number}:80") for number, name in enumerate(names))
    theirs = [
        ExternalAlert(labels={"alertname": "Down", "service": name, "region": "fra", "severity": "critical"})
        for name in names
    ]
    world = _world(targets)
    world.judge.receive(theirs[:4], world.now_s)
    world.pass_s(2)
    assert [one.alertname for one in world.told()] == ["Down"] * 4
    world = _world(targets)
    world.judge.receive(theirs, world.now_s)
    world.pass_s(2)
    assert [one.alertname for one in world.told()] == ["many_at_once"]
    assert "all 5 are at region fra" in _causes(world.told()[0])


def test_a_cause_that_looks_well_is_named_with_what_speaks_against_it() -> None:
    names = [f"s{number}" for number in range(6)]
    targets = tuple(_target(name, f"10.0.0.{number}:80") for number, name in enumerate(names))
    world = _world((*targets, _target("cache", "10.0.1.1:80")), dict.fromkeys(names, ("cache",)))
    _fail(world, names)
    world.look("cache")
    world.pass_s(15)
    assert "all 6 need cache, though it looks well from here" in _causes(_digest(world))


def test_a_host_in_common_is_named_with_those_there_that_answer() -> None:
    names = [f"s{number}" for number in range(6)]
    here = tuple(_target(name, f"http://box.internal:80{number}/health") for number, name in enumerate(names))
    world = _world((*here, _target("fine", "box.internal:9000")))
    _fail(world, names)
    world.pass_s(2)
    assert "all 6 are at host box.internal, though fine there answers" in _causes(_digest(world))


def test_those_told_one_by_one_just_before_count_too() -> None:
    names = [f"s{number}" for number in range(7)]
    world = _world(
        tuple(_target(name, f"10.0.0.{number}:80") for number, name in enumerate(names)),
        dict.fromkeys(names, ("storage",)),
    )
    for name in names:
        _fail(world, [name])
        world.pass_s(4, looks=False)
    assert "need storage, which is not watched itself" in _causes(_digest(world))


def test_nothing_is_named_where_nothing_is_shared() -> None:
    names = [f"s{number}" for number in range(8)]
    world = _world(tuple(_target(name, f"10.0.0.{number}:80") for number, name in enumerate(names)))
    _fail(world, names)
    world.pass_s(15)
    assert _causes(_digest(world)) == ""
