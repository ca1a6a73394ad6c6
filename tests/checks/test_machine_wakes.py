"""Who woke a machine, what being awake for nobody costs, how long until it was healthy."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from checks.apps import Apps, Ask, Asker, Usage, proxied_app
from checks.finding import Measure
from checks.machines.api import Config, Event, ExitEvent, Guest, Machine, PlatformCheck, Request
from checks.machines.cold_start import ColdStarts
from checks.machines.price import dollars_per_hour
from checks.machines.wakes import Start, WakeAudit, Waker, attribute

# Half past an hour.
NOW_S = 1_800_001_800.0
NAME = ("development", "auth")


def event(kind: str, at_s: float, *, source: str = "proxy", exit_: ExitEvent | None = None) -> Event:
    request = None if exit_ is None else Request(exit_event=exit_)
    return Event(type=kind, timestamp=at_s * 1000, source=source, request=request)


def machine(*events: Event, state: str = "started", id_: str = "a1", **more: object) -> Machine:
    guest = Guest(cpu_kind="shared", cpus=1, memory_mb=256)
    return Machine(
        id=id_,
        state=state,
        events=events,
        config=Config(guest=guest),
        **more,  # type: ignore[arg-type]
    )


def used(*at_s: float) -> Usage:
    usage = Usage()
    usage.count("one", "1", 0, at_s=NOW_S - 90_000, born_s=None)
    for number, when in enumerate(at_s, start=1):
        usage.count("one", "1", number, at_s=when, born_s=None)
    return usage


START = Start(at_s=NOW_S, machine="a1", source="proxy")
OWN = Ask(at_s=NOW_S - 1, by=Asker.AGENT, what="auth")
HEALTH = Ask(at_s=NOW_S - 1, by=Asker.HEALTH, what="gateway")


@pytest.mark.parametrize(
    ("asks", "usage", "start", "by"),
    [
        ((), None, START, Waker.UNKNOWN),
        ((OWN,), None, START, Waker.AGENT),
        ((HEALTH, OWN), used(NOW_S + 5), START, Waker.AGENT),
        ((HEALTH,), None, START, Waker.HEALTH),
        ((HEALTH,), used(NOW_S + 5), START, Waker.USERS),
        ((), used(NOW_S + 30), START, Waker.USERS),
        ((), used(NOW_S - 60), START, Waker.UNKNOWN),
        ((), None, Start(at_s=NOW_S, machine="a1", source="user"), Waker.OPERATOR),
        ((HEALTH,), None, Start(at_s=NOW_S, machine="a1", restart=True), Waker.RESTART),
        ((Ask(at_s=NOW_S - 2.5, by=Asker.AGENT, what="auth"),), None, START, Waker.UNKNOWN),
        ((Ask(at_s=NOW_S + 0.4, by=Asker.AGENT, what="auth"),), None, START, Waker.AGENT),
        ((Ask(at_s=NOW_S + 3, by=Asker.AGENT, what="auth"),), None, START, Waker.UNKNOWN),
    ],
)  # fmt: skip
def test_a_start_is_paired_with_what_came_just_before_it(
    asks: tuple[Ask, ...], usage: Usage | None, start: Start, by: Waker
) -> None:
    assert attribute(start, asks, usage).by is by


def test_a_machine_that_fell_over_and_is_started_again_was_not_woken() -> None:
    crashed = event("exit", NOW_S - 5, exit_=ExitEvent(exit_code=1))
    audit = WakeAudit()
    audit.take([machine(event("start", NOW_S), crashed)], (HEALTH,), None, now_s=NOW_S + 1)
    assert audit.report(None, now_s=NOW_S + 1).wakes == {Waker.RESTART: 1}


def test_each_start_is_counted_once_however_often_it_is_listed() -> None:
    audit = WakeAudit()
    listed = [machine(event("start", NOW_S - 3600), event("start", NOW_S))]
    for later in range(0, 300, 30):
        audit.take(listed, (HEALTH,), None, now_s=NOW_S + later)
    report = audit.report(None, now_s=NOW_S + 300)
    assert report.wakes == {Waker.UNKNOWN: 1, Waker.HEALTH: 1}
    assert report.last_by_health is not None
    assert report.last_by_health.what == "gateway"


def test_a_start_without_a_cause_waits_for_the_counter_that_may_tell_of_its_users() -> None:
    audit = WakeAudit()
    listed = [machine(event("start", NOW_S))]
    audit.take(listed, (), used(), now_s=NOW_S + 5)
    assert audit.report(None, now_s=NOW_S + 5).wakes == {}
    audit.take(listed, (), used(NOW_S + 20), now_s=NOW_S + 35)
    assert audit.report(None, now_s=NOW_S + 35).wakes == {Waker.USERS: 1}


def test_yesterdays_wakes_are_forgotten() -> None:
    audit = WakeAudit()
    audit.take([machine(event("start", NOW_S))], (HEALTH,), None, now_s=NOW_S + 1)
    assert audit.report(None, now_s=NOW_S + 86_500).wakes == {}


def test_an_agents_own_wake_is_known_for_as_long_as_it_is_asked_for() -> None:
    audit = WakeAudit()
    audit.take([machine(event("start", NOW_S))], (OWN,), None, now_s=NOW_S + 1)
    wake = audit.by_agent(since_s=NOW_S - 600)
    assert wake is not None
    assert (wake.machine, wake.what) == ("a1", "auth")
    assert audit.by_agent(since_s=NOW_S + 1) is None


def awake(audit: WakeAudit, start_s: float, hours: float, *machines: Machine) -> None:
    for step in range(int(hours * 120) + 1):
        audit.take(machines, (), None, now_s=start_s + step * 30)


def test_hours_without_one_request_are_counted_with_their_price_and_others_are_not() -> None:
    audit = WakeAudit()
    # From the full hour on: two hours, with a request in the second.
    begin_s = NOW_S + 1800
    awake(audit, begin_s, 2, machine(), machine(id_="a2"), machine(id_="a3", state="stopped"))
    report = audit.report(used(begin_s + 5000), now_s=begin_s + 7200)
    assert report.awake_s == pytest.approx(4 * 3600)
    assert report.idle_s == pytest.approx(2 * 3600, rel=0.01)
    assert report.idle_dollars == pytest.approx(2 * 1.94 / 730, rel=0.01)


def test_without_the_users_requests_nobody_can_say_what_was_idle() -> None:
    audit = WakeAudit()
    awake(audit, NOW_S, 2, machine())
    report = audit.report(None, now_s=NOW_S + 7200)
    assert report.awake_s == pytest.approx(2 * 3600)
    assert (report.idle_s, report.idle_dollars) == (None, None)


def test_an_hour_that_was_heard_only_in_part_is_not_called_idle() -> None:
    audit = WakeAudit()
    awake(audit, NOW_S, 0.5, machine())
    late = Usage()
    late.count("one", "1", 0, at_s=NOW_S + 60, born_s=None)
    assert audit.report(late, now_s=NOW_S + 1800).idle_s == 0


def test_a_gap_in_the_watch_counts_as_neither_awake_nor_asleep() -> None:
    audit = WakeAudit()
    audit.take([machine()], (), None, now_s=NOW_S)
    audit.take([machine()], (), None, now_s=NOW_S + 4000)
    assert audit.report(None, now_s=NOW_S + 4000).awake_s == 0


def counted(*counters: tuple[str, str, int, float | None]) -> int:
    usage = Usage()
    for source, incarnation, total, born_s in counters:
        usage.count(source, incarnation, total, at_s=NOW_S, born_s=born_s)
    return sum(usage.by_hour.values())


def test_requests_are_counted_across_restarts_and_never_from_before_they_were_heard() -> None:
    assert counted(("a", "1", 500, None)) == 0
    assert counted(("a", "1", 500, None), ("a", "1", 507, None)) == 7
    assert counted(("a", "1", 500, None), ("a", "2", 3, None)) == 3
    assert counted(("a", "1", 500, None), ("b", "1", 40, NOW_S - 50)) == 0
    assert counted(("a", "1", 500, None), ("b", "1", 4, NOW_S + 50)) == 4


def test_sources_that_come_and_go_take_no_more_and_more_memory() -> None:
    usage = Usage()
    for number in range(500):
        usage.count(str(number), "1", 1, at_s=NOW_S, born_s=None)
    assert len(usage._last) <= 64


def test_our_own_requests_are_kept_by_service_and_bounded() -> None:
    apps = Apps()
    for number in range(1000):
        apps.asked(NAME, Ask(at_s=float(number), by=Asker.AGENT, what="auth"))
    assert apps.asks(NAME)[-1].at_s == 999
    assert len(apps.asks(NAME)) == 256
    assert apps.asks(("production", "auth")) == ()


@pytest.mark.parametrize(
    ("url", "app"),
    [
        ("https://gaia-auth-dev.fly.dev/health", "gaia-auth-dev"),
        ("http://gaia-auth-dev.flycast/", "gaia-auth-dev"),
        ("http://a1.vm.gaia-auth-dev.internal:8080/", None),
        ("http://127.0.0.1:1/", None),
        ("auth", None),
    ],
)
def test_only_what_goes_through_the_proxy_can_wake(url: str, app: str | None) -> None:
    assert proxied_app(url) == app


@pytest.mark.parametrize(
    ("guest", "a_month"),
    [
        (Guest(cpu_kind="shared", cpus=1, memory_mb=256), 1.94),
        (Guest(cpu_kind="shared", cpus=1, memory_mb=1280), 6.94),
        (Guest(cpu_kind="shared", cpus=2, memory_mb=512), 3.88),
        (Guest(cpu_kind="performance", cpus=1, memory_mb=2048), 31.0),
        (Guest(cpu_kind="performance", cpus=2, memory_mb=5120), 67.0),
        (Guest(cpu_kind="quantum", cpus=2, memory_mb=5120), 0.0),
    ],
)
def test_a_machines_price_is_estimated_by_its_size(guest: Guest, a_month: float) -> None:
    assert dollars_per_hour(guest) * 730 == pytest.approx(a_month)


def at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def passing(at_s: float, status: str = "passing") -> PlatformCheck:
    return PlatformCheck(name="http", status=status, updated_at=at(at_s))


def numbers(cold: ColdStarts) -> dict[str, float]:
    return {_key(one): one.value for one in cold.measures()}


def _key(one: Measure) -> str:
    return one.name.removeprefix("gaia_machine_cold_start_seconds_") + dict(one.labels).get("le", "")


def test_a_cold_start_lasts_until_the_platforms_own_check_passes() -> None:
    cold = ColdStarts()
    cold.began([START])
    cold.look([machine(checks=(passing(NOW_S + 1, "critical"),))], (), now_s=NOW_S + 2)
    assert numbers(cold) == {}
    cold.look([machine(checks=(passing(NOW_S + 3),))], (), now_s=NOW_S + 20)
    seen = numbers(cold)
    assert (seen["bucket2.0"], seen["bucket5.0"], seen["bucket+Inf"]) == (0, 1, 1)
    assert (seen["count"], seen["sum"]) == (1, 3)


def test_without_such_a_check_the_first_answer_ends_a_cold_start() -> None:
    cold = ColdStarts()
    cold.began([START])
    cold.look([machine()], (), now_s=NOW_S + 2)
    assert cold.started_at("a1") == NOW_S
    cold.look([machine()], {"a1"}, now_s=NOW_S + 4)
    assert numbers(cold)["sum"] == 4
    assert cold.started_at("a1") is None


@pytest.mark.parametrize(
    "after", [[], [machine(state="stopped")]], ids=["the machine is gone", "it sleeps again"]
)
def test_a_start_that_never_became_healthy_is_not_counted(after: list[Machine]) -> None:
    cold = ColdStarts()
    cold.began([START])
    cold.look(after, {"a1"}, now_s=NOW_S + 2)
    assert numbers(cold) == {}


def test_a_restart_after_a_crash_is_no_cold_start() -> None:
    cold = ColdStarts()
    cold.began([Start(at_s=NOW_S, machine="a1", restart=True)])
    cold.look([machine()], {"a1"}, now_s=NOW_S + 2)
    assert numbers(cold) == {}
