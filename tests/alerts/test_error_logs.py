"""ERROR log events: news once a week, storms against what is usual, a page only when users feel it."""

from __future__ import annotations

from pathlib import Path

import pytest

from alerts.machine import Phase
from alerts.notice import Notice, NoticeKind
from alerts.reading import Outcome
from alerts.requests import ErrorLog
from alerts.rule import ErrorLogRateRule, Severity
from alerts.signals.logs import LogWindow, error_log_rate
from tests.alerts.world import START_S, World

WEEK_S = 7 * 86400.0
RULE = ErrorLogRateRule()


def _news(world: World, kind: NoticeKind | None = None) -> list[Notice]:
    return [one for one in world.told(kind) if one.alertname == "new_error_log"]


def _event(at_s: float, mark: str = "f", *, count: int = 1, fatal: bool = False) -> ErrorLog:
    return ErrorLog(
        env="production", service="auth", at_s=at_s, fingerprint=mark, sample=f"KeyError: {mark}",
        count=count, trace_id="4bf92f3577b34da6a3ce929d0e0e4736", fatal=fatal,
    )  # fmt: skip


def _log(world: World, mark: str = "f", *, count: int = 1, fatal: bool = False) -> None:
    world.judge.logged(_event(world.now_s, mark, count=count, fatal=fatal))


@pytest.fixture
def world() -> World:
    made = World()
    made.pass_s(30)
    return made


def test_a_new_kind_is_told_once_with_sample_count_and_trace(world: World) -> None:
    _log(world, count=3)
    world.pass_s(60)
    (notice,) = world.told(NoticeKind.TRIGGER)
    assert (notice.alertname, notice.component, notice.severity) == ("new_error_log", "auth", Severity.CHAT)
    assert "KeyError: f (3 times, trace 4bf92f3577b34da6a3ce929d0e0e4736)" in notice.text
    for _ in range(5):
        _log(world)
        world.pass_s(600)
    assert len(world.told(NoticeKind.TRIGGER)) == 1


def test_it_is_new_again_after_a_week_without_it(world: World) -> None:
    for _ in range(2):
        _log(world)
        world.pass_s(1300, every_s=10)
    assert len(_news(world, NoticeKind.TRIGGER)) == 1
    world.now_s += WEEK_S
    world.pass_s(30)
    _log(world)
    world.pass_s(30)
    assert len(_news(world, NoticeKind.TRIGGER)) == 2


def test_a_restart_does_not_make_old_kinds_new(tmp_path: Path) -> None:
    world = World(path=tmp_path / "journal.db")
    world.pass_s(30)
    _log(world)
    world.pass_s(1300, every_s=10)
    assert world.said() == ["trigger new_error_log auth", "resolve new_error_log auth"]
    world.restart()
    world.pass_s(30)
    _log(world)
    _log(world, "other")
    world.pass_s(30)
    assert world.said()[2:] == ["trigger new_error_log auth"]
    assert "KeyError: other" in world.told()[-1].text
    assert "KeyError: f" not in world.told()[-1].text


def test_a_kind_that_went_on_is_known_after_a_crash_though_told_days_ago(tmp_path: Path) -> None:
    world = World(path=tmp_path / "journal.db")
    world.pass_s(30)
    for _ in range(6):
        _log(world)
        world.pass_s(86400, every_s=600)
    world.restart()
    world.now_s += 5 * 86400
    world.pass_s(30)
    _log(world)
    world.pass_s(30)
    assert len(_news(world, NoticeKind.TRIGGER)) == 1


def test_further_new_kinds_follow_in_the_same_thread_and_beyond_five_as_a_digest(world: World) -> None:
    for number in range(12):
        _log(world, f"kind{number}")
        world.pass_s(12)
    assert [one.kind for one in _news(world)] == [NoticeKind.TRIGGER] + [NoticeKind.UPDATE] * 4
    assert len({one.episode for one in _news(world)}) == 1
    world.pass_s(500)
    digest = _news(world)[-1]
    assert digest.kind is NoticeKind.UPDATE
    assert "7 new kinds, 7 events: KeyError: kind5" in digest.text
    assert "and 4 more" in digest.text
    assert len(_news(world)) == 6


def test_a_storm_is_told_in_chat_beside_the_news_and_with_its_most_frequent_kind(world: World) -> None:
    for number in range(12):
        _log(world, "a" if number % 3 else "b")
        world.pass_s(1)
    world.pass_s(10)
    told = {one.alertname: one for one in world.told(NoticeKind.TRIGGER)}
    assert set(told) == {"error_logs", "new_error_log"}
    assert told["error_logs"].severity is Severity.CHAT
    assert "ERROR log events in 5m; KeyError: a (" in told["error_logs"].text


def test_errors_in_the_log_page_only_when_requests_fail_too(world: World) -> None:
    for _ in range(30):
        _log(world)
        world.requests("auth", 100)
        world.pass_s(10)
    assert not [one for one in world.told() if one.severity is Severity.PAGE]
    for _ in range(12):
        _log(world)
        world.requests("auth", 100, errors=60)
        world.pass_s(5)
    pages = [one for one in world.told(NoticeKind.TRIGGER) if one.severity is Severity.PAGE]
    assert [one.alertname for one in pages] == ["error_logs_and_bad_traffic"]
    assert "failed = " in pages[0].text
    assert "KeyError: f" in pages[0].text
    assert world.alert("high_error_rate", "auth").state is not Phase.OK, "the same thing is not paged twice"


def test_errors_without_traffic_do_not_page(world: World) -> None:
    for _ in range(30):
        _log(world)
        world.pass_s(10)
    assert {one.severity for one in world.told()} == {Severity.CHAT}


def test_one_fatal_event_pages_at_once(world: World) -> None:
    _log(world, fatal=True)
    world.pass_s(11)
    pages = [one for one in world.told() if one.severity is Severity.PAGE]
    assert [one.alertname for one in pages] == ["fatal_logs"]
    assert "1 CRITICAL or FATAL log events in 5m; KeyError: f" in pages[0].text


def test_what_is_logged_is_evidence_in_the_page_of_the_same_service(world: World) -> None:
    for _ in range(3):
        _log(world, count=2)
    world.kill("auth")
    (page,) = [one for one in world.told() if one.severity is Severity.PAGE]
    assert "logged KeyError: f (6 times, trace" in dict(page.body)["Likely cause"]


def _window(per_window: list[int], *, began_s: float = START_S) -> LogWindow:
    """So many events in each five minutes from `began_s`."""
    window = LogWindow(began_s)
    for number, count in enumerate(per_window):
        for part in range(count):
            at_s = began_s + 300 * number + 1 + part * 298 / count
            window.add(_event(at_s), quiet_for_s=WEEK_S)
    return window


@pytest.mark.parametrize(
    ("per_window", "outcome"),
    [
        ([0] * 12 + [9], Outcome.GOOD),
        ([0] * 12 + [10], Outcome.BAD),
        ([20] * 12 + [59], Outcome.GOOD),
        ([20] * 12 + [60], Outcome.BAD),
        ([2] * 12 + [9], Outcome.GOOD),
        ([20] * 3 + [12], Outcome.BAD),
        ([0] * 7 + [90] * 5 + [12], Outcome.BAD),
    ],
    ids=[
        "below ten", "ten", "below three times the usual", "three times the usual",
        "three times little is still little", "not known long enough to be usual", "one burst is not usual",
    ],
)  # fmt: skip
def test_a_storm_is_ten_in_five_minutes_or_three_times_what_is_usual(
    per_window: list[int], outcome: Outcome
) -> None:
    now_s = START_S + 300 * len(per_window)
    assert error_log_rate(RULE, _window(per_window), now_s).outcome is outcome


def test_a_storm_that_goes_on_does_not_become_usual_and_end() -> None:
    window = _window([0] * 12 + [30] * 30)
    active_at_s = START_S + 12 * 300 + 100
    for number in range(14, 42):
        now_s = START_S + 300 * number
        assert error_log_rate(RULE, window, now_s, active_at_s=active_at_s).outcome is Outcome.BAD


def test_memory_is_bounded_whatever_is_logged() -> None:
    window = LogWindow(0.0)
    for number in range(5000):
        window.add(_event(number / 10, f"{number}"), quiet_for_s=WEEK_S)
    assert len(window.news) <= 1024
    assert len(window.unsaved(600.0, at_once=True)) <= 256
