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
from email.message import EmailMessage
from html.parser import HTMLParser

import msgspec
import psutil
import pytest

from alerts.channel import Channel, Options
from alerts.notice import Notice, NoticeKind
from alerts.notifiers import apprise_sender, catalog
from alerts.notifiers.apprise import AppriseProcess
from alerts.notifiers.apprise_words import chat, full
from alerts.notifiers.notifier import Notifier, NotifyError
from alerts.notifiers.slack import mrkdwn
from alerts.notifiers.smtp import message
from alerts.receiver import Alertmanager, Console, Opsgenie, Pagerduty, Receiver, Slack, Smtp, Webhook
from alerts.rule import Severity
from checks.secret import Secret
from tests.alerts.receivers import Inbox, Mood, closed_port, http_receiver, smtp_receiver
from tests.alerts.slack_server import Workspace, slack_server

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
REMINDER = msgspec.structs.replace(NOTICE, kind=NoticeKind.REMINDER, at_s=NOTICE.at_s + 30)

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


class Tags(HTMLParser):
    """Which elements there are, and where links lead."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.links += [value for name, value in attrs if name in ("href", "src")]


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
@pytest.mark.parametrize("kind", KINDS)
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


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("pagerduty", ["/v2/enqueue", "/v2/enqueue"]),
        ("opsgenie", ["/v2/alerts", "/v2/alerts/test%3A1/close?identifierType=alias"]),
    ],
)
def test_a_test_leaves_no_incident_behind_and_a_report_makes_none(
    kind: str, sent: list[str], stack: ExitStack
) -> None:
    inbox = _inbox(stack, kind)
    notifier = _notifier(kind, inbox.url, 0)
    test = msgspec.structs.replace(NOTICE, kind=NoticeKind.TEST, episode="test:1")
    notifier.deliver(test, deadline_s=5)
    notifier.deliver(msgspec.structs.replace(test, kind=NoticeKind.REPORT), deadline_s=5)
    assert [request.path for request in inbox.accepted] == sent
    if kind == "pagerduty":
        actions = [request.json["event_action"] for request in inbox.accepted]
        assert actions == ["trigger", "resolve"]


def _slack(workspace: Workspace) -> Notifier:
    options = Slack(token=Secret(SECRET), channel="#ops", url=workspace.url)
    return catalog.build(
        Channel(name="r/slack", kind="slack", receiver="r", options=options, settings=Receiver())
    )


def test_slack_has_one_message_per_incident_edited_with_its_story_in_the_thread() -> None:
    with slack_server() as workspace:
        notifier = _slack(workspace)
        ref = notifier.deliver(NOTICE, deadline_s=5).ref
        notifier.deliver(REMINDER, deadline_s=5, ref=ref)
        # A fresh object: nothing may depend on what an earlier process remembers.
        _slack(workspace).deliver(RESOLVE, deadline_s=5, ref=ref)
    (message,) = workspace.messages.values()
    assert message.edits == 1
    assert message.text.startswith(":white_check_mark: ")
    assert "&lt;there&gt; &amp; elsewhere" in message.text
    assert [line.split(" ")[0] for line in message.thread] == [":rotating_light:", ":white_check_mark:"]


def test_slack_says_the_end_in_a_new_message_when_somebody_deleted_the_first() -> None:
    with slack_server() as workspace:
        notifier = _slack(workspace)
        ref = notifier.deliver(NOTICE, deadline_s=5).ref
        workspace.messages.clear()
        again = notifier.deliver(RESOLVE, deadline_s=5, ref=ref)
    (message,) = workspace.messages.values()
    assert message.text.startswith(":white_check_mark: ")
    assert again.ref in workspace.messages


def test_slack_links_are_never_cut_and_cannot_be_forged() -> None:
    hostile = "https://example.org/a|Runbook> <!channel"
    links = (("Acknowledge", "https://gaia.example.org/i/1?pass=2"), ("Runbook", hostile))
    text = mrkdwn(msgspec.structs.replace(NOTICE, body=(("", "x" * 5000),), links=links))
    assert len(text) <= 3000
    assert text.endswith(
        "<https://gaia.example.org/i/1?pass=2|Acknowledge> · "
        "<https://example.org/a%7CRunbook%3E%20%3C!channel|Runbook>"
    )


def test_alertmanager_gets_identity_as_labels_and_an_end(stack: ExitStack) -> None:
    inbox = _inbox(stack, "alertmanager")
    _notifier("alertmanager", inbox.url, 0).deliver(NOTICE, deadline_s=5)
    request = inbox.accepted[0]
    assert request.path == "/api/v2/alerts"
    (alert,) = request.json
    assert alert["labels"] == NOTICE.labels
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


def _mail(notice: Notice) -> EmailMessage:
    options = Smtp(host="127.0.0.1", to=("a@example.org",), sender="gaia@example.org")
    return message(notice, options, None)


def test_mail_says_it_in_text_first_and_then_in_tables_of_nothing_but_text() -> None:
    mail = _mail(NOTICE)
    plain, rich = mail.iter_parts()
    assert (plain.get_content_type(), rich.get_content_type()) == ("text/plain", "text/html")
    assert "Runbook: https://example.org/pg" in plain.get_content()
    found = Tags()
    found.feed(rich.get_content())
    assert found.names <= {"html", "head", "meta", "title", "body", "table", "tr", "td", "th", "p", "a"}
    assert found.links == ["http://127.0.0.1:9877/i/1", "https://example.org/pg"]
    assert "&lt;there&gt; &amp; elsewhere" in rich.get_content()


def test_a_mails_fields_cannot_become_headers_or_markup() -> None:
    hostile = msgspec.structs.replace(
        NOTICE,
        title="PROD · svc\r\nBcc: all@example.org <img src=x>",
        body=(("", "<script>alert(1)</script>"), ("<b>", '"><a href="javascript:x">')),
        links=(("Runbook", "javascript:alert(1)"),),
    )
    mail = _mail(hostile)
    assert mail["Bcc"] is None
    assert mail["Subject"] == "[PROD page] svc Bcc: all@example.org <img src=x>"
    rich = list(mail.iter_parts())[1].get_content()
    found = Tags()
    found.feed(rich)
    assert "script" not in found.names
    assert "img" not in found.names
    assert found.links == []


def test_apprise_gets_words_of_the_right_size_and_no_foreign_picture(stack: ExitStack) -> None:
    inbox = _inbox(stack, "apprise")
    _notifier("apprise", inbox.url, 0).deliver(NOTICE, deadline_s=5)
    body = inbox.accepted[0].json
    assert (body["type"], body["title"]) == ("failure", NOTICE.title)
    assert "Runbook: https://example.org/pg" in body["message"]


def test_apprise_chat_is_cut_by_lines_and_keeps_its_links_and_mail_is_whole() -> None:
    long = msgspec.structs.replace(NOTICE, body=tuple(("Cause", f"{number} " * 50) for number in range(30)))
    assert len(chat(long)) <= 1200
    assert chat(long).endswith("Open: http://127.0.0.1:9877/i/1\nRunbook: https://example.org/pg")
    assert len(full(long)) > 4000
    one_line = msgspec.structs.replace(NOTICE, body=(("", "x" * 5000),))
    assert len(chat(one_line)) <= 1200
    assert "…\nOpen: " in chat(one_line)


def test_one_alertmanager_that_hangs_delays_no_other(stack: ExitStack) -> None:
    hung, well = _inbox(stack, "alertmanager", Mood.HANGS), _inbox(stack, "alertmanager")
    notifier = catalog.build(
        Channel(
            name="r/alertmanager", kind="alertmanager", receiver="r", settings=Receiver(),
            options=Alertmanager(urls=(Secret(hung.url), Secret(well.url))),
        )
    )  # fmt: skip
    assert notifier.deliver(NOTICE, deadline_s=5).status == 200
    assert len(well.accepted) == 1


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
