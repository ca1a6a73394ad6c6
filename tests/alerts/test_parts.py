"""Windows, words, silences, the journal and the past, each by itself."""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from alerts.backtest import backtest
from alerts.batch import Batch
from alerts.channel import called, channels
from alerts.journal import Journal
from alerts.ledger import Ledger
from alerts.machine import Phase, Standing
from alerts.notice import NoticeKind
from alerts.reading import Outcome, Unknown
from alerts.receiver import Console, Receiver, Webhook
from alerts.requests import RequestSample
from alerts.rule import (
    BurnRateRule,
    ErrorRatioRule,
    Severity,
    SlowRequestRatioRule,
    quantity,
    signal,
)
from alerts.signals import traffic
from alerts.signals.numbers import increase
from alerts.silence import Silence, parse_matchers
from alerts.told import Told
from alerts.words import Story, render, span
from checks.finding import Finding, State
from checks.observation import Observation
from checks.reason import Reason
from checks.secret import Secret
from tests.alerts.test_delivery import notice
from tests.alerts.world import TARGETS, World, plan


def sample(
    at_s: float, total: int, errors: int = 0, *, source: str = "a", incarnation: str = "1", slow: int = 0,
    born_s: float | None = None,
) -> RequestSample:  # fmt: skip
    return RequestSample(
        env="production", service="auth", source=source, at_s=at_s, incarnation=incarnation, total=total,
        errors=errors, buckets=((2.0, total - slow), (float("inf"), total)), born_s=born_s,
    )  # fmt: skip


def ledger(*samples: RequestSample, edges: tuple[float, ...] = (2.0,)) -> Ledger:
    made = Ledger(edges=edges)
    for one in samples:
        made.add(one)
    return made


# Windows.


def test_an_increment_is_taken_from_the_last_sample_at_or_before_the_windows_start() -> None:
    made = ledger(*(sample(15 * n, 100 * n, n) for n in range(21)))
    counts = made.counts(300, 300)
    assert (counts.total, counts.errors) == (2000, 20)
    assert made.counts(300, 60).total == 400


def test_a_restart_counts_from_zero_even_when_the_counter_grew_past_its_old_value() -> None:
    made = ledger(sample(0, 50), sample(15, 60), sample(30, 90, incarnation="2"))
    assert made.counts(30, 300).total == 10 + 90
    assert ledger(sample(0, 50), sample(15, 7)).counts(15, 300).total == 7


def test_a_source_that_was_born_while_we_watched_counts_from_zero_and_an_old_one_does_not() -> None:
    made = ledger(sample(1, 1000), sample(15, 1000), sample(15, 40, source="b", born_s=10))
    assert made.counts(20, 300).total == 40
    assert ledger(sample(0, 1000), sample(15, 1000), sample(15, 40, source="b")).counts(20, 300).total == 0


def test_sources_are_summed_and_a_lost_one_keeps_what_it_counted() -> None:
    made = ledger(sample(0, 0), sample(0, 0, source="b"), sample(15, 10), sample(15, 20, source="b"))
    made.forget_source("b")
    assert made.counts(15, 300).total == 30


def test_a_clock_that_is_set_back_does_not_hide_the_traffic() -> None:
    made = ledger(*(sample(5000 + 15 * n, 100 * n, 50 * n) for n in range(10)), sample(140, 1000, 500))
    assert made.counts(140, 60).total == 500


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 50), st.booleans()), min_size=1, max_size=60),
    st.integers(1, 400),
)
def test_windows_lose_and_invent_nothing(steps: list[tuple[int, int, bool]], window_s: int) -> None:
    made = Ledger()
    at_s = total = 0
    made.add(sample(0, 0))
    grown: list[tuple[int, int]] = []
    incarnation = 1
    for seconds, more, restarts in steps:
        at_s += seconds
        total = more if restarts else total + more
        incarnation += restarts
        grown.append((at_s, more))
        made.add(sample(at_s, total, incarnation=str(incarnation)))
    assert made.counts(at_s, window_s).total == sum(n for t, n in grown if t > at_s - window_s)


def test_a_burn_rate_needs_half_its_window_and_then_compares_both() -> None:
    rule = BurnRateRule()
    made = Ledger(keep_s=6 * 3600)
    for n in range(10):
        made.add(sample(60 * n, 100 * n, 50 * n))
    early = traffic.burn_rate(rule, made, 540, vouched=False)
    assert (early.outcome, early.why) == (Outcome.UNKNOWN, Unknown.INSUFFICIENT)
    for n in range(10, 60):
        made.add(sample(60 * n, 100 * n, 50 * n))
    late = traffic.burn_rate(rule, made, 3540, vouched=False)
    assert late.outcome is Outcome.BAD
    assert "500.0 times too fast" in late.text


@pytest.mark.parametrize(
    ("total", "errors", "outcome"),
    [
        (100, 5, Outcome.GOOD),  # Exactly 5 % is not more than 5 %.
        (100, 6, Outcome.BAD),
        (19, 2, Outcome.UNKNOWN),
        (20, 2, Outcome.UNKNOWN),
        (20, 3, Outcome.BAD),
        (0, 0, Outcome.UNKNOWN),
        (3, 3, Outcome.BAD),  # Few requests, and the last three all failed.
    ],
)
def test_the_guard_at_low_traffic(total: int, errors: int, outcome: Outcome) -> None:
    made = ledger(sample(0, 0), sample(10, total, errors))
    assert traffic.ratio(ErrorRatioRule(), made, 11, firing=False, vouched=False).outcome is outcome


def test_the_window_widens_until_there_are_enough_requests() -> None:
    made = ledger(*(sample(60 * n, 2 * n, n) for n in range(20)))
    reading = traffic.ratio(ErrorRatioRule(), made, 1141, firing=False, vouched=False)
    assert reading.outcome is Outcome.BAD
    assert "in 15m" in reading.text


def test_a_missing_bucket_edge_is_an_error_of_the_rule_and_never_good() -> None:
    made = ledger(sample(0, 0), sample(10, 100), edges=())
    reading = traffic.ratio(SlowRequestRatioRule(), made, 11, firing=False, vouched=False)
    assert (reading.outcome, reading.why) == (Outcome.UNKNOWN, Unknown.EVAL_ERROR)


def test_a_measures_growth_survives_a_restart_of_its_counter() -> None:
    assert increase([(0, 50), (10, 52), (20, 1), (30, 4)], 0) == 2 + 1 + 3


# Words.


STORY = Story(
    kind=NoticeKind.TRIGGER, episode="0123456789abcdef:1800000000000", env="production", alias="prod",
    alertname="a", component="asset", severity=Severity.PAGE, labels={}, what="is slow",
    evidence="31 % over 2s = 480 of 1549 in 5m", at_s=1_800_000_000, fired_at_s=1_800_000_000,
    since_s=1_799_999_940, affected=("gateway",), external_url="http://127.0.0.1:9877",
)  # fmt: skip


def test_the_title_stands_alone_in_its_first_eighty_characters() -> None:
    assert render(STORY).title == (
        "PROD · asset is slow: 31 % over 2s = 480 of 1549 in 5m · since 07:59:00 UTC"
    )
    assert len(render(STORY).title) <= 80


@given(
    st.text(max_size=400), st.text(max_size=60), st.lists(st.text(max_size=30), max_size=30),
    st.sampled_from(list(NoticeKind)),
)  # fmt: skip
def test_an_sms_fits_whatever_happened_and_a_title_is_one_line(
    evidence: str, component: str, affected: list[str], kind: NoticeKind
) -> None:
    resolved_s = STORY.at_s + 60 if kind is NoticeKind.RESOLVE else None
    made = render(
        replace(
            STORY, evidence=evidence, component=component, affected=tuple(affected), kind=kind,
            resolved_at_s=resolved_s,
        )
    )  # fmt: skip
    assert len(made.sms) <= 160
    assert made.sms.isascii()
    assert len(made.title) <= 160
    assert "\n" not in made.title
    assert "\r" not in made.title


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(5, "5 s"), (200, "3 min 20 s"), (1080, "18 min"), (3600, "1 h"), (5400, "1 h 30 min")],
)
def test_a_length_of_time_as_people_say_it(seconds: float, words: str) -> None:
    assert span(seconds) == words


@pytest.mark.parametrize(("text", "value"), [("90%", 0.9), ("30s", 30), ("1GB", 2**30), ("7", 7), (3, 3)])
def test_a_threshold_in_the_words_of_the_file(text: str | int, value: float) -> None:
    assert quantity(text) == value


def test_a_threshold_that_is_none_says_how_to_write_one() -> None:
    with pytest.raises(ValueError, match=r"write 0\.9, 90%, 30s or 1GB"):
        quantity("lots")
    assert signal(ErrorRatioRule()) == "error_ratio"


# Silences.


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("service=auth", True), ('{service="auth", env!=staging}', True), ("service=~a.*", True),
        ("service=~a", False), ("service!~a.*", False), ("team=", True), ('service="au\\"th"', False),
    ],
)  # fmt: skip
def test_matchers_are_alertmanagers(text: str, *, matches: bool) -> None:
    labels = {"service": "auth", "env": "production"}
    assert all(one.matches(labels) for one in parse_matchers(text)) is matches


@pytest.mark.parametrize("text", ["service", "service=a b=c", "=x", "service=~("])
def test_a_bad_matcher_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"matcher|comma|regular"):
        parse_matchers(text)


# Channels.


def test_channels_are_named_and_chosen_by_severity_and_receiver() -> None:
    receivers = {
        "pager": Receiver(notify=(Secret("https://hook"), Secret("ntfy://x")), severities=(Severity.PAGE,)),
        "log": Receiver(console=Console(), webhook=Webhook(url=Secret("http://x"))),
        "elsewhere": Receiver(console=Console(), environments=("staging",)),
    }
    every = channels(receivers, "production")
    assert [(one.name, one.kind) for one in every] == [
        ("pager/notify-1", "webhook"),
        ("pager/notify-2", "apprise"),
        ("log/console", "console"),
        ("log/webhook", "webhook"),
    ]
    assert [one.name for one in called(every, Severity.CHAT)] == ["log/console", "log/webhook"]
    assert [one.receiver for one in called(every, Severity.PAGE, ("pager",))] == ["pager", "pager"]


# The journal.


def _trouble(journal: Journal) -> str | None:
    return journal.trouble


def test_a_journal_that_cannot_be_written_goes_on_in_memory_says_so_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    journal = Journal(path, room_bytes=0)
    journal.commit(Batch(outbox=[("a", 0, notice(1))]), 1.0)
    # A full disk, as SQLite sees it: the file may not grow.
    pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
    journal._db.execute(f"PRAGMA max_page_count = {pages}")
    for number in range(2, 60):
        journal.commit(Batch(outbox=[("a", 0, notice(number))]), 2.0)
    assert "full" in (_trouble(journal) or "")
    assert len(journal.queued()) == 59
    assert journal.try_disk()
    assert _trouble(journal) is None
    journal.close()
    assert len(Journal(path).queued()) == 59


def test_a_full_disk_refuses_no_page_and_forgets_none_over_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    journal = Journal(path)
    journal.commit(Batch(outbox=[("a", 0, notice(1))]), 1.0)
    with no_file_may_grow(tmp_path):
        for number in range(2, 200):
            journal.commit(Batch(outbox=[("a", 0, notice(number))]), 2.0)
            if number % 20 == 0:
                journal.prune(3.0)
        assert _trouble(journal) is None
        # The process dies here: nothing is closed, the next one finds the files as they are.
        after = Journal(path)
        assert len(after.queued()) == 199
        after.commit(Batch(outbox=[("a", 0, notice(200))]), 4.0)
        assert _trouble(after) is None


@contextmanager
def no_file_may_grow(folder: Path) -> Iterator[None]:
    """What a full disk does to files that exist, for this process alone."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max(file.stat().st_size for file in folder.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_damaged_journal_is_put_aside_and_a_place_that_cannot_be_written_is_memory(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    path.write_bytes(b"this is no database, but it is long enough to be looked at as one" * 20)
    assert Journal(path).trouble is None
    assert path.with_suffix(".damaged").exists()
    (tmp_path / "file").write_text("")
    nowhere = Journal(tmp_path / "file" / "j.db")
    assert nowhere.trouble is not None
    assert nowhere.commit(Batch(outbox=[("a", 0, notice())]), 1.0)


def test_a_row_is_enqueued_once_however_often_it_is_written() -> None:
    journal = Journal(None)
    assert len(journal.commit(Batch(outbox=[("a", 0, notice())]), 1.0)) == 1
    assert journal.commit(Batch(outbox=[("a", 0, notice())]), 1.0) == ()


def test_what_is_old_is_forgotten_and_what_is_open_is_not() -> None:
    journal = Journal(None)
    told = Told(
        episode="a:1", fingerprint="a", env="e", alertname="n", component="c", severity=Severity.PAGE,
        labels={}, title="t", text="t", fired_at_s=1.0, told_at_s=1.0, channels=(),
    )  # fmt: skip
    over = msgspec.structs.replace(told, episode="b:1", resolved_at_s=2.0)
    silence = Silence(
        id="s", matchers=(), starts_at_s=0, ends_at_s=1, author="a", comment="c", created_at_s=0
    )
    journal.commit(Batch(episodes=[told, over], silences=[silence], outbox=[("a", 0, notice())]), 1.0)
    journal.prune(1e9)
    assert [one.episode for one in journal.episodes()] == ["a:1"]
    assert journal.silences() == ()
    (abandoned,) = journal.outbox_of(notice().episode)
    assert (abandoned.state, abandoned.last_error) == ("dead", "nobody took it for two days")


def test_everything_of_one_evaluation_is_one_transaction(tmp_path: Path) -> None:
    world = World(path=tmp_path / "j.db")
    world.pass_s(20)
    world.kill("postgres")
    with sqlite3.connect(tmp_path / "j.db") as reader:
        ((alerts,), (rows,), (episodes,)) = (
            reader.execute(f"SELECT count(*) FROM {table}").fetchone()
            for table in ("instances", "outbox", "episodes")
        )
    assert (alerts >= 1, rows, episodes) == (True, 1, 1)


# The past.


def test_a_backtest_says_when_a_rule_would_have_fired() -> None:
    target = TARGETS[0]
    looks = []
    for number in range(200):
        down = 50 <= number < 80 or 100 <= number < 110
        finding = Finding(
            state=State.DOWN if down else State.UP, reason=Reason.STATUS if down else Reason.OK, message="m",
            latency_s=0.1,
        )  # fmt: skip
        looks.append(Observation(target=target, at_s=1000.0 + 10 * number, duration_s=0, finding=finding))
    samples = [sample(1000.0 + 15 * n, 100 * n) for n in range(100)]
    replay = backtest(plan(), looks, samples, confirm={})
    fired = [one for one in replay.episodes if one.alertname == "service_down"]
    assert [(one.component, one.fired_s, one.resolved_s) for one in fired] == [
        ("gateway", 1520.0, 1810.0),
        ("gateway", 2020.0, 2110.0),
    ]
    assert replay.flaps() >= 1
    assert (replay.looks, replay.samples) == (200, 100)


def test_nothing_is_known_of_a_past_without_looks() -> None:
    assert backtest(plan(), [], [], confirm={}).episodes == ()
    assert Standing().phase is Phase.OK
