"""A service that answers while its request counters stop: said once, and not as a failure of the service."""

from __future__ import annotations

from alerts.rule import DEFAULT_RULES
from tests.alerts.world import World, plan

RULES = {name: DEFAULT_RULES[name] for name in ("service_down", "high_error_rate", "no_data")}


def watched(*scraped: str) -> World:
    world = World(plan(RULES, scraped=frozenset(scraped)))
    world.pass_s(120, traffic=True)
    return world


def test_counters_that_stop_while_the_service_answers_are_told_once_and_end_when_they_return() -> None:
    world = watched("asset", "chat")
    world.pass_s(50)
    assert world.said() == []
    world.pass_s(60)
    assert sorted(world.said()) == ["trigger no_data asset", "trigger no_data chat"]
    (told,) = [one for one in world.told() if one.component == "asset"]
    assert "no request counters for 65s though it answers" in told.title
    world.pass_s(60, traffic=True)
    assert sorted(world.said())[:2] == ["resolve no_data asset", "resolve no_data chat"]


def test_only_services_that_are_scraped_have_counters_that_must_come() -> None:
    world = watched()
    world.pass_s(300)
    assert world.said() == []


def test_a_service_that_is_down_is_told_as_down_and_its_counters_are_not_missed() -> None:
    world = watched("asset")
    world.fail("asset")
    world.pass_s(300)
    assert world.said() == ["trigger service_down asset"]
