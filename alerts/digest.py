"""Many notices as one message, when a channel's rate allows no more: nothing is dropped, only merged."""

from __future__ import annotations

from typing import Final

import msgspec

from alerts.notice import Notice, NoticeKind
from alerts.rule import Severity
from alerts.words import clock, gsm

_LISTED: Final = 20
_LIMIT: Final = 160


def digest_of(notices: list[Notice], number: int) -> Notice:
    """One message for several of the same sort; `number` makes its key."""
    first = notices[0]
    over = first.kind is NoticeKind.RESOLVE
    severity = min((one.severity for one in notices), key=list(Severity).index)
    places = tuple(dict.fromkeys(one.component for one in notices if one.component))
    what = "over" if over else "wrong"
    title = f"{_env(first)} · {len(notices)} things {what}: {', '.join(places[:6])}"
    if len(places) > 6:
        title += f" and {len(places) - 6} more"
    lines = [("", one.title) for one in notices[:_LISTED]]
    if len(notices) > _LISTED:
        lines.append(("", f"and {len(notices) - _LISTED} more"))
    return Notice(
        kind=first.kind,
        episode=f"digest:{number}",
        env=first.env,
        alertname="digest",
        component="",
        severity=severity,
        title=title[:_LIMIT],
        sms=gsm(title, limit=_LIMIT),
        body=(("", title), *lines),
        labels={"alertname": "digest", "env": first.env, "severity": severity.value},
        at_s=first.at_s,
        fired_at_s=min(one.fired_at_s for one in notices),
        resolved_at_s=first.resolved_at_s,
        affected=places[:_LISTED],
        links=tuple((label, f"{url.partition('/i/')[0]}/") for label, url in first.links[:1] if "/i/" in url),
        also=tuple(one.episode for one in notices),
        merged=tuple(notices),
    )


def belated(notice: Notice) -> Notice:
    """The end of an episode whose beginning never got through: one message that says both."""
    late = f"the call at {clock(notice.fired_at_s)} did not get through"
    return msgspec.structs.replace(
        notice,
        title=f"{notice.title[: _LIMIT - len(late) - 3]} ({late})",
        sms=gsm(f"{notice.sms} {late[0].upper()}{late[1:]}.", limit=_LIMIT),
        body=(*notice.body, ("Note", late)),
    )


def _env(notice: Notice) -> str:
    """The environment as titles call it: its alias where it has one."""
    head, dot, _ = notice.title.partition(" · ")
    return head if dot else notice.env.upper()
