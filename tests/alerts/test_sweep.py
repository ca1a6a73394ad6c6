"""A start without memory: what the agent before left open is ended where it is well, and only there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alerts.isolation import Reach
from alerts.notice import NoticeKind
from alerts.notifiers.pagerduty import PagerdutyNotifier
from alerts.receiver import Console, Pagerduty, Receiver
from alerts.rule import Severity
from checks.finding import State
from checks.reason import Reason
from checks.secret import Secret
from tests.alerts.receivers import Inbox, http_receiver
from tests.alerts.world import World, plan


class PagerdutyStub:
    """Takes events over HTTP and keeps incidents as PagerDuty does: one per key, until it is resolved."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self.notifier = PagerdutyNotifier(Pagerduty(routing_key=Secret("key"), url=inbox.url))
        self.receiver = Receiver(
            pagerduty=Pagerduty(routing_key=Secret("key"), url=inbox.url), console=Console()
        )

    def deliver(self, world: World) -> None:
        """Everything the world has in its outbox for us."""
        for row in world.rows:
            if row.channel.endswith("pagerduty"):
                self.notifier.deliver(row.notice, deadline_s=5)
        world.rows.clear()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [request.json for request in self._inbox.accepted]

    @property
    def open(self) -> dict[str, str]:
        """Key -> summary of every incident that is open."""
        incidents: dict[str, str] = {}
        for event in self.events:
            if event["event_action"] == "trigger":
                incidents.setdefault(event["dedup_key"], event["payload"]["summary"])
            else:
                incidents.pop(event["dedup_key"], None)
        return incidents


@pytest.fixture
def pagerduty() -> Iterator[PagerdutyStub]:
    with http_receiver() as inbox:
        yield PagerdutyStub(inbox)


def _world(pagerduty: PagerdutyStub, path: Path) -> World:
    world = World(plan(receivers={"on_call": pagerduty.receiver}), path=path)
    for service in world.targets:
        world.look(service)
    return world


def _dies_with_an_open_incident(pagerduty: PagerdutyStub, path: Path) -> World:
    world = _world(pagerduty, path)
    world.pass_s(30)
    world.kill("postgres")
    pagerduty.deliver(world)
    assert len(pagerduty.open) == 1
    world.journal.close()
    return world


def test_the_next_agent_on_another_disk_ends_what_is_well_again(
    pagerduty: PagerdutyStub, tmp_path: Path
) -> None:
    before = _dies_with_an_open_incident(pagerduty, tmp_path / "lost.db")
    after = _world(pagerduty, tmp_path / "new.db")
    after.now_s = before.now_s + 60
    after.pass_s(300)
    already = len(pagerduty.events)
    pagerduty.deliver(after)
    assert pagerduty.open == {}
    ends = [event for event in pagerduty.events[already:] if event["event_action"] == "resolve"]
    keys = [event["dedup_key"] for event in ends]
    assert len(keys) == len(set(keys)), "each is ended once"


def test_what_is_still_bad_stays_the_same_incident_and_ends_when_it_is_well(
    pagerduty: PagerdutyStub, tmp_path: Path
) -> None:
    before = _dies_with_an_open_incident(pagerduty, tmp_path / "lost.db")
    (key,) = pagerduty.open
    after = World(before.plan, path=tmp_path / "new.db")
    after.now_s = before.now_s + 60
    after.kill("postgres")
    after.pass_s(600)
    pagerduty.deliver(after)
    assert set(pagerduty.open) == {key}
    after.heal("postgres")
    after.pass_s(60)
    pagerduty.deliver(after)
    assert pagerduty.open == {}


def test_nothing_is_ended_before_it_was_seen_well_twice(pagerduty: PagerdutyStub, tmp_path: Path) -> None:
    world = World(plan(receivers={"on_call": pagerduty.receiver}), path=tmp_path / "new.db")
    world.pass_s(9, looks=False)
    assert {row.notice.alertname for row in world.rows} <= {"error_logs", "fatal_logs", "new_error_log"}
    for service in world.targets:
        world.look(service)
    world.look("postgres", State.ASLEEP, Reason.ASLEEP)
    world.pass_s(300, looks=False)
    ends = [row.notice for row in world.rows if row.notice.kind is NoticeKind.RESOLVE]
    assert [one for one in ends if one.component in ("postgres", "nats")] == [], (
        "one look at nats, and then it fell asleep"
    )


def test_a_kept_disk_sweeps_nothing_and_its_keys_have_their_time(
    pagerduty: PagerdutyStub, tmp_path: Path
) -> None:
    world = _world(pagerduty, tmp_path / "kept.db")
    for _ in range(80):
        world.pass_s(10)
        for service in ("gateway", "auth", "asset", "chat"):
            world.requests(service, 100)
    assert not world.journal.unswept, "what is left after a day of silence ends too, but here all was seen"
    world.restart()
    world.rows.clear()
    world.pass_s(300)
    assert world.rows == []
    world.kill("postgres")
    pagerduty.deliver(world)
    (event,) = [event for event in pagerduty.events if event["event_action"] == "trigger"]
    assert event["dedup_key"].count(":") == 1


def test_a_crash_in_the_middle_goes_on_where_it_was(pagerduty: PagerdutyStub, tmp_path: Path) -> None:
    world = _world(pagerduty, tmp_path / "new.db")
    world.pass_s(60)
    some = [row.notice.episode for row in world.rows]
    world.restart()
    world.pass_s(600)
    every = [row.notice.episode for row in world.rows]
    assert 0 < len(some) < len(every)
    assert len(every) == len(set(every)), "a key that is queued already is not queued again"


def test_what_fires_while_its_end_waits_in_line_is_not_ended(
    pagerduty: PagerdutyStub, tmp_path: Path
) -> None:
    world = _world(pagerduty, tmp_path / "new.db")
    world.pass_s(21)
    down = ["auth", "chat", "asset", "postgres", "nats"]
    for service in down:
        world.kill(service)
        world.pass_s(15)
    world.pass_s(600)
    pagerduty.deliver(world)
    told = {one.fingerprint for one in world.judge.active() if one.told}
    assert len(told) >= 2
    assert set(pagerduty.open) >= told


def test_it_is_paced_and_only_for_providers_that_keep_incidents_open(
    pagerduty: PagerdutyStub, tmp_path: Path
) -> None:
    world = _world(pagerduty, tmp_path / "new.db")
    world.pass_s(60)
    assert 0 < len(world.rows) <= 21
    assert {row.channel for row in world.rows} == {"on_call/pagerduty"}
    assert {row.notice.kind for row in world.rows} == {NoticeKind.RESOLVE}
    calm = World(path=tmp_path / "console.db")
    calm.pass_s(60)
    assert calm.rows == []
    assert not calm.journal.unswept


def test_a_receiver_is_spared_the_ends_of_what_it_never_gets(
    pagerduty: PagerdutyStub, tmp_path: Path
) -> None:
    pages = Receiver(pagerduty=pagerduty.receiver.pagerduty, severities=(Severity.PAGE,))
    world = World(plan(receivers={"on_call": pages}), path=tmp_path / "new.db")
    world.pass_s(900)
    assert {row.notice.severity for row in world.rows} == {Severity.PAGE}
    assert world.judge.isolation.reach is Reach.CLEAR
