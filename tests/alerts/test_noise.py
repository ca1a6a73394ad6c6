"""The noise report: who was called by what, what somebody acted on, and what would have spared the rest."""

from __future__ import annotations

import pytest

from alerts.batch import Batch
from alerts.journal import Journal
from alerts.machine import Ended
from alerts.noise import Past, noise, suggestion
from alerts.noise_words import headline, lines
from alerts.notice import NoticeKind
from alerts.receiver import Console, Receiver, ReportSchedule
from alerts.reporter import Reporter, report_of
from alerts.rule import DEFAULT_RULES, ErrorRatioRule, Rule, Severity, TargetStateRule
from alerts.silence import Silence, parse_matchers
from alerts.told import Told
from checks.units import Duration, Ratio
from tests.alerts.world import START_S, World, plan

DAY_S = 86400.0
NOON = 1_800_000_000.0 + 4 * 3600


def past(
    number: int = 1, *, value: float | None = None, lasted_s: float = 60.0, acked: bool = False,
    silenced: bool = False, name: str = "high_error_rate", at_s: float = NOON,
) -> Past:  # fmt: skip
    told = Told(
        episode=f"{number}:1", fingerprint=str(number), env="production", alertname=name, component="auth",
        severity=Severity.PAGE, labels={}, title="t", text="t", fired_at_s=at_s + number,
        told_at_s=at_s + number, channels=("a",), acked_by="mira" if acked else "",
        acked_at_s=at_s + number + 90 if acked else 0.0,
        resolved_at_s=at_s + number + lasted_s, ended=Ended.RECOVERED.value,
    )  # fmt: skip
    return Past(told=told, value=value, silenced=silenced)


RULES: dict[str, Rule] = {"high_error_rate": ErrorRatioRule(), "database_down": TargetStateRule()}


def test_a_week_by_rule_the_noisiest_first() -> None:
    week = [past(number, lasted_s=60) for number in range(3)]
    week += [
        past(number, name="database_down", acked=True, lasted_s=1200, at_s=NOON + 12 * 3600)
        for number in (7, 8)
    ]
    report = noise(week, RULES, env="production", from_s=NOON - 6 * DAY_S, to_s=NOON + DAY_S)
    assert (report.pages, report.chats, report.acted) == (5, 0, 2)
    assert [(one.alertname, one.calls, one.acted, one.at_night, one.soon_over) for one in report.rules] == [
        ("high_error_rate", 3, 0, 0, 3),
        ("database_down", 2, 2, 2, 0),
    ]
    assert headline(report) == "2027-01-09 to 2027-01-16: 5 pages and 0 messages, 40% acted on"
    assert list(lines(report)) == [
        "high_error_rate (auth): 3 pages, 0 acted on, 3 over by themselves within 5 min, lasting 1 min",
        "database_down (auth): 2 pages, 2 acted on, 2 at night, taken after 1 min 30 s, lasting 20 min",
    ]


def test_what_never_called_is_named_and_what_only_records_is_not() -> None:
    rules = dict(DEFAULT_RULES) | {"quiet": TargetStateRule(severity=Severity.LOG)}
    report = noise([], rules, env="production", from_s=0.0, to_s=DAY_S)
    assert "database_down" in report.never
    assert "quiet" not in report.never
    assert headline(report) == "1970-01-01 to 1970-01-02: nobody was called"


@pytest.mark.parametrize(
    ("episodes", "said"),
    [
        (
            [past(number, value=0.06) for number in range(5)] + [past(9, value=0.3, acked=True)],
            "above: 7% would have spared 5 of 5 that nobody acted on, and no other",
        ),
        # Somebody acted on 6.5 %: nothing above that may be suggested, and 6 % spares nothing.
        ([past(number, value=0.068) for number in range(5)] + [past(9, value=0.065, acked=True)], ""),
        ([past(number, value=0.06) for number in range(3)], ""),
        (
            [past(number, lasted_s=50) for number in range(5)] + [past(9, lasted_s=900, silenced=True)],
            "for: 2m would have spared 5 of 5 that nobody acted on, and no other",
        ),
        ([past(number, lasted_s=50) for number in range(5)] + [past(9, lasted_s=55, acked=True)], ""),
        ([past(number, lasted_s=4000) for number in range(5)], ""),
    ],
    ids=["a threshold", "a needed call", "too few", "a longer for", "a short needed call", "long ones"],
)
def test_a_suggestion_spares_only_what_nobody_acted_on(episodes: list[Past], said: str) -> None:
    assert suggestion(episodes, ErrorRatioRule(above=Ratio(0.05), for_=Duration(60))) == said


def test_the_report_is_made_of_what_was_really_told() -> None:
    world = World()
    world.pass_s(20)
    for acted in (False, True):
        world.kill("postgres")
        world.pass_s(60)
        if acted:
            silence = Silence(
                id="s", matchers=parse_matchers('service="postgres"'), starts_at_s=world.now_s,
                ends_at_s=world.now_s + 30, author="mira", comment="known", created_at_s=world.now_s,
            )  # fmt: skip
            world.judge.silence(silence, world.now_s)
            world.pass_s(10)
        world.heal("postgres")
        world.pass_s(400)
    report = report_of(world.journal, world.plan.rules, env="production", from_s=START_S, to_s=world.now_s)
    (one,) = [one for one in report.rules if one.alertname == "database_down"]
    assert (one.calls, one.acted) == (2, 1)
    assert "service_down" in report.never


def _scheduled(cron: str = "0 9 * * *") -> World:
    receivers = {
        "team": Receiver(console=Console(), severities=(Severity.CHAT,)),
        "pager": Receiver(console=Console()),
    }
    world = World(plan(receivers=receivers, report=ReportSchedule(receiver="team", cron=cron)))
    world.pass_s(20)
    world.kill("postgres")
    return world


def test_it_is_sent_at_its_time_once_to_its_receiver_and_after_a_restart_not_again() -> None:
    world = _scheduled()
    reporter = Reporter(world.journal)
    nine = START_S + 3600
    for at_s in (START_S + 60, nine - 1):
        reporter.tick(world.plan, at_s)
    # Yesterday's was due within a day: nothing of it was sent before.
    before = len(world.rows)
    for at_s in (nine, nine + 1, nine + 600):
        reporter.tick(world.plan, at_s)
    Reporter(world.journal).tick(world.plan, nine + 700)
    (row,) = world.rows[before:]
    assert row.notice.kind is NoticeKind.REPORT
    assert row.channel == "team/console"
    assert row.notice.title == "PROD · 2027-01-08 to 2027-01-15: 1 page and 0 messages, 0% acted on"
    assert "database_down (postgres): 1 page, 0 acted on" in row.notice.text


def test_what_is_due_more_than_a_day_late_is_left_out() -> None:
    world = _scheduled("0 9 1 1 *")
    Reporter(world.journal).tick(world.plan, START_S)
    assert [row for row in world.rows if row.notice.kind is NoticeKind.REPORT] == []


def test_without_a_schedule_nothing_is_sent() -> None:
    journal = Journal(None)
    Reporter(journal).tick(plan(), START_S)
    assert journal.queued() == ()
    assert not Batch()
