"""The noise report as people read it, and as a notice for a receiver."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from alerts.noise import NoiseReport, RuleNoise
from alerts.notice import Notice, NoticeKind
from alerts.rule import Severity
from alerts.words import day, gsm, span

_LISTED: Final = 10
_TITLE_LIMIT: Final = 160


def headline(report: NoiseReport) -> str:
    """`2026-11-20 to 2026-11-27: 12 pages and 30 messages, 40% acted on`."""
    calls = report.pages + report.chats
    period = f"{day(report.from_s)} to {day(report.to_s)}"
    if not calls:
        return f"{period}: nobody was called"
    share = round(100 * report.acted / calls)
    return (
        f"{period}: {_count(report.pages, 'page')} and {_count(report.chats, 'message')}, {share}% acted on"
    )


def lines(report: NoiseReport) -> Iterator[str]:
    """One line a rule, the noisiest first, its suggestion below; then those that never called."""
    for one in report.rules:
        yield _line(one)
        if one.suggestion:
            yield f"  try {one.suggestion}: gaia backtest --rule {one.alertname}"
    if report.never:
        yield f"never called in this time: {', '.join(report.never)}"


def notice(report: NoiseReport, *, alias: str, episode: str, now_s: float) -> Notice:
    """The report as a message; it wakes nobody."""
    title = f"{(alias or report.env).upper()} · {headline(report)}"[:_TITLE_LIMIT]
    said = list(lines(report))
    shown = said[:_LISTED] + ([f"and {len(said) - _LISTED} more: gaia report"] if len(said) > _LISTED else [])
    return Notice(
        kind=NoticeKind.REPORT,
        episode=episode,
        env=report.env,
        alertname="noise_report",
        component="",
        severity=Severity.CHAT,
        title=title,
        sms=gsm(title, limit=_TITLE_LIMIT),
        body=(("", headline(report)), *(("", line) for line in shown)),
        labels={"alertname": "noise_report", "env": report.env, "severity": "chat"},
        at_s=now_s,
        fired_at_s=now_s,
    )


def _line(one: RuleNoise) -> str:
    facts = [f"{one.acted} acted on"]
    if one.at_night:
        facts.append(f"{one.at_night} at night")
    if one.soon_over:
        facts.append(f"{one.soon_over} over by themselves within 5 min")
    if one.median_taken_s is not None:
        facts.append(f"taken after {span(one.median_taken_s)}")
    if one.median_lasted_s is not None:
        facts.append(f"lasting {span(one.median_lasted_s)}")
    where = f" ({', '.join(one.components[:4])}{', ...' if len(one.components) > 4 else ''})"
    noun = "page" if one.severity == "page" else "message"
    return f"{one.alertname}{where if one.components else ''}: {_count(one.calls, noun)}, {', '.join(facts)}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
