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
_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class _Reply(msgspec.Struct):
    ok: bool
    ts: str = ""
    error: str = ""


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
        if notice.kind in (NoticeKind.RESOLVE, NoticeKind.UPDATE):
            self._call("chat.update", {"ts": ref, "text": mrkdwn(notice)}, deadline_s)
        said = self._call("chat.postMessage", {"thread_ts": ref, "text": _escaped(notice.title)}, deadline_s)
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
            raise NotifyError(
                f"Slack refused: {reply.error}", retryable=reply.error in _RETRYABLE, status=answer.status
            )
        return Delivery(status=answer.status, ref=reply.ts or None)


def mrkdwn(notice: Notice) -> str:
    """The notice in Slack's own markup; `& < >` of any field cannot become markup."""
    if notice.kind is NoticeKind.RESOLVE:
        icon = ":white_check_mark:"
    else:
        icon = ":rotating_light:" if notice.severity is Severity.PAGE else ":warning:"
    lines = [f"{icon} *{_escaped(notice.title)}*"]
    lines += [f"*{heading}* {_escaped(text)}" if heading else _escaped(text) for heading, text in notice.body]
    if notice.links:
        lines.append(" · ".join(f"<{url}|{_escaped(label)}>" for label, url in notice.links))
    if notice.repeated:
        lines.append("_possibly repeated_")
    return "\n".join(lines)[:_TEXT_LIMIT]


def _escaped(text: str) -> str:
    return text.translate(_ESCAPES)
