"""The whole status page, from an overview of the platform."""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import urlencode

from msgspec import Struct

from agent.web.overview import WELL, Component, Environment, Overview, traffic
from agent.web.page.alert_cards import alerts_section
from agent.web.page.asides import agent_itself, changes, dependencies, lately, matrix
from agent.web.page.html import clock, esc
from agent.web.page.marks import WORDS, glyph, icon, symbols, wall
from agent.web.page.rows import LEGEND, component_row
from agent.web.source import Source
from agent.web.verdict import Sentence
from checks.finding import SEVERITY, State

PAGE_ROWS: Final = 100
_ROWS_A_TURN: Final = 10
_COLUMNS: Final = ("Component", "Last 90 looks", "Latency, fixed scale", "Latency", "Requests", "Errors")


class View(Struct, frozen=True, kw_only=True):
    """What the reader chose to see; all of it is in the address."""

    env: str = ""
    problems: bool = False
    find: str = ""
    after: int = 0

    def link(self, **changed: str) -> str:
        """The address of this view with some of it changed."""
        words = {"env": self.env, "show": "problems" if self.problems else "", "q": self.find}
        words.update(changed)
        query = urlencode({name: value for name, value in words.items() if value})
        return esc(f"/?{query}#comp" if query else "/#comp", 400)


async def body(source: Source, overview: Overview, said: Sentence, view: View) -> str:
    """Everything between header and footer that changes with time."""
    agent = source.agent()
    rows = await _components(source, overview, view)
    first = next((part for part in overview.environments if part.info.name == view.env), None)
    first = first or next((part for part in overview.environments if part.components), None)
    aside = (
        matrix(overview)
        + (dependencies(first) if first is not None else "")
        + lately(source.board.events(), overview.now_s)
        + changes(source.changes(), overview)
        + agent_itself(agent, overview)
    )
    count = len(overview.firing)
    title = f"({count}) " if count else ""
    return (
        f'<div id="view" data-state="{said.state.value}" data-seq="{overview.seq}" '
        f'data-icon="{icon(said.state)}" '
        f'data-title="{title}{esc(overview.platform, 60)} status" data-alerts="{count}">'
        f"{_verdict(overview, said)}"
        f'<div class="grid"><div class="col">{alerts_section(overview)}{rows}</div>'
        f'<div class="col">{aside}</div></div></div>'
    )


def whole(inside: str, overview: Overview, said: Sentence, *, style: str, script: str) -> str:
    """The document around it."""
    platform = esc(overview.platform, 60)
    count = len(overview.firing)
    badge = (
        f'<span class="n" id="n-alerts">{count}</span>'
        if count
        else '<span class="n" id="n-alerts" hidden></span>'
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="robots" content="noindex">'
        f"<title>{'(' + str(count) + ') ' if count else ''}{platform} status</title>"
        f'<link rel="icon" id="fav" href="{icon(said.state)}"><style>{style}</style>'
        '<noscript><meta http-equiv="refresh" content="15"></noscript></head><body>'
        '<a class="skip" href="#main">Skip to the verdict</a>'
        f'{symbols()}<header class="top"><div class="wrap"><a class="brand" href="/">{_PULSE}'
        f'<span class="ut">{platform} status</span></a><nav class="nav" aria-label="Sections">'
        f'<a href="#alerts">Alerts{badge}</a><a href="#comp">Components</a>'
        '<a href="#changes">Changes</a><a href="#agent">Agent</a></nav>'
        f'<div class="tools"><span class="live" id="live"><i></i><span id="live-t">As of</span> '
        f'<span id="live-a">{clock(overview.now_s, overview.now_s)} UTC</span></span></div></div></header>'
        '<div class="stale" role="status"><div class="wrap">The agent has not been heard for '
        '<b id="lost-for"></b>. '
        "What follows is the last known state, not the current one.</div></div>"
        f'<main id="main" class="wrap" tabindex="-1">{inside}</main>'
        '<footer><div class="wrap"><a href="/api/v1/status">status.json</a><a href="/metrics">metrics</a>'
        '<a href="/api/v1/openapi.json">API</a><span>times in UTC</span></div></footer>'
        '<div class="vh" id="polite" role="status" aria-live="polite"></div>'
        f"<script>{script}</script></body></html>"
    )


def _verdict(overview: Overview, said: Sentence) -> str:
    environments = "".join(
        f'<div><dt class="ut">{esc(environment.info.name, 40)}</dt><dd>{glyph(environment.state)}'
        f"{environment.states.get(State.UP, 0)} of {len(environment.components)} up</dd>"
        f"<dd>{_rest(environment)}</dd></div>"
        for environment in overview.environments
        if environment.components
    )
    return (
        f'<div class="verdict">{glyph(said.state, " big")}<div><h1 class="ut">'
        f'<span class="vh">{WORDS[said.state]}: </span>{esc(said.headline, 160)}</h1>'
        f'<p class="ut">{esc(said.detail, 700)}</p></div>'
        f'<dl class="envs">{environments}</dl></div>'
    )


def _rest(environment: Environment) -> str:
    words = [
        f"{count} {WORDS[state].lower()}"
        for state in SEVERITY
        if state is not State.UP and (count := environment.states.get(state, 0))
    ]
    return ", ".join(words) or ("calls people" if environment.info.pages else "calls nobody")


async def _components(source: Source, overview: Overview, view: View) -> str:
    chosen = [part for part in overview.environments if view.env in ("", part.info.name)]
    found = [
        component
        for environment in chosen
        for component in environment.components
        if (not view.problems or component.state not in WELL)
        and view.find.lower() in component.service.lower()
    ]
    if not overview.targets:
        return _nothing()
    shown = found[view.after : view.after + PAGE_ROWS]
    parts: list[str] = []
    env = None
    for index, component in enumerate(shown):
        if index % _ROWS_A_TURN == _ROWS_A_TURN - 1:
            await asyncio.sleep(0)
        if component.env != env:
            parts.append(("</section>" if env is not None else "") + _environment_head(component, chosen))
            env = component.env
        parts.append(component_row(component, traffic(source, component), overview.now_s))
    parts.append("</section>" if shown else '<p class="nores">No component matches.</p>')
    heads = "".join(
        f"<div{' class=r' if index > 2 else ''}>{name}</div>" for index, name in enumerate(_COLUMNS)
    )
    return (
        '<section class="card comp" id="comp"><header><h2>Components</h2>'
        f'<span class="small muted">{_count(found, shown, view)}</span>{_controls(overview, view)}</header>'
        f'{_wall(found)}<div class="colh" aria-hidden="true">{heads}</div>'
        f"{''.join(parts)}{_pages(found, view)}{_legend()}</section>"
    )


def _environment_head(component: Component, chosen: list[Environment]) -> str:
    hidden = " vh" if len(chosen) < 2 else ""
    return f'<section class="env"><h3 class="ut{hidden}">{esc(component.env, 60)}</h3>'


def _controls(overview: Overview, view: View) -> str:
    failing = sum(len(environment.not_well) for environment in overview.environments)
    tabs = [
        f'<a href="{view.link(env="", show="")}"{_current(not view.env and not view.problems)}>All</a>',
        *(
            f'<a class="ut" href="{view.link(env=part.info.name, show="")}"'
            f"{_current(view.env == part.info.name)}>{esc(part.info.alias, 20)}</a>"
            for part in overview.environments
            if len(overview.environments) > 1
        ),
        f'<a href="{view.link(env="", show="problems")}"{_current(view.problems)}>Not well ({failing})</a>',
    ]
    return (
        f'<div class="ctl end"><nav class="tabs" aria-label="Which components">{"".join(tabs)}</nav>'
        f'<form action="/" method="get" role="search"><input class="find" type="search" name="q" '
        'aria-label="Find a component by name" placeholder="Find by name" maxlength="80" '
        f'value="{esc(view.find, 80)}">'
        "</form></div>"
    )


def _current(chosen: bool) -> str:  # noqa: FBT001 - one attribute, present or not
    return ' aria-current="true"' if chosen else ""


def _count(found: list[Component], shown: list[Component], view: View) -> str:
    if len(shown) == len(found):
        return f"{len(found)} in all"
    return f"{view.after + 1}–{view.after + len(shown)} of {len(found)}, those not well first"


def _wall(found: list[Component]) -> str:
    if len(found) <= PAGE_ROWS:
        return ""
    counts: dict[State, int] = {}
    for component in found:
        counts[component.state] = counts.get(component.state, 0) + 1
    return f'<div class="wallbox">{wall(counts)}</div>'


def _pages(found: list[Component], view: View) -> str:
    links = []
    if view.after:
        links.append(
            f'<a href="{view.link(after=str(max(0, view.after - PAGE_ROWS)))}">Previous {PAGE_ROWS}</a>'
        )
    if view.after + PAGE_ROWS < len(found):
        links.append(f'<a href="{view.link(after=str(view.after + PAGE_ROWS))}">Next {PAGE_ROWS}</a>')
    return f'<nav class="pages" aria-label="Pages">{" ".join(links)}</nav>' if links else ""


def _legend() -> str:
    return (
        '<div class="legend" aria-label="Legend" role="group">'
        + "".join(f"<span>{glyph(state)} {WORDS[state]}</span>" for state in LEGEND)
        + "</div>"
    )


def _nothing() -> str:
    example = "services:\n  gateway:\n    url: https://gateway.example\n    health: /health"
    return (
        '<section class="card comp" id="comp"><header><h2>Nothing to watch yet</h2></header>'
        '<div class="body">'
        "<p>Name what should be watched in <code>gaia.yaml</code>, then run <code>gaia reload</code>. "
        f"<code>gaia init</code> writes a first file.</p><pre>{example}</pre></div></section>"
    )


_PULSE: Final = (
    '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M1.5 13H7l2.5-8 4.5 14 3-9 1.5 3h4" fill="none" '
    'stroke="currentColor" stroke-width="2.2" stroke-linecap="round" stroke-linejoin="round"/></svg>'
)
