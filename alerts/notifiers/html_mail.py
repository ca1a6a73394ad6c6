"""The HTML part of a mail: tables and text only, nothing that is fetched, every field escaped."""

from __future__ import annotations

from html import escape
from typing import Final

from alerts.notice import Notice, NoticeKind
from alerts.rule import Severity

# Dark enough on white and light enough on black to be read where a mail reader turns colours round.
_DOWN, _DEGRADED, _UP, _QUIET = "#C0303A", "#9A6800", "#0F7F73", "#6B6C64"
_FONT: Final = "font-family:system-ui,-apple-system,'Segoe UI',sans-serif;font-size:15px;line-height:1.45"
_CELL: Final = "padding:3px 12px 3px 0;vertical-align:top"


def document(notice: Notice) -> str:
    """The whole document."""
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="color-scheme" content="light dark"><meta name="supported-color-schemes" '
        f'content="light dark"><title>{escape(notice.title)}</title></head>'
    )
    return (
        f'{head}<body style="{_FONT};margin:16px">{_headline(notice)}{_blocks(notice)}{_links(notice)}'
        f"{_why(notice)}</body></html>\n"
    )


def _headline(notice: Notice) -> str:
    return (
        '<table role="presentation" cellpadding="0" cellspacing="0"><tr>'
        f'<td style="border-left:6px solid {_colour(notice)};padding:2px 0 2px 12px;font-size:18px;'
        f'font-weight:650">{escape(notice.title)}</td></tr></table>'
    )


def _colour(notice: Notice) -> str:
    if notice.kind in (NoticeKind.RESOLVE, NoticeKind.TEST, NoticeKind.REPORT):
        return _UP if notice.well else _QUIET
    return _DOWN if notice.severity is Severity.PAGE else _DEGRADED


def _blocks(notice: Notice) -> str:
    opening = "".join(f"<p>{escape(text)}</p>" for heading, text in notice.body if not heading)
    rows = "".join(
        f'<tr><th scope="row" style="{_CELL};text-align:left;font-weight:600">{escape(heading)}</th>'
        f'<td style="{_CELL}">{escape(text)}</td></tr>'
        for heading, text in notice.body
        if heading
    )
    return opening + (f'<table cellpadding="0" cellspacing="0">{rows}</table>' if rows else "")


def _links(notice: Notice) -> str:
    shown = [
        f'<a href="{escape(url)}" style="font-weight:600">{escape(label)}</a>'
        for label, url in notice.links
        if url.startswith(("https://", "http://"))
    ]
    return f"<p>{' &nbsp;·&nbsp; '.join(shown)}</p>" if shown else ""


def _why(notice: Notice) -> str:
    again = " This message is possibly repeated." if notice.repeated else ""
    said = f"You get this because gaia.yaml calls you for {notice.severity} alerts of {notice.env}.{again}"
    return f'<p style="color:{_QUIET};font-size:13px">{escape(said)}</p>'
