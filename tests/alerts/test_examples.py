"""A page names one request, line or look behind its number, with its trace."""

from __future__ import annotations

from alerts.desk import explain
from alerts.notice import Notice, NoticeKind
from alerts.requests import ErrorLog, RequestExample
from checks.finding import Evidence, Finding, State
from checks.observation import Observation
from checks.reason import Reason
from checks.verdict import ConfirmPolicy, step
from tests.alerts.test_alertmanager_api import WorldDesk
from tests.alerts.world import World

TRACE = "0af7651916cd43dd8448eb211c80319c"
OTHER = "4bf92f3577b34da6a3ce929d0e0e4736"


def request(world: World, *, failed: bool, duration_s: float = 0.02, trace_id: str = TRACE) -> RequestExample:
    return RequestExample(
        env="production",
        service="auth",
        at_s=world.now_s,
        trace_id=trace_id,
        method="POST",
        route="/api/v1/auth/login",
        status="503" if failed else "200",
        duration_s=duration_s,
        failed=failed,
    )


def passing(world: World, *, errors: int = 0, slow: int = 0, rounds: int = 15) -> None:
    for _ in range(rounds):
        world.pass_s(10)
        world.requests("auth", 100, errors, slow)


def of(world: World, alertname: str, kind: NoticeKind) -> Notice:
    return next(one for one in world.told(kind) if one.alertname == alertname)


def test_a_page_about_errors_names_the_newest_failed_request_and_its_resolve_none() -> None:
    world = World()
    passing(world)
    world.judge.example(request(world, failed=True, trace_id=OTHER))
    world.judge.example(request(world, failed=True))
    world.judge.example(request(world, failed=False, duration_s=3.0, trace_id=OTHER))
    passing(world, errors=20)
    said = dict(of(world, "high_error_rate", NoticeKind.TRIGGER).body)["For example"]
    assert said.startswith("POST /api/v1/auth/login answered 503 after 20 ms at ")
    assert said.endswith(f", trace {TRACE}")
    passing(world, rounds=60)
    assert "For example" not in dict(of(world, "high_error_rate", NoticeKind.RESOLVE).body)


def test_a_page_about_slowness_names_the_slowest_request_of_the_minute() -> None:
    world = World()
    passing(world)
    world.judge.example(request(world, failed=False, duration_s=9.0))
    world.judge.example(request(world, failed=False, duration_s=3.0, trace_id=OTHER))
    passing(world, slow=40)
    assert TRACE in dict(of(world, "slow_responses", NoticeKind.TRIGGER).body)["For example"]


def test_an_example_of_long_ago_is_none() -> None:
    world = World()
    world.judge.example(request(world, failed=True))
    passing(world, rounds=100)
    passing(world, errors=20)
    assert "For example" not in dict(of(world, "high_error_rate", NoticeKind.TRIGGER).body)


def test_a_page_about_error_logs_has_the_newest_line_and_its_trace() -> None:
    desk = WorldDesk()
    world = desk.world
    for number in range(12):
        line = f"pool empty {number}"
        event = ErrorLog(
            env="production", service="auth", at_s=world.now_s, fingerprint="f", sample=line, trace_id=TRACE
        )
        world.judge.logged(event)
        world.pass_s(1)
    said = dict(of(world, "new_error_log", NoticeKind.TRIGGER).body)["For example"]
    assert "pool empty" in said
    assert TRACE in said
    explained = explain(desk, "new_error_log auth", world.now_s)[0]
    assert explained.trace_id == TRACE
    assert explained.example.startswith("pool empty 11 at ")


def test_a_page_about_a_failed_look_names_the_look_s_own_trace() -> None:
    world = World()
    world.pass_s(30)
    target = world.targets["auth"]
    finding = Finding(
        state=State.DOWN,
        reason=Reason.STATUS,
        message="auth answers 503",
        evidence=(Evidence(name="trace_id", value=TRACE),),
    )
    for _ in range(3):
        seen = Observation(target=target, at_s=world.now_s, duration_s=0.01, finding=finding)
        world.verdicts["auth"], _ = step(world.verdicts["auth"], seen, ConfirmPolicy())
        world.judge.observe(seen, world.verdicts["auth"])
        world.judge.look(target.key, world.now_s)
        world.now_s += 0.3
    view = world.alert("service_down", "auth")
    assert view.example is not None
    assert (view.example.trace_id, view.example.words) == (TRACE, "our look at auth:1")
