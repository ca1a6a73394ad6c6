"""What stands beside the components: all environments, dependencies, changes, the agent itself."""

from __future__ import annotations

from typing import Final

from agent.board import Event
from agent.web.overview import Component, Environment, Overview, lasting
from agent.web.page.html import anchor, clock, esc, span_text
from agent.web.page.marks import WORDS, glyph
from agent.web.source import AgentStatus, Change
from checks.finding import State

_MOST_ROWS: Final = 40
_MOST_CHANGES: Final = 8
_MOST_EVENTS: Final = 6


def matrix(overview: Overview) -> str:
    """Components × environments; empty when there is only one environment."""
    environments = overview.environments
    if len(environments) < 2:
        return ""
    parts = [{part.service: part for part in environment.components} for environment in environments]
    names = list(dict.fromkeys(name for column in parts for name in column))[:_MOST_ROWS]
    heads = "".join(
        f'<th scope="col">{esc(_short(environment), 14)}<small>'
        f"{'calls people' if environment.info.pages else 'calls nobody'}</small></th>"
        for environment in environments
    )
    lines = "".join(
        f'<tr><th scope="row" class="ut">{esc(name, 40)}</th>'
        + "".join(f"<td>{_cell(column.get(name), overview.now_s)}</td>" for column in parts)
        + "</tr>"
        for name in names
    )
    return (
        '<section class="card" id="matrix"><header><h2>All environments</h2></header><div class="body">'
        f'<table class="mx"><thead><tr><th scope="col">Component</th>{heads}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div></section>"
    )


def dependencies(environment: Environment) -> str:
    """Who needs whom, the broken way marked; each as a sentence too."""
    parts = {part.service: part for part in environment.components}
    edges = [(part, parts[name]) for part in parts.values() for name in part.depends_on if name in parts]
    if not edges or len(parts) > _MOST_ROWS:
        return ""
    from agent.web.page.dependency_map import drawing

    sentences = "".join(
        f'<li class="ut">{esc(part.service, 60)} needs '
        + ", ".join(
            esc(name, 60)
            + ("" if parts[name].state is State.UP else f" ({WORDS[parts[name].state].lower()})")
            for name in part.depends_on
            if name in parts
        )
        + "</li>"
        for part in parts.values()
        if any(name in parts for name in part.depends_on)
    )
    return (
        '<section class="card" id="map"><header>'
        f"<h2>Dependencies in {esc(environment.info.name, 60)}</h2></header>"
        f'<div class="body">{drawing(list(parts.values()), edges)}'
        f'<details class="alt"><summary>The same as a list</summary><ul>{sentences}</ul></details>'
        "</div></section>"
    )


def changes(changed: tuple[Change, ...], overview: Overview) -> str:
    """What was done, newest first; what came shortly before an active alert is marked."""
    fired = [alert.fired_s or alert.since_s for alert in overview.firing]
    lines = []
    for change in changed[:_MOST_CHANGES]:
        lead_s = min((at_s - change.at_s for at_s in fired if 0 <= at_s - change.at_s < 1800), default=None)
        mark = f'<span class="sus">{lasting(lead_s)} before</span>' if lead_s is not None else ""
        author = f" by {esc(change.author, 60)}" if change.author else ""
        lines.append(
            f'<li>{clock(change.at_s, overview.now_s)}<div><p class="ut">{esc(change.service, 60)}: '
            f'{esc(change.text, 160)} {mark}</p><p class="ut">{esc(change.kind, 40)} '
            f"in {esc(change.env, 60)}{author}</p></div></li>"
        )
    body = (
        f'<ol class="chg">{"".join(lines)}</ol>' if lines else '<p class="muted">No change was recorded.</p>'
    )
    return (
        '<section class="card" id="changes"><header><h2>What changed</h2>'
        f'<span class="small muted">times in UTC</span></header><div class="body">{body}</div></section>'
    )


def lately(events: tuple[Event, ...], now_s: float) -> str:
    """The newest events, newest first; nothing before the first."""
    lines = []
    for event in events[: -_MOST_EVENTS - 1 : -1]:
        state = next((state for state in State if state.value == event.state), None)
        mark = f"{glyph(state)} " if state is not None else ""
        words = WORDS[state].lower() if state is not None else esc(event.state, 40)
        lines.append(
            f'<li>{clock(event.at_s, now_s)}<div><p class="ut">{mark}{esc(event.subject, 60)}: {words}</p>'
            f'<p class="ut">{esc(event.text, 160)}</p></div></li>'
        )
    if not lines:
        return ""
    return (
        '<section class="card" id="lately"><header><h2>Lately</h2>'
        '<span class="small muted">times in UTC</span></header>'
        f'<div class="body"><ol class="chg">{"".join(lines)}</ol></div></section>'
    )


def agent_itself(agent: AgentStatus, overview: Overview) -> str:
    """The watcher, watched."""
    now_s = overview.now_s
    late = State.DEGRADED if agent.late_probes else State.UP
    slow = State.DEGRADED if agent.loop_lag_s > 0.1 else State.UP
    waiting = State.UP if not agent.undelivered else State.DEGRADED
    oldest = f", the oldest for {lasting(agent.oldest_undelivered_s)}" if agent.oldest_undelivered_s else ""
    loaded = f'{clock(agent.config_loaded_s, now_s)}, <code class="ut">{esc(agent.config_hash, 16)}</code>'
    problem = agent.config_problem
    facts = [
        (
            "Checks",
            late,
            f"{agent.targets} watched, "
            + (f"{agent.late_probes} late" if agent.late_probes else "none late"),
        ),
        ("Event loop", slow, f"late by at most {span_text(agent.loop_lag_s)}"),
        (
            "Pages",
            waiting,
            f"{agent.undelivered} undelivered{oldest}" if agent.undelivered else "none undelivered",
        ),
        ("Configuration", State.DEGRADED if problem else State.UP, f"loaded {loaded}"),
        *(
            (esc(part.name, 40), part.state, esc(part.text, 160))
            for part in agent.parts
            if part.name != "configuration"
        ),
    ]
    lines = "".join(
        f'<dt class="ut">{name}</dt><dd class="ut">{glyph(state)} '
        f'<span class="vh">{WORDS[state]}: </span>{text}</dd>'
        for name, state, text in facts
    )
    refused = f'<p class="warn ut">The last reload was refused: {esc(problem)}</p>' if problem else ""
    return (
        f'<section class="card" id="agent"><header><h2>The agent itself</h2><span class="small muted">'
        f"version {esc(agent.version, 30)}, up {lasting(now_s - agent.started_s)}</span></header>"
        f'<div class="body">{refused}<dl class="ag">{lines}</dl></div></section>'
    )


def _short(environment: Environment) -> str:
    name = environment.info.name
    return name if len(name) <= 10 else environment.info.alias


def _cell(component: Component | None, now_s: float) -> str:
    if component is None:
        return '<span class="cell faint">not here</span>'
    state, latency_s = component.state, component.latency_s
    since_s = component.worst.shown.since_s
    small = lasting(now_s - since_s) if since_s and state is not State.UP else span_text(latency_s)
    return (
        f'<a class="cell c-{state.value}" href="#{anchor(component.env, component.service)}">{glyph(state)}'
        f"<b>{WORDS[state]}</b><span>{small}</span></a>"
    )
