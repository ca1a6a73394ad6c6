"""Slack: one message per episode, edited in place; what happens to it goes to its thread.

Source: https://api.slack.com/methods/chat.postMessage and chat.update
"""

from __future__ import annotations

from typing import Final

import msgspec

from alerts.notice import Notice, NoticeKind
from alerts.notifiers import http
from alerts.notifiers.notifier import Delivery, NotifyError
from alerts.receiver import Slack
from alerts.rule import Severity

_TEXT_LIMIT: Final = 3000
_RETRYABLE: Final = frozenset({"ratelimited", "internal_error", "fatal_error", "service_unavailable",
                               "request_timeout"})  # fmt: skip
# Somebody deleted the message, or it may not be edited any more: what is to be said is said in a new one.
_GONE: Final = frozenset({"message_not_found", "cant_update_message", "edit_window_closed",
                          "thread_not_found"})  # fmt: skip
_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_IN_A_LINK: Final = str.maketrans({"&": "&amp;", "<": "%3C", ">": "%3E", "|": "%7C", " ": "%20"})


class _Reply(msgspec.Struct):
    ok: bool
    ts: str = ""
    error: str = ""


class SlackRefusalError(NotifyError):
    """Slack's own no, with its word for it."""

    def __init__(self, word: str, status: int) -> None:
        super().__init__(f"Slack refused: {word}", retryable=word in _RETRYABLE, status=status)
        self.word = word


class SlackNotifier:
    """One channel, by bot token or incoming webhook."""

    dedups = False

    def __init__(self, options: Slack) -> None:
        self._options = options

    def deliver(self, notice: Notice, *, deadline_s: float, ref: str | None = None) -> Delivery:
        if self._options.webhook is not None:
            body = msgspec.json.encode({"text": mrkdwn(notice)})
            answer = http.request(
                "POST",
                self._options.webhook.reveal(),
                deadline_s=deadline_s,
                body=body,
                headers={"Content-Type": "application/json"},
            )
            return Delivery(status=answer.status)
        if ref is None:
            return self._call("chat.postMessage", {"text": mrkdwn(notice)}, deadline_s)
        try:
            if notice.kind in (NoticeKind.RESOLVE, NoticeKind.UPDATE):
                self._call("chat.update", {"ts": ref, "text": mrkdwn(notice)}, deadline_s)
            said = self._call("chat.postMessage", {"thread_ts": ref, "text": thread_line(notice)}, deadline_s)
        except SlackRefusalError as refused:
            if refused.word not in _GONE:
                raise
            return self._call("chat.postMessage", {"text": mrkdwn(notice)}, deadline_s)
        return Delivery(status=said.status, ref=ref)

    def warm(self) -> None:
        http.warm()

    def _call(self, method: str, arguments: dict[str, str], deadline_s: float) -> Delivery:
        assert self._options.token is not None
        body = msgspec.json.encode({"channel": self._options.channel, "unfurl_links": False, **arguments})
        answer = http.request(
            "POST",
            f"{self._options.url.rstrip('/')}/{method}",
            deadline_s=deadline_s,
            body=body,
            headers={
                "Content-Type": "application/json; charset=utf-8",
                "Authorization": f"Bearer {self._options.token.reveal()}",
            },
        )
        try:
            reply = msgspec.json.decode(answer.body, type=_Reply)
        except msgspec.DecodeError as error:
            raise NotifyError(
                "Slack's answer is not its JSON", retryable=True, status=answer.status
            ) from error
        if not reply.ok:
            raise SlackRefusalError(reply.error, answer.status)
        return Delivery(status=answer.status, ref=reply.ts or None)


def mrkdwn(notice: Notice) -> str:
    """The notice in Slack's own markup; `& < >` of any field cannot become markup. Links are never cut."""
    lines = [f"{_icon(notice)} *{_escaped(notice.title)}*"]
    lines += [
        f"*{heading}* {_escaped(text)}" if heading else _escaped(text) for heading, text in notice.details
    ]
    if notice.repeated:
        lines.append("_possibly repeated_")
    links = _links(notice)
    room = _TEXT_LIMIT - len(links)
    text = "\n".join(lines)
    return (text if len(text) <= room else text[: room - 1] + "…") + links


def thread_line(notice: Notice) -> str:
    """What happened, for the thread under the message."""
    links = _links(notice) if notice.kind is NoticeKind.REMINDER else ""
    again = " _possibly repeated_" if notice.repeated else ""
    return f"{_icon(notice)} {_escaped(notice.title)}{again}{links}"


def _icon(notice: Notice) -> str:
    if notice.kind in (NoticeKind.RESOLVE, NoticeKind.TEST, NoticeKind.REPORT):
        return ":white_check_mark:" if notice.well else ":information_source:"
    return ":rotating_light:" if notice.severity is Severity.PAGE else ":warning:"


def _links(notice: Notice) -> str:
    shown = [
        f"<{url.translate(_IN_A_LINK)}|{_escaped(label)}>" for label, url in notice.links if len(url) < 500
    ]
    return "\n" + " · ".join(shown) if shown else ""


def _escaped(text: str) -> str:
    return text.translate(_ESCAPES)
