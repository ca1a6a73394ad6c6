"""Many notices as one message, when a channel's rate allows no more: nothing is dropped, only merged."""

from __future__ import annotations

from typing import Final

from alerts.notice import Notice, NoticeKind
from alerts.rule import Severity

_LISTED: Final = 20


def digest_of(notices: list[Notice], number: int) -> Notice:
    """One message for several of the same sort; `number` makes its key."""
    first = notices[0]
    over = first.kind is NoticeKind.RESOLVE
    severity = min((one.severity for one in notices), key=list(Severity).index)
    places = tuple(dict.fromkeys(one.component for one in notices if one.component))
    what = "over" if over else "wrong"
    title = f"{first.env.upper()} · {len(notices)} things {what}: {', '.join(places[:6])}"
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
        title=title[:160],
        sms=title.replace("·", "-").encode("ascii", "replace").decode()[:160],
        body=(("", title), *lines),
        labels={"alertname": "digest", "env": first.env, "severity": severity.value},
        at_s=first.at_s,
        fired_at_s=min(one.fired_at_s for one in notices),
        resolved_at_s=first.resolved_at_s,
        affected=places[:_LISTED],
        links=first.links[:1],
        also=tuple(one.episode for one in notices),
    )
