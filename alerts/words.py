"""What a person reads at 3 a.m.: what is wrong for whom, since when, why, and what to do first.

Order is fixed: what, where, how bad; since; impact; likely cause; what changed; first step; links. Rendered
when it happens, never when it is sent, so a value is the value at fire time.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from msgspec import Struct

from alerts.notice import Notice, NoticeKind
from alerts.rule import Severity
from checks.units import Duration

_SMS_LIMIT: Final = 160
_TITLE_LIMIT: Final = 160
_LINE_LIMIT: Final = 600
# GSM 03.38 has none of these; one of them would halve an SMS to 70 characters.
_GSM: Final = str.maketrans({"·": "-", "…": "...", "–": "-", "—": "-", "≤": "<=", "≥": ">=", "→": "->",
                             "“": '"', "”": '"', "’": "'", "`": "'", "\u00a0": " "})  # fmt: skip


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


def render(story: Story) -> Notice:
    """The notice for a story."""
    link = f"{story.external_url.rstrip('/')}/i/{story.episode}" if story.external_url else ""
    return Notice(
        kind=story.kind,
        episode=story.episode,
        env=story.env,
        alertname=story.alertname,
        component=story.component,
        severity=story.severity,
        title=_fit(_title(story), _TITLE_LIMIT),
        sms=_sms(story, link),
        body=_body(story),
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
    )


def _title(story: Story) -> str:
    env = (story.alias or story.env).upper()
    where = f"{env} · {story.component}" if story.component else env
    if story.kind is NoticeKind.RESOLVE:
        return f"{where} {_ended(story)}: {story.what}"
    prefix = {NoticeKind.REMINDER: "still ", NoticeKind.UPDATE: ""}.get(story.kind, "")
    note = f" [{story.note}]" if story.note else ""
    return f"{where} {prefix}{story.what}{note}: {story.evidence} · since {clock(story.since_s)}"


def _ended(story: Story) -> str:
    assert story.resolved_at_s is not None
    return f"resolved after {span(story.resolved_at_s - story.fired_at_s)}"


def _body(story: Story) -> tuple[tuple[str, str], ...]:
    where = story.component or "the platform"
    if story.kind is NoticeKind.RESOLVE:
        opening = f"{where} {_ended(story)} ({_REASONS.get(story.ended, story.ended)}): {story.evidence}"
    else:
        opening = f"{where} {story.what}: {story.evidence}"
    lines = [
        ("", opening),
        ("Since", f"{clock(story.since_s)} ({day(story.since_s)}), noticed {clock(story.fired_at_s)}"),
        ("Note", story.note),
        ("Affected", ", ".join(story.affected)),
        ("Also, not called for", "; ".join(story.also)),
        ("Likely cause", "; ".join(story.causes)),
        ("Changed", "; ".join(story.changes)),
        ("First step", story.first_step if story.kind is not NoticeKind.RESOLVE else ""),
    ]
    return tuple((heading, _fit(text, _LINE_LIMIT)) for heading, text in lines if text)


_REASONS: Final = {
    "recovered": "it recovered",
    "no_traffic": "no traffic any more, probes are good",
    "rule_removed": "its rule was removed",
    "target_removed": "it is no longer watched",
    "expired": "its sender stopped confirming it",
}


def _links(story: Story, link: str) -> tuple[tuple[str, str], ...]:
    links = (("Open", link), ("Runbook", story.runbook))
    return tuple((label, url) for label, url in links if url)


def _sms(story: Story, link: str) -> str:
    env = (story.alias or story.env).upper()
    head = f"{env} {story.component}".strip()
    if story.kind is NoticeKind.RESOLVE:
        head += f" OK again after {span((story.resolved_at_s or story.at_s) - story.fired_at_s)}."
        return _gsm(head, limit=_SMS_LIMIT)
    still = "still " if story.kind is NoticeKind.REMINDER else ""
    tail = f" Since {clock(story.since_s, seconds=False)}."
    if story.affected:
        tail += _gsm(f" Affects {', '.join(story.affected)}.", limit=50)
    if len(link) <= 60:
        tail += f" {link}"
    room = _SMS_LIMIT - len(tail)
    return _gsm(f"{head} {still}{story.what}: {story.evidence}", limit=room) + tail


def _gsm(text: str, *, limit: int) -> str:
    plain = text.translate(_GSM).encode("ascii", "replace").decode()
    return plain if len(plain) <= limit else plain[: limit - 2].rstrip() + ".."


def _fit(text: str, limit: int) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= limit else one_line[: limit - 1].rstrip() + "…"


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
    hours, rest = divmod(whole, 3600)
    return f"{hours} h {rest // 60} min" if rest >= 60 else str(Duration(whole)).replace("h", " h")
