"""Far ways, stale names, partial partitions: what they mean, from readings made up for it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.apps import Listed
from checks.finding import Finding, Measure, State
from checks.machines.api import Machine
from checks.network import partition
from checks.network.memory import Memory
from checks.network.options import Way
from checks.network.partition import Partition, Sight, partitions
from checks.network.slowness import judge
from checks.network.stale import Names
from checks.network.thresholds import Thresholds, effective
from checks.network.way import Trip
from checks.observation import Observation
from checks.reason import Reason
from checks.target import Kind, Target, TargetKey

LIMITS = effective("production", "auto", Thresholds())
NOW_S = 1_800_000_000.0
FAR = Way(name="m1", url="http://m1:1/", route="private", region="iad")


def connected(seconds: float, **more: float) -> Trip:
    return Trip(times=(("dns", 0.001), ("connect", seconds)), certificate_left_s=more.get("left_s"))


def remembered(*seconds: float) -> Memory:
    memory = Memory()
    for number, took_s in enumerate(seconds):
        memory.add(connected(took_s), number * 300.0)
    return memory


def told(way: Way, trip: Trip, memory: Memory, *, region: str = "fra") -> list[tuple[Reason, bool, str]]:
    found = judge(way, trip, memory, LIMITS, app="auth", region=region)
    return [(one.reason, one.urgent, one.message) for one in found]


def test_another_region_is_measured_by_its_own_median() -> None:
    memory = remembered(*([0.09] * 12))
    assert told(FAR, connected(0.2), memory) == []
    ((reason, _, message),) = told(FAR, connected(0.3), memory)
    assert reason is Reason.SLOW
    assert "connect to m1 of auth (fra to iad) took 300 ms, 3.3 times its median of a day, 90 ms" in message


def test_before_an_hour_nobody_knows_what_is_usual() -> None:
    assert told(FAR, connected(30.0), remembered(*([0.09] * 11))) == []


def test_the_median_is_over_one_look_in_five_minutes_and_a_day() -> None:
    memory = Memory()
    for second in range(0, 2 * 86_400, 10):
        memory.add(connected(0.1 if second < 86_400 else 0.2), float(second))
    assert len(memory.connects) == 288
    assert memory.usual_connect_s == 0.2


@pytest.mark.parametrize("region", ["iad", ""], ids=["the same region", "a region that is not known"])
def test_nearby_the_limits_are_absolute(region: str) -> None:
    ((reason, urgent, message),) = told(FAR, connected(0.15), remembered(*([0.09] * 12)), region=region)
    assert (reason, urgent) == (Reason.SLOW, True)
    assert "took 150 ms (limit 100ms)" in message


def test_a_certificate_is_urgent_in_its_last_week() -> None:
    near = Way(name="edge", url="https://e/", route="public")
    for days, urgent in ((20, False), (6, True)):
        ((reason, found, _),) = told(near, connected(0.001, left_s=days * 86_400.0), Memory())
        assert (reason, found) == (Reason.TLS_EXPIRING, urgent)
    assert told(near, connected(0.001, left_s=22 * 86_400.0), Memory()) == []


def machine(id_: str, address: str, state: str = "started") -> Machine:
    return Machine(id=id_, private_ip=address, state=state)


class Dns:
    """A name that is compared every ten seconds with a list read then."""

    def __init__(self) -> None:
        self.names = Names()
        self.now_s = 100.0

    def look(self, answers: set[str], *machines: Machine, list_age_s: float = 0.0) -> list[str]:
        self.now_s += 10
        listed = Listed(at_s=self.now_s - list_age_s, machines=machines)
        found = self.names.judge("auth", frozenset(answers), listed, now_s=self.now_s)
        return [one.message for one in found if one.reason is Reason.NET_DNS_STALE]


def test_a_name_that_leads_to_a_stopped_machine_is_told_when_it_lasts() -> None:
    dns = Dns()
    stopped = machine("a1", "fdaa::1", "stopped")
    assert dns.look({"fdaa::1"}, stopped) == []
    (message,) = dns.look({"fdaa:0::1"}, stopped)
    assert "names machine a1 of auth, which is stopped, for 10 s now" in message
    assert dns.look(set(), stopped) == []
    assert dns.look({"fdaa::1"}, stopped) == []


def test_a_name_that_leads_to_nobody_and_one_that_is_missing_are_told() -> None:
    dns = Dns()
    started = machine("a1", "fdaa::1")
    dns.look({"fdaa::9"}, started)
    messages = dns.look({"fdaa::9"}, started)
    assert any("names fdaa::9, which is no machine of auth" in one for one in messages)
    assert any("does not name machine a1 of auth, which is started" in one for one in messages)


def test_a_list_from_before_the_difference_proves_nothing() -> None:
    dns = Dns()
    stopped = machine("a1", "fdaa::1", "stopped")
    assert dns.look({"fdaa::1"}, stopped, list_age_s=25) == []
    assert dns.look({"fdaa::1"}, stopped, list_age_s=25) == []
    assert dns.look({"fdaa::1"}, stopped, list_age_s=0) != []


def seen(*pairs: str, at_s: float = NOW_S) -> list[Sight]:
    """`a>b` reaches, `a!b` does not."""
    return [Sight(source=pair[0], target=pair[2], works=pair[1] == ">", at_s=at_s) for pair in pairs]


@pytest.mark.parametrize(
    ("sights", "expected"),
    [
        (seen("a!b", "a>c", "c>b"), [("a", "b", ("c",))]),
        (seen("a!b", "a>c", "c>b", "a>d", "d>b"), [("a", "b", ("c", "d"))]),
        (seen("a!b", "b!a", "a>c", "c>b", "b>c", "c>a"), [("a", "b", ("c",)), ("b", "a", ("c",))]),
        (seen("a!b", "c!b", "a>c"), []),
        (seen("a!b", "a!c", "c>b"), []),
        (seen("a!b"), []),
        (seen("a>b", "a>c", "c>b"), []),
    ],
    ids=["partial", "two witnesses", "both ways", "b is down", "a is cut off", "nobody else looked", "well"],
)
def test_only_what_others_reach_is_a_partial_partition(
    sights: list[Sight], expected: list[tuple[str, str, tuple[str, ...]]]
) -> None:
    found = partitions(sights, now_s=NOW_S)
    assert [(one.source, one.target, one.between) for one in found] == expected


def test_old_sights_prove_nothing_and_the_latest_of_a_pair_counts() -> None:
    assert partitions(seen("a!b", "a>c", "c>b", at_s=NOW_S - 61), now_s=NOW_S) == ()
    healed = [*seen("a!b", "a>c", "c>b", at_s=NOW_S - 30), *seen("a>b")]
    assert partitions(healed, now_s=NOW_S) == ()
    assert partitions(reversed(healed), now_s=NOW_S) == ()


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd"), st.booleans()), max_size=20))
def test_a_partition_always_has_its_proof(pairs: list[tuple[str, str, bool]]) -> None:
    sights = [Sight(source=a, target=b, works=works, at_s=NOW_S) for a, b, works in pairs]
    latest = {(one.source, one.target): one.works for one in sights}
    for one in partitions(sights, now_s=NOW_S):
        assert latest[one.source, one.target] is False
        for via in one.between:
            assert latest[one.source, via] is latest[via, one.target] is True


def test_sights_come_from_a_network_checks_own_observation() -> None:
    labels = [("m1", "private", 1.0), ("m2", "private", 0.0), ("edge", "public", 0.0), ("me", "private", 1.0)]
    measures = tuple(
        Measure(name="gaia_network_way_up", value=up, labels=(("way", way), ("route", route)))
        for way, route, up in labels
    )
    finding = Finding(state=State.UP, reason=Reason.OK, message="", measures=measures)
    key = TargetKey(env="production", service="auth", check="network", vantage="agent")
    target = Target(key=key, kind=Kind.SERVICE, address="auth")
    observed = Observation(target=target, at_s=NOW_S, duration_s=0.1, finding=finding)
    found = list(partition.sights(observed, machine="me"))
    assert [(one.source, one.target, one.works, one.at_s) for one in found] == [
        ("me", "m1", True, NOW_S),
        ("me", "m2", False, NOW_S),
    ]


def test_three_agents_observations_name_the_broken_pair() -> None:
    reach = {("a", "b"): False, ("a", "c"): True, ("b", "a"): True, ("c", "b"): True, ("b", "c"): True}
    sights = [
        Sight(source=one, target=other, works=reach.get((one, other), True), at_s=NOW_S)
        for one, other in itertools.permutations("abc", 2)
    ]
    (problem,) = partition.judge("auth", partitions(sights, now_s=NOW_S))
    assert (problem.state, problem.reason) == (State.DEGRADED, Reason.NET_PARTITION_PARTIAL)
    assert "the network of auth is partly broken: a does not reach b, while c reaches both" in problem.message
    assert partitions(sights, now_s=NOW_S) == (Partition(source="a", target="b", between=("c",)),)
