"""Two witnesses who disagree long enough are a finding; everything else is not."""

from __future__ import annotations

import msgspec
import pytest

from checks.contradiction import Seen, Traffic, Witness, contradictions
from checks.finding import Claim, State
from checks.target import Kind

DATABASE = Seen(
    name="postgres",
    kind=Kind.DATABASE,
    state=State.DOWN,
    message="db:5432 refuses connections",
    since_s=100.0,
)


def chat(claim: State, *, state: State = State.UP, about: str = "database") -> Witness:
    return Witness(
        service="chat",
        state=state,
        since_s=50.0,
        claims=(Claim(about=about, state=claim),),
        depends_on=("postgres", "nats"),
    )


def test_a_healthy_claim_about_what_we_see_down_names_both_witnesses() -> None:
    (found,) = contradictions([chat(State.UP)], {"postgres": DATABASE}, {}, now_s=120.0)
    assert (found.service, found.about, found.since_s) == ("chat", "postgres", 100.0)
    assert found.finding.message == (
        "chat says database is up, the agent finds postgres down: db:5432 refuses connections, "
        "since 1970-01-01 00:01:40 UTC"
    )
    assert [fact.name for fact in found.finding.evidence] == ["witness 1", "witness 2"]


@pytest.mark.parametrize(
    ("claim", "seen", "now_s", "count"),
    [
        (State.UP, State.DOWN, 114.9, 0),
        (State.UP, State.DOWN, 115.0, 1),
        (State.DOWN, State.UP, 200.0, 1),
        (State.DEGRADED, State.DOWN, 200.0, 0),
        (State.UP, State.UNKNOWN, 200.0, 0),
        (State.DOWN, State.DOWN, 200.0, 0),
    ],
)
def test_only_opposites_that_last_contradict(claim: State, seen: State, now_s: float, count: int) -> None:
    component = Seen(name="postgres", kind=Kind.DATABASE, state=seen, message="m", since_s=100.0)
    assert len(contradictions([chat(claim)], {"postgres": component}, {}, now_s=now_s)) == count


def test_a_claim_that_has_just_turned_is_given_its_time() -> None:
    witness = msgspec.structs.replace(chat(State.UP), claims_since_s={"database": 110.0})
    assert contradictions([witness], {"postgres": DATABASE}, {}, now_s=124.0) == ()
    (found,) = contradictions([witness], {"postgres": DATABASE}, {}, now_s=125.0)
    assert found.since_s == 110.0


def test_a_nickname_that_fits_two_dependencies_is_about_neither() -> None:
    other = Seen(name="archive", kind=Kind.DATABASE, state=State.DOWN, message="m", since_s=0.0)
    witness = Witness(
        service="chat",
        state=State.UP,
        since_s=0.0,
        claims=(Claim(about="db", state=State.UP), Claim(about="components/Archive", state=State.UP)),
        depends_on=("postgres", "archive"),
    )
    found = contradictions([witness], {"postgres": DATABASE, "archive": other}, {}, now_s=999.0)
    assert [one.about for one in found] == ["archive"]


@pytest.mark.parametrize(
    ("state", "requests", "ratio", "count"),
    [(State.UP, 100, 0.4, 1), (State.UP, 100, 0.1, 0), (State.UP, 5, 1.0, 0), (State.DOWN, 100, 0.4, 0)],
)
def test_failing_traffic_contradicts_a_healthy_service(
    state: State, requests: int, ratio: float, count: int
) -> None:
    traffic = Traffic(requests=requests, error_ratio=ratio, window_s=60, since_s=10.0)
    witness = Witness(service="chat", state=state, since_s=0.0)
    found = contradictions([witness], {}, {"chat": traffic}, now_s=100.0)
    assert len(found) == count
    if found:
        assert found[0].finding.message == "chat says it is up, 40% of its 100 requests fail, in the last 1m"
