"""Every kind of message as a person reads it at 3 a.m.: in the golden file, and what must hold of each."""

from __future__ import annotations

import pytest

from alerts.notice import Notice, NoticeKind
from alerts.passes import dressed
from alerts.words import septets
from checks.secret import Secret
from tests.alerts.messages import CASES, GOLDEN, written

_MADE: dict[str, Notice] = {}


def _case(name: str) -> Notice:
    if name not in _MADE:
        _MADE[name] = CASES[name]()
    return _MADE[name]


def test_every_message_reads_as_it_was_read_and_found_good() -> None:
    assert written() == GOLDEN.read_text(encoding="utf-8"), "read them: python -m tests.alerts.messages"


@pytest.mark.parametrize("name", CASES)
def test_the_environment_comes_first_and_the_first_eighty_characters_say_what_and_where(name: str) -> None:
    notice = _case(name)
    env = "PRODUCTION" if notice.kind is NoticeKind.TEST else "PROD"
    assert notice.title.startswith(f"{env} · ")
    assert notice.sms.startswith(env)
    if notice.component:
        assert notice.component in notice.title[:80]
    assert len(notice.title) <= 160


@pytest.mark.parametrize("name", CASES)
def test_an_sms_is_one_of_160_places(name: str) -> None:
    sms = _case(name).sms
    assert septets(sms) <= 160
    assert sms.isascii()


@pytest.mark.parametrize("name", CASES)
def test_no_message_speaks_of_labels_or_alerts_or_shows_a_template(name: str) -> None:
    notice = _case(name)
    words = f"{notice.title} {notice.text}".lower()
    for word in ("alertname", "firing", "labels", "{{", "none", "null", "no detail"):
        assert word not in words, word


@pytest.mark.parametrize("name", CASES)
def test_what_can_be_taken_can_be_taken_from_the_message(name: str) -> None:
    notice = _case(name)
    labels = [label for label, _ in dressed(notice, Secret("token"), 0.0).links]
    can = notice.kind not in (NoticeKind.RESOLVE, NoticeKind.TEST) and not notice.merged
    assert ("Acknowledge" in labels) is can


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("a test", "merged by rate")])
def test_what_is_over_says_after_how_long_and_why_and_what_is_not_says_since_when(name: str) -> None:
    notice = _case(name)
    if notice.kind is NoticeKind.RESOLVE:
        assert "after " in notice.title
        assert any(one in notice.title for one in ("it recovered", "its rule was removed"))
    else:
        assert "UTC on 2027-01-15" in dict(notice.body)["Since"]
