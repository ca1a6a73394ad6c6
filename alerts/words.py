"""What a person reads at 3 a.m.: what is wrong for whom, since when, why, and what to do first.

Order is fixed: what, where, how bad; since; impact; likely cause; what changed; first step; who else knows;
links. Rendered when it happens, never when it is sent, so a value is the value at fire time.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from alerts.notice import NOT_SEEN_WELL, Notice, NoticeKind
from alerts.rule import Severity

_SMS_LIMIT: Final = 160
_SMS_ENOUGH: Final = 80
_TITLE_LIMIT: Final = 160
_LINE_LIMIT: Final = 600
# GSM 03.38 lacks some of these; the others are in its second table, where each takes the room of two.
_GSM: Final = str.maketrans({"·": "-", "…": "...", "–": "-", "—": "-", "≤": "<=", "≥": ">=", "→": "->",
                             "“": '"', "”": '"', "’": "'", "`": "'", "\u00a0": " ", "[": "(", "]": ")",
                             "{": "(", "}": ")", "\\": "/", "|": "/", "~": "-", "^": "'"})  # fmt: skip
_REASONS: Final = {
    "recovered": "it recovered",
    "no_traffic": "no traffic any more, probes are good",
    "rule_removed": "its rule was removed",
    "target_removed": "it is no longer watched",
    "expired": "its sender stopped confirming it",
}


class Story(Struct, frozen=True, kw_only=True):
    """All facts of one notice, gathered by the herald."""

    kind: NoticeKind
    episode: str
    env: str
    alias: str
    alertname: str
    component: str
    severity: Severity
    labels: dict[str, str]
    what: str
    evidence: str
    at_s: float
    fired_at_s: float
    since_s: float
    affected: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    first_step: str = ""
    runbook: str = ""
    external_url: str = ""
    value: float | None = None
    threshold: float | None = None
    resolved_at_s: float | None = None
    ended: str = ""
    note: str = ""
    limit: str = ""
    called: tuple[str, ...] = ()
    example: str = ""
    key: str = ""


def render(story: Story, zone: str | None = None) -> Notice:
    """The notice for a story; with `zone` the reader's time of day stands beside UTC."""
    link = f"{story.external_url.rstrip('/')}/i/{story.episode}" if story.external_url else ""
    return Notice(
        kind=story.kind,
        episode=story.episode,
        env=story.env,
        alertname=story.alertname,
        component=story.component,
        severity=story.severity,
        title=_fit(_title(story, zone), _TITLE_LIMIT),
        sms=_sms(story, link),
        body=_body(story, zone),
        labels=story.labels,
        at_s=story.at_s,
        fired_at_s=story.fired_at_s,
        resolved_at_s=story.resolved_at_s,
        ended=story.ended or None,
        value=story.value,
        threshold=story.threshold,
        affected=story.affected,
        also=story.also,
        links=_links(story, link),
        key=story.key,
    )


def _env(story: Story) -> str:
    return (story.alias or story.env).upper()


def _title(story: Story, zone: str | None) -> str:
    env = _env(story)
    if story.kind is NoticeKind.RESOLVE:
        return f"{env} · {_over(story)}: {_said(story, story.what)} · {_after(story)}"
    # What the note explains further stands in the body.
    note = f", {story.note.partition(': ')[0]}" if story.note else ""
    if story.kind is NoticeKind.REMINDER:
        said = f"{_said(story, _still(story.what))} after {span(story.at_s - story.fired_at_s)}{note}"
        return f"{env} · {said}: {story.evidence}"
    return f"{env} · {_said(story, story.what)}{note}: {story.evidence} · since {_shown(story.since_s, zone)}"


def _said(story: Story, what: str) -> str:
    """`postgres is down`; of the platform as a whole just what it is that is wrong."""
    return f"{story.component} {what}" if story.component else what.removeprefix("has ")


def _over(story: Story) -> str:
    return "closed" if story.ended in NOT_SEEN_WELL else "resolved"


def _after(story: Story) -> str:
    reason = _REASONS.get(story.ended, story.ended)
    lasted = span((story.resolved_at_s or story.at_s) - story.fired_at_s)
    return f"after {lasted}, {reason}" if reason else f"after {lasted}"


def _still(what: str) -> str:
    return f"is still {what.removeprefix('is ')}" if what.startswith("is ") else f"still {what}"


def _body(story: Story, zone: str | None) -> tuple[tuple[str, str], ...]:
    over = story.kind is NoticeKind.RESOLVE
    if over:
        now = f". Now: {story.evidence}" if story.evidence else ""
        opening = f"{_said(story, story.what)}: {_over(story)} {_after(story)}{now}"
    else:
        what = _still(story.what) if story.kind is NoticeKind.REMINDER else story.what
        opening = f"{_said(story, what)}: {story.evidence}"
    noticed = f", noticed {clock(story.fired_at_s)}" if story.fired_at_s - story.since_s >= 1 else ""
    lines = [
        ("", opening),
        ("Since", f"{_shown(story.since_s, zone)} on {day(story.since_s)}{noticed}"),
        ("For example", story.example),
        ("Limit", "" if over else story.limit),
        ("Note", story.note),
        ("Affected", "" if over else ", ".join(story.affected)),
        ("Still wrong" if over else "Also, not called for", "; ".join(story.also)),
        ("Likely cause", "" if over else "; ".join(story.causes)),
        ("Changed", "" if over else "; ".join(story.changes)),
        ("First step", "" if over else story.first_step),
        ("Called", ", ".join(story.called)),
    ]
    return tuple((heading, _fit(text, _LINE_LIMIT)) for heading, text in lines if text)


def _links(story: Story, link: str) -> tuple[tuple[str, str], ...]:
    links = (("Open", link), ("Runbook", story.runbook))
    return tuple((label, url) for label, url in links if url)


def _sms(story: Story, link: str) -> str:
    """160 places of GSM-7: what it is comes first and keeps half of them, whatever else there is to say."""
    env = _env(story)
    if story.kind is NoticeKind.RESOLVE:
        said = _said(story, story.what)
        subject = gsm(f"{env} {_over(story).upper()} {said}", limit=_SMS_ENOUGH + 20)
        return gsm(f"{subject}, {_after(story)}.", limit=_SMS_LIMIT)
    what = _still(story.what) if story.kind is NoticeKind.REMINDER else story.what
    note = f", {story.note.partition(': ')[0]}" if story.note else ""
    since, tail = f" Since {clock(story.since_s, seconds=False)}.", ""
    affects = gsm(f"Affects {', '.join(story.affected)}.", limit=50) if story.affected else ""
    # A link to the agent's own loopback leads nowhere from a telephone.
    for part in ("" if "://127.0.0.1" in link or "://localhost" in link else link, affects):
        if part and septets(since + tail) + septets(part) < _SMS_LIMIT - _SMS_ENOUGH:
            tail = f" {part}{tail}"
    tail = since + tail
    words = f"{env} {_said(story, what)}{note}: {story.evidence}".rstrip(".: ")
    said = gsm(words, limit=_SMS_LIMIT - 1 - septets(tail))
    return f"{said}{'' if said.endswith('.') else '.'}{tail}"


def gsm(text: str, *, limit: int) -> str:
    """The text in characters that take one place each in an SMS, and at most `limit` of them."""
    plain = " ".join(text.translate(_GSM).encode("ascii", "replace").decode().split())
    return plain if len(plain) <= limit else plain[: max(0, limit - 2)].rstrip() + ".."


def septets(text: str) -> int:
    """How many of an SMS's 160 places a text takes: those of GSM 03.38's second table take two."""
    return len(text) + sum(text.count(one) for one in "^{}\\[~]|")


def _fit(text: str, limit: int) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= limit else one_line[: limit - 1].rstrip() + "…"


def _shown(at_s: float, zone: str | None) -> str:
    return f"{clock(at_s)} ({local(at_s, zone)})" if zone else clock(at_s)


def local(at_s: float, zone: str) -> str:
    """Time of day where the reader is, `04:12 Berlin`. Raises ValueError for a zone that is not known."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        moment = datetime.fromtimestamp(at_s, tz=ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f'"{zone}" is not a time zone: write one such as Europe/Berlin or UTC') from error
    return f"{moment:%H:%M} {zone.rpartition('/')[2].replace('_', ' ')}"


def clock(at_s: float, *, seconds: bool = True) -> str:
    """Time of day in UTC, `03:12:20 UTC`, or `03:12Z` when short."""
    moment = datetime.fromtimestamp(at_s, tz=UTC)
    return f"{moment:%H:%M:%S} UTC" if seconds else f"{moment:%H:%MZ}"


def day(at_s: float) -> str:
    """The date in UTC."""
    return f"{datetime.fromtimestamp(at_s, tz=UTC):%Y-%m-%d}"


def span(seconds: float) -> str:
    """A length of time as people say it: two parts at most."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{minutes} min"
    if whole < 86400:
        hours, minutes = divmod(whole // 60, 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(whole // 3600, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
