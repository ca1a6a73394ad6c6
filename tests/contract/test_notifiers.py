"""One suite over every notifier: it tells, says truly whether it did, keeps its deadline, leaks nothing."""

from __future__ import annotations

import gc
import hashlib
import hmac
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from email import message_from_bytes

import msgspec
import psutil
import pytest

from alerts.channel import Channel, Options
from alerts.notice import Notice, NoticeKind
from alerts.notifiers import apprise_sender, catalog
from alerts.notifiers.apprise import AppriseProcess
from alerts.notifiers.notifier import Notifier, NotifyError
from alerts.receiver import Alertmanager, Console, Opsgenie, Pagerduty, Receiver, Slack, Smtp, Webhook
from alerts.rule import Severity
from checks.secret import Secret
from tests.alerts.receivers import Inbox, Mood, closed_port, http_receiver, smtp_receiver

SECRET = "s3cr3t-t0k3n"
NOTICE = Notice(
    kind=NoticeKind.TRIGGER,
    episode="0123456789abcdef:1800000000000",
    env="production",
    alertname="database_down",
    component="postgres",
    severity=Severity.PAGE,
    title="PROD · postgres is down: nobody listens <there> & elsewhere · since 08:00:00 UTC",
    sms="PROD postgres is down: nobody listens. Since 08:00Z.",
    body=(("", "postgres is down: nobody listens <there> & elsewhere"), ("Affected", "auth, chat")),
    labels={"alertname": "database_down", "env": "production", "service": "postgres", "severity": "page"},
    at_s=1_800_000_000.0,
    fired_at_s=1_800_000_000.0,
    value=0.12,
    threshold=0.05,
    affected=("auth", "chat"),
    links=(("Open", "http://127.0.0.1:9877/i/1"), ("Runbook", "https://example.org/pg")),
)
RESOLVE = msgspec.structs.replace(
    NOTICE, kind=NoticeKind.RESOLVE, at_s=NOTICE.at_s + 60, resolved_at_s=NOTICE.at_s + 60, ended="recovered"
)

OPTIONS: dict[str, Callable[[str, int], Options]] = {
    "webhook": lambda url, _: Webhook(url=Secret(f"{url}/hook?key={SECRET}"), secret=Secret("k")),
    "pagerduty": lambda url, _: Pagerduty(routing_key=Secret(SECRET), url=f"{url}/v2/enqueue"),
    "opsgenie": lambda url, _: Opsgenie(api_key=Secret(SECRET), url=f"{url}/v2/alerts"),
    "slack": lambda url, _: Slack(token=Secret(SECRET), channel="#ops", url=f"{url}/api"),
    "alertmanager": lambda url, _: Alertmanager(urls=(Secret(url.replace("//", f"//u:{SECRET}@")),)),
    "smtp": lambda _, port: Smtp(
        host="127.0.0.1", port=port, to=("a@example.org",), sender="gaia@example.org", starttls=False
    ),
    "apprise": lambda url, _: Secret(f"{url.replace('http', 'json')}/{SECRET}?rto=1&cto=1"),
}
KINDS = list(OPTIONS)
# A library that tells only that it failed; it is tried again, which loses nothing.
VAGUE = {"apprise"}


def _notifier(kind: str, url: str, port: int) -> Notifier:
    options = OPTIONS[kind](url, port)
    return catalog.build(
        Channel(name=f"r/{kind}", kind=kind, receiver="r", options=options, settings=Receiver())
    )


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def _inbox(stack: ExitStack, kind: str, mood: Mood = Mood.OK) -> Inbox:
    return stack.enter_context((smtp_receiver if kind == "smtp" else http_receiver)(mood))


def test_every_kind_in_the_catalog_is_under_this_contract() -> None:
    assert set(catalog.KINDS) == {*KINDS, "console"}


@pytest.mark.parametrize("kind", KINDS)
def test_it_tells_a_trigger_and_its_resolve(kind: str, stack: ExitStack) -> None:
    inbox = _inbox(stack, kind)
    notifier = _notifier(kind, inbox.url, inbox.port)
    first = notifier.deliver(NOTICE, deadline_s=5)
    notifier.deliver(RESOLVE, deadline_s=5, ref=first.ref)
    assert len(inbox.accepted) >= 2
    text = b"".join(request.body for request in inbox.accepted).decode()
    assert "postgres" in text


@pytest.mark.parametrize(
    ("mood", "retryable"),
    [(Mood.ERROR, True), (Mood.BUSY, True), (Mood.REFUSES, False), (Mood.CLOSED, True)],
    ids=str,
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_is_an_error_that_says_whether_to_try_again(
    kind: str, mood: Mood, stack: ExitStack, *, retryable: bool
) -> None:
    inbox = _inbox(stack, kind, mood)
    port = closed_port() if mood is Mood.CLOSED else inbox.port
    notifier = _notifier(kind, f"http://127.0.0.1:{port}", port)
    with pytest.raises((NotifyError, OSError)) as caught:
        notifier.deliver(NOTICE, deadline_s=2)
    error = caught.value
    assert (not isinstance(error, NotifyError) or error.retryable) is (retryable or kind in VAGUE)
    if mood is Mood.BUSY and kind not in ("smtp", "apprise"):
        assert isinstance(error, NotifyError)
        assert error.retry_after_s == 7
    assert inbox.accepted == []


@pytest.mark.parametrize("mood", [Mood.HANGS, Mood.DRIPS], ids=str)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "smtp"])
def test_the_deadline_is_for_the_whole_attempt(kind: str, mood: Mood, stack: ExitStack) -> None:
    inbox = _inbox(stack, kind, mood)
    notifier = _notifier(kind, inbox.url, inbox.port)
    started = time.monotonic()
    with pytest.raises(NotifyError) as caught:
        notifier.deliver(NOTICE, deadline_s=0.4)
    assert caught.value.retryable
    assert time.monotonic() - started < 1.5


@pytest.mark.parametrize("mood", [Mood.ERROR, Mood.REFUSES, Mood.CLOSED], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_is_in_an_error_or_a_repr(kind: str, mood: Mood, stack: ExitStack) -> None:
    inbox = _inbox(stack, kind, mood)
    port = closed_port() if mood is Mood.CLOSED else inbox.port
    notifier = _notifier(kind, f"http://127.0.0.1:{port}", port)
    with pytest.raises((NotifyError, OSError)) as caught:
        notifier.deliver(NOTICE, deadline_s=2)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)
    assert SECRET not in repr(OPTIONS[kind]("http://x", 1))


@pytest.mark.parametrize("kind", KINDS)
def test_warming_up_needs_nobody_at_the_other_end(kind: str) -> None:
    port = closed_port()
    _notifier(kind, f"http://127.0.0.1:{port}", port).warm()


def test_the_webhook_is_alertmanagers_version_4_signed_and_with_our_own_key(stack: ExitStack) -> None:
    inbox = _inbox(stack, "webhook")
    _notifier("webhook", inbox.url, 0).deliver(RESOLVE, deadline_s=5)
    request = inbox.accepted[0]
    assert request.path == f"/hook?key={SECRET}"
    body = request.json
    assert (body["version"], body["status"], body["groupKey"]) == ("4", "resolved", NOTICE.episode)
    assert body["alerts"][0]["fingerprint"] == "0123456789abcdef"
    assert body["alerts"][0]["startsAt"] == "2027-01-15T08:00:00.000Z"
    assert body["alerts"][0]["endsAt"] == "2027-01-15T08:01:00.000Z"
    assert body["gaia"]["affected"] == ["auth", "chat"]
    stamp, _, digest = request.headers["X-Gaia-Signature"].partition(",v1=")
    signed = f"{stamp[2:]}.".encode() + request.body
    assert digest == hmac.new(b"k", signed, hashlib.sha256).hexdigest()


def test_pagerduty_and_opsgenie_are_keyed_by_episode(stack: ExitStack) -> None:
    inbox = _inbox(stack, "pagerduty")
    for kind in ("pagerduty", "opsgenie"):
        notifier = _notifier(kind, inbox.url, 0)
        notifier.deliver(NOTICE, deadline_s=5)
        # A fresh object: nothing may depend on what an earlier process remembers.
        _notifier(kind, inbox.url, 0).deliver(RESOLVE, deadline_s=5)
    trigger, resolve, alert, close = inbox.accepted
    assert (trigger.json["event_action"], resolve.json["event_action"]) == ("trigger", "resolve")
    assert trigger.json["dedup_key"] == resolve.json["dedup_key"] == NOTICE.episode
    assert trigger.json["payload"]["severity"] == "critical"
    assert alert.json["alias"] == NOTICE.episode
    assert close.path == "/v2/alerts/0123456789abcdef%3A1800000000000/close?identifierType=alias"
    assert alert.headers["Authorization"] == f"GenieKey {SECRET}"


def test_slack_edits_its_message_and_threads_and_escapes(stack: ExitStack) -> None:
    inbox = _inbox(stack, "slack")
    notifier = _notifier("slack", inbox.url, 0)
    ref = notifier.deliver(NOTICE, deadline_s=5).ref
    assert ref == "171.5"
    notifier.deliver(RESOLVE, deadline_s=5, ref=ref)
    assert [request.path for request in inbox.accepted] == [
        "/api/chat.postMessage",
        "/api/chat.update",
        "/api/chat.postMessage",
    ]
    assert "&lt;there&gt; &amp; elsewhere" in inbox.accepted[0].json["text"]
    assert inbox.accepted[1].json["ts"] == inbox.accepted[2].json["thread_ts"] == "171.5"


def test_alertmanager_gets_identity_as_labels_and_an_end(stack: ExitStack) -> None:
    inbox = _inbox(stack, "alertmanager")
    _notifier("alertmanager", inbox.url, 0).deliver(NOTICE, deadline_s=5)
    request = inbox.accepted[0]
    assert request.path == "/api/v2/alerts"
    (alert,) = request.json
    assert alert["labels"] == NOTICE.labels | {"notified_by": "agent"}
    ends_s = datetime.fromisoformat(alert["endsAt"]).timestamp()
    assert 170 <= ends_s - time.time() <= 185


def test_one_alertmanager_that_answers_is_enough(stack: ExitStack) -> None:
    inbox = _inbox(stack, "alertmanager")
    urls = (Secret(f"http://127.0.0.1:{closed_port()}"), Secret(inbox.url))
    channel = Channel(
        name="r/alertmanager", kind="alertmanager", receiver="r", options=Alertmanager(urls=urls),
        settings=Receiver(),
    )  # fmt: skip
    assert catalog.build(channel).deliver(NOTICE, deadline_s=5).status == 200


def test_mail_of_one_episode_is_one_thread(stack: ExitStack) -> None:
    inbox = _inbox(stack, "smtp")
    notifier = _notifier("smtp", "", inbox.port)
    ref = notifier.deliver(NOTICE, deadline_s=5).ref
    notifier.deliver(RESOLVE, deadline_s=5, ref=ref)
    first, second = (message_from_bytes(request.body) for request in inbox.accepted)
    assert first["Message-ID"] == second["In-Reply-To"] == second["References"]
    assert second["Subject"].startswith("Re: ")


def test_apprise_gets_words_of_the_right_size_and_no_foreign_picture(stack: ExitStack) -> None:
    inbox = _inbox(stack, "apprise")
    _notifier("apprise", inbox.url, 0).deliver(NOTICE, deadline_s=5)
    body = inbox.accepted[0].json
    assert (body["type"], body["title"]) == ("failure", NOTICE.title)
    assert "Runbook: https://example.org/pg" in body["message"]


def test_an_apprise_url_that_means_nothing_is_an_error_at_warm_up() -> None:
    channel = Channel(
        name="r/a", kind="apprise", receiver="r", options=Secret(f"nosuch://{SECRET}"), settings=Receiver()
    )
    with pytest.raises(NotifyError, match="nosuch://") as caught:
        catalog.build(channel).warm()
    assert SECRET not in str(caught.value)


def test_the_process_of_apprise_is_begun_again_after_it_hung_was_killed_or_went_idle(
    stack: ExitStack,
) -> None:
    gc.collect()
    assert not children_of_this_process()
    hanging, well = _inbox(stack, "apprise", Mood.DRIPS), _inbox(stack, "apprise")
    processes = [AppriseProcess()]

    def ask(inbox: Inbox, deadline_s: float) -> str:
        url = f"{inbox.url.replace('http', 'json')}/{SECRET}"
        message = {"body": "postgres refuses connections"}
        return processes[0].ask({"url": url, "message": message}, deadline_s)

    assert ask(well, 20) == apprise_sender.SENT
    first = children_of_this_process()
    assert ask(well, 20) == apprise_sender.SENT
    assert children_of_this_process() == first
    with pytest.raises(NotifyError, match=r"no answer within 0\.5 s"):
        ask(hanging, 0.5)
    assert not children_of_this_process() & first
    assert ask(well, 20) == apprise_sender.SENT
    for child in children_of_this_process():
        child.kill()
        child.wait(5)
    assert ask(well, 20) == apprise_sender.SENT
    assert all(SECRET not in " ".join(child.cmdline()) for child in children_of_this_process())
    processes.clear()
    gc.collect()
    assert not children_of_this_process()
    assert len(well.accepted) == 4


def children_of_this_process() -> set[psutil.Process]:
    return {
        child
        for child in psutil.Process().children()
        if apprise_sender.__name__ in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE
    }


def test_the_console_prints_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    channel = Channel(name="r/console", kind="console", receiver="r", options=Console(), settings=Receiver())
    catalog.build(channel).deliver(NOTICE, deadline_s=1)
    catalog.build(channel).deliver(RESOLVE, deadline_s=1)
    assert capsys.readouterr().out.splitlines() == [
        f"08:00:00  PAGE    {NOTICE.title} | affects auth, chat",
        f"08:01:00  OK      {NOTICE.title}",
    ]
