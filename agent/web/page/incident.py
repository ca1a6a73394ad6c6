"""`/i/…`: one incident for whoever was called: what is wrong, what was done, and two buttons."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from msgspec import Struct

from agent.web.page.html import clock, esc

_TIMELINE: Final = 100
_BLOCKS: Final = 20
STYLE: Final = (Path(__file__).parent / "incident.css").read_text(encoding="utf-8")


class Shown(Struct, frozen=True, kw_only=True):
    """An incident as its page shows it. `blocks` are (heading, text), `timeline` (wall seconds, text).

    `given` is the pass the reader came with; `writes` whether anything may be done here at all.
    """

    episode: str
    title: str
    env: str
    severity: str
    fired_s: float
    resolved_s: float | None
    acked_by: str
    acked_until_s: float
    silenced_by: str
    blocks: tuple[tuple[str, str], ...]
    links: tuple[tuple[str, str], ...]
    timeline: tuple[tuple[float, str], ...]
    may_silence: bool
    given: str = ""
    writes: bool = False


def document(shown: Shown, now_s: float, *, said: str = "") -> str:
    """The page; `said` is what came of the button that was pressed."""
    over = shown.resolved_s is not None
    forms = "" if over else _forms(shown)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="robots" content="noindex">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{esc(shown.title, 120)}</title><style>{STYLE}</style></head><body>"
        f'<p><a href="/">Status of everything</a></p><main><h1 class="ut">{esc(shown.title, 200)}</h1>'
        f"{_state(shown, now_s)}{_notice(said)}{_blocks(shown)}{forms}{_timeline(shown, now_s)}</main>"
        '<p class="soft">Times in UTC.</p></body></html>'
    )


def _notice(said: str) -> str:
    return f'<section role="status"><p class="ut">{esc(said, 400)}</p></section>' if said else ""


def _state(shown: Shown, now_s: float) -> str:
    if shown.resolved_s is not None:
        return f'<p class="good"><b>Over</b> since {clock(shown.resolved_s, now_s)}</p>'
    facts = [f'<span class="bad"><b>Open</b></span> since {clock(shown.fired_s, now_s)}']
    facts.append(f"severity {esc(shown.severity, 20)}, {esc(shown.env, 60)}")
    if shown.acked_by and now_s < shown.acked_until_s:
        facts.append(f"taken by {esc(shown.acked_by, 60)} until {clock(shown.acked_until_s, now_s)}")
    if shown.silenced_by:
        facts.append(f"silenced by {esc(shown.silenced_by, 80)}")
    return f'<p class="ut">{" · ".join(facts)}</p>'


def _blocks(shown: Shown) -> str:
    opening = "".join(f'<p class="ut">{esc(text, 700)}</p>' for heading, text in shown.blocks if not heading)
    rows = "".join(
        f"<dt>{esc(heading, 40)}</dt><dd>{esc(text, 700)}</dd>"
        for heading, text in shown.blocks[:_BLOCKS]
        if heading
    )
    links = " · ".join(
        f'<a rel="noreferrer" href="{esc(url, 500)}">{esc(label, 40)}</a>'
        for label, url in shown.links
        if url.startswith(("https://", "http://"))
    )
    facts = f"<dl>{rows}</dl>" if rows else ""
    return f"<section>{opening}{facts}{f'<p>{links}</p>' if links else ''}</section>"


def _forms(shown: Shown) -> str:
    if not shown.writes:
        return (
            '<section><p class="soft">Nothing can be done from here: this agent was given no token '
            "(agent.token in gaia.yaml).</p></section>"
        )
    taken = _form(
        shown, "ack", "Acknowledge", "Reminders and escalation stop; the alert stays open.",
        '<label for="a-author">Your name</label>'
        '<input id="a-author" name="author" required maxlength="60" autocomplete="name">'
        + _lasts("a-lasts", ("4h", "1h", "8h", "24h")),
    )  # fmt: skip
    silenced = _form(
        shown, "silence", "Silence", "Nobody is called for it; its end is still told.",
        '<label for="s-author">Your name</label>'
        '<input id="s-author" name="author" required maxlength="60" autocomplete="name">'
        '<label for="s-comment">Why</label><input id="s-comment" name="comment" required maxlength="200">'
        + _lasts("s-lasts", ("1h", "4h", "8h", "24h")),
    )  # fmt: skip
    return taken + (silenced if shown.may_silence else "")


def _form(shown: Shown, action: str, title: str, meaning: str, fields: str) -> str:
    if shown.given:
        proof = f'<input type="hidden" name="pass" value="{esc(shown.given, 80)}">'
    else:
        proof = (
            f'<label for="{action}-token">The agent\'s token</label><input id="{action}-token" '
            'name="token" type="password" required autocomplete="off">'
        )
    anchor = "take" if action == "ack" else action
    return (
        f'<section id="{anchor}"><h2>{title}</h2><p class="soft">{meaning}</p>'
        f'<form method="post" action="/i/{esc(shown.episode, 80)}/{action}">{proof}{fields}'
        f'<button type="submit">{title}</button></form></section>'
    )


def _lasts(name: str, choices: tuple[str, ...]) -> str:
    options = "".join(f"<option>{choice}</option>" for choice in choices)
    return f'<label for="{name}">For</label><select id="{name}" name="lasts">{options}</select>'


def _timeline(shown: Shown, now_s: float) -> str:
    lines = "".join(
        f'<li>{clock(at_s, now_s)} <span class="ut">{esc(text, 300)}</span></li>'
        for at_s, text in shown.timeline[-_TIMELINE:]
    )
    return f"<section><h2>What happened</h2><ol>{lines}</ol></section>" if lines else ""
