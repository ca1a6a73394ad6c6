"""Every kind of message in every size, from real judgements, as text for a person to read.

`python -m tests.alerts.messages` writes golden/messages.txt anew; read what changed as if it woke you.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from alerts.digest import belated, digest_of
from alerts.dispatcher import test_notice
from alerts.external import ExternalAlert
from alerts.notice import Notice, NoticeKind
from alerts.notifiers.apprise_words import chat
from alerts.notifiers.console import line
from alerts.notifiers.slack import mrkdwn, thread_line
from alerts.notifiers.smtp import subject, text
from alerts.passes import dressed
from alerts.receiver import Console, EscalationStep, Receiver
from alerts.rule import ErrorRatioRule, SlowRequestRatioRule
from alerts.silence import Silence, parse_matchers
from alerts.story import Change
from checks.finding import Claim, State
from checks.reason import Reason
from checks.secret import Secret
from checks.units import Duration, Ratio
from tests.alerts.world import COMPREHENSIVE, World, plan

GOLDEN = Path(__file__).parent / "golden" / "messages.txt"
_URL = "https://gaia.example.org"
_RUNBOOK = "https://wiki.example.org/postgres"
_TOKEN = Secret("a token that no real agent has")
RULES = COMPREHENSIVE | {
    "database_down": msgspec.structs.replace(
        COMPREHENSIVE["database_down"], runbook=_RUNBOOK,
        first_step="fly status -a gaia-db-prod; if it is stopped, fly machine start",
    ),
    "slow_responses": SlowRequestRatioRule(severity=COMPREHENSIVE["slow_responses"].severity),
    "high_error_rate": ErrorRatioRule(above=Ratio(0.05)),
}  # fmt: skip


def _world() -> World:
    receivers = {
        "on_call": Receiver(console=Console(), repeat_page=Duration(4 * 3600)),
        "boss": Receiver(console=Console(), severities=()),
    }
    steps = (EscalationStep(receiver="boss", after=Duration(900)),)
    world = World(plan(RULES, receivers=receivers, escalation=steps, external_url=_URL))
    world.pass_s(20)
    return world


def _silence(world: World, seconds: float) -> None:
    silence = Silence(
        id="6f1c", matchers=parse_matchers('service="postgres"'), starts_at_s=world.now_s,
        ends_at_s=world.now_s + seconds, author="mira", comment="upgrade", created_at_s=world.now_s,
    )  # fmt: skip
    world.judge.silence(silence, world.now_s)


def _down() -> World:
    world = _world()
    world.judge.changed(
        Change(at_s=world.now_s - 120, text="postgres 15.4 to 15.5 by release/2.14", component="postgres")
    )
    world.kill("postgres")
    return world


def _trigger() -> Notice:
    return _down().told()[0]


def _resolve() -> Notice:
    world = _down()
    world.pass_s(1080)
    world.heal("postgres")
    world.pass_s(10)
    return world.told(NoticeKind.RESOLVE)[-1]


def _closed() -> Notice:
    world = _down()
    world.pass_s(60)
    rules = {name: rule for name, rule in RULES.items() if name != "database_down"}
    world.judge.reload(plan(rules, external_url=_URL), world.now_s)
    return world.told(NoticeKind.RESOLVE)[-1]


def _reminder() -> Notice:
    world = _down()
    world.pass_s(4 * 3600 + 20, every_s=10)
    return world.told(NoticeKind.REMINDER)[-1]


def _escalated() -> Notice:
    world = _down()
    world.pass_s(910)
    return next(row.notice for row in world.rows if row.channel == "boss/console")


def _ack_ended() -> Notice:
    world = _down()
    world.judge.ack("database_down", "mira", world.now_s, lasts_s=4 * 3600)
    world.pass_s(4 * 3600 + 20, every_s=10)
    return world.told(NoticeKind.REMINDER)[-1]


def _silence_ended() -> Notice:
    world = _down()
    world.pass_s(60)
    _silence(world, 3600)
    world.pass_s(3620)
    return world.told(NoticeKind.REMINDER)[-1]


def _told_after_silence() -> Notice:
    world = _world()
    _silence(world, 1800)
    world.kill("postgres")
    world.pass_s(1820)
    return world.told(NoticeKind.TRIGGER)[0]


def _flapping() -> Notice:
    world = _world()
    for _ in range(6):
        world.kill("postgres")
        world.pass_s(30)
        world.heal("postgres")
        world.pass_s(60)
    return world.told(NoticeKind.UPDATE)[-1]


def _no_data() -> Notice:
    world = _world()
    world.pass_s(100, looks=False)
    return next(one for one in world.told() if one.alertname == "no_data")


def _traffic(errors: int, slow: int, name: str) -> Notice:
    world = _world()
    for _ in range(12):
        for service in ("gateway", "auth", "chat", "asset"):
            world.requests(service, 100)
        world.pass_s(10)
    for _ in range(30):
        world.requests("asset", 118, errors, slow)
        world.pass_s(10)
    return next(one for one in world.told() if one.alertname == name)


def _cause_named() -> Notice:
    world = _world()
    world.look("postgres", State.DEGRADED, Reason.PG_SLOW, message="pid 24817 holds a lock, 38 sessions wait")
    claim = Claim(about="postgres", state=State.DEGRADED, output="pool exhausted")
    for _ in range(3):
        world.look(
            "asset", State.DOWN, Reason.STATUS, message="/health answers 503 in 3.4 s", claims=(claim,)
        )
        world.now_s += 0.3
    world.pass_s(30)
    return next(one for one in world.told() if one.component == "asset")


def _many() -> World:
    world = _world()
    for number in range(12):
        labels = {"alertname": "DiskFull", "service": f"svc{number}", "severity": "critical"}
        world.judge.receive([ExternalAlert(labels=labels)], world.now_s)
    world.pass_s(3)
    return world


def _storm() -> Notice:
    return next(one for one in _many().told() if one.alertname == "many_at_once")


def _storm_over() -> Notice:
    world = _many()
    world.pass_s(320, every_s=10)
    return [one for one in world.told() if one.alertname == "many_at_once"][-1]


def _external() -> Notice:
    world = _world()
    alert = ExternalAlert(
        labels={"alertname": "KafkaLag", "service": "chat", "severity": "critical"},
        annotations={"summary": "falls behind", "description": "lag 18,204 messages, 4 min behind",
                     "runbook_url": "https://wiki.example.org/kafka"},
    )  # fmt: skip
    world.judge.receive([alert], world.now_s)
    world.pass_s(2)
    return world.told(NoticeKind.TRIGGER)[-1]


def _stand_in() -> Notice:
    notice = _trigger()
    note = ("Note", "on_call could not be reached, so you are called")
    return msgspec.structs.replace(notice, body=(*notice.body, note))


CASES: dict[str, Callable[[], Notice]] = {
    "a page": _trigger,
    "a page with its cause": _cause_named,
    "requests fail": lambda: _traffic(14, 0, "high_error_rate"),
    "requests are slow": lambda: _traffic(0, 36, "slow_responses"),
    "cannot be seen": _no_data,
    "judged by others": _external,
    "nobody took it": _escalated,
    "a reminder": _reminder,
    "an acknowledgement ended": _ack_ended,
    "a silence ended": _silence_ended,
    "told after a silence": _told_after_silence,
    "comes and goes": _flapping,
    "over": _resolve,
    "its rule was removed": _closed,
    "over before it got through": lambda: belated(_resolve()),
    "a channel failed": _stand_in,
    "many at once": _storm,
    "many at once are over": _storm_over,
    "merged by rate": lambda: digest_of([_trigger(), _cause_named(), _no_data()], 7),
    "a test": lambda: test_notice("production", "mira", _world().now_s),
}


def written() -> str:
    """All of them, one below the other."""
    return "\n".join(part for name, make in CASES.items() for part in _case(name, make())) + "\n"


def _case(name: str, notice: Notice) -> Iterator[str]:
    notice = dressed(notice, _TOKEN, notice.at_s)
    yield f"======== {name} ({notice.kind}, {notice.severity})"
    yield f"lock screen | {notice.title[:80]}"
    yield f"sms {len(notice.sms):>3}     | {notice.sms}"
    yield f"console     | {line(notice)}"
    yield f"thread      | {thread_line(notice).partition(chr(10))[0]}"
    yield "---- slack"
    yield mrkdwn(notice)
    if chat(notice).partition("\nAcknowledge")[0] != notice.text:
        yield "---- chat"
        yield chat(notice)
    yield "---- mail"
    yield f"Subject: {subject(notice)}"
    yield text(notice)


if __name__ == "__main__":
    GOLDEN.write_text(written(), encoding="utf-8")
