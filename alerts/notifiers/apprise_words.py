"""How much of a notice each of apprise's services is given: SMS, chat and mail."""

from __future__ import annotations

from typing import Final

from alerts.notice import Notice, NoticeKind
from alerts.rule import Severity

_SHORT: Final = frozenset({
    "sns", "twilio", "vonage", "clicksend", "messagebird", "plivo", "sinch", "bulksms", "d7sms", "msg91",
    "kavenegar", "clickatell", "httpsms", "smseagle", "threema", "voipms", "popcorn",
})  # fmt: skip
_MAIL: Final = frozenset({
    "mailto", "mailtos", "ses", "sendgrid", "mailgun", "sparkpost", "smtp2go", "brevo", "resend", "o365",
    "postmark", "fastmail",
})  # fmt: skip
# Teams takes 1,000 to 1,200 characters and cuts the end, where the links are; Discord takes 2,000.
_CHAT_LIMIT: Final = 1200


def worded(notice: Notice, scheme: str) -> dict[str, str]:
    """What apprise is asked to send to a service with this URL scheme."""
    kind = "success" if notice.kind is NoticeKind.RESOLVE else "failure"
    if kind == "failure" and notice.severity is not Severity.PAGE:
        kind = "warning"
    if scheme in _SHORT:
        return {"body": notice.sms, "notify_type": kind, "body_format": "text"}
    body = full(notice) if scheme in _MAIL else chat(notice)
    return {"title": notice.title, "body": body, "notify_type": kind, "body_format": "text"}


def full(notice: Notice) -> str:
    """Everything there is to say, for mail."""
    return notice.text + _links(notice)


def chat(notice: Notice) -> str:
    """At most 1,200 characters, cut by whole lines from below; the links stay."""
    links = _links(notice)
    room = _CHAT_LIMIT - len(links)
    kept = ""
    for line in [f"{heading}: {text}" if heading else text for heading, text in notice.details]:
        if len(kept) + len(line) + 1 > room:
            kept = kept or line[: room - 1] + "…"
            break
        kept += f"{line}\n"
    return kept.rstrip("\n") + links


def _links(notice: Notice) -> str:
    again = "\n(possibly repeated)" if notice.repeated else ""
    shown = [f"\n{label}: {url}" for label, url in notice.links]
    while shown and sum(map(len, shown)) > _CHAT_LIMIT // 2:
        shown.pop()
    return "".join(shown) + again
