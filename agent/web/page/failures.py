"""`/failures`: the last failures of one target, each with its phases and its evidence."""

from __future__ import annotations

from typing import Final

from agent.web.answers import FailureAnswer, failure_answer
from agent.web.board_api import target_key
from agent.web.exchange import Asked
from agent.web.overview import lasting
from agent.web.page.html import clock, esc
from agent.web.page.marks import WORDS, glyph, symbols
from agent.web.page.rows import measured, proof
from agent.web.source import Source
from checks.target import TargetKey

_MOST: Final = 50


async def failures_document(source: Source, asked: Asked, *, style: str) -> str:
    """The whole page of the target that the address names. Raises Refused when there is none."""
    key = target_key(source, asked)
    now_s = source.now_s()
    kept = [failure_answer(failure) for failure in await source.failures(key, limit=_MOST)]
    listed = "".join(_failure(failure, now_s) for failure in kept)
    nothing = '<p class="muted">No failure of it is kept.</p>'
    name = esc(str(key), 200)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta name="robots" content="noindex"><title>Failures of {name}</title><style>{style}</style>'
        f'</head><body>{symbols()}<header class="top"><div class="wrap"><a class="brand" href="/">'
        f'<span class="ut">{esc(source.platform, 60)} status</span></a></div></header>'
        '<main id="main" class="wrap" tabindex="-1"><section class="card" id="failures"><header>'
        f'<h2 class="ut">Last failures of {name}</h2>{_now(source, key, now_s)}</header>'
        f'<div class="body">{listed or nothing}</div></section></main>'
        '<footer><div class="wrap"><a href="/">status</a><span>newest first, times in UTC</span></div>'
        "</footer>"
        "</body></html>"
    )


def _now(source: Source, key: TargetKey, now_s: float) -> str:
    row = source.board.row(key)
    if row is None:
        return ""
    shown = row.shown(now_s)
    return f'<span class="small">{glyph(shown.state)} {WORDS[shown.state]} now</span>'


def _failure(failure: FailureAnswer, now_s: float) -> str:
    finding = failure.finding
    facts = [("Says", esc(finding.message))]
    if failure.looks > 1:
        lasted = lasting(failure.at_s - failure.first_s)
        facts.append(("Looks", f"{failure.looks} in {lasted}, the last at {clock(failure.at_s, now_s)} UTC"))
    facts += measured(finding.phases, finding.latency_s, None)
    facts += proof(finding.evidence)
    listed = "".join(f'<dt>{name}</dt><dd class="ut">{value}</dd>' for name, value in facts)
    return (
        f'<section class="chk"><h4>{glyph(finding.state)} {clock(failure.first_s, now_s)} UTC '
        f'<span class="x-{finding.state.value}">{WORDS[finding.state]}</span> '
        f'<span class="faint ut">{esc(finding.reason.value)}</span></h4>'
        f'<dl class="kv">{listed}</dl></section>'
    )
