"""Active alerts: what, where, how bad, since when, the proof, and what to do first."""

from __future__ import annotations

from agent.web.overview import Overview, lasting
from agent.web.page.html import clock, esc
from agent.web.page.marks import glyph
from agent.web.source import ActiveAlert
from checks.finding import State

_MOST_CARDS = 10
_MOST_EVIDENCE = 8
_WORDS = {"firing": "Firing", "recovering": "Recovering", "pending": "Pending"}


def alerts_section(overview: Overview) -> str:
    """A card for each cause, what follows from it inside; pending ones as a list below."""
    firing, pending = overview.firing, overview.pending
    known = {alert.id for alert in firing}
    causes = [alert for alert in firing if alert.cause not in known]
    cards = "".join(_card(alert, _followers(alert, firing), overview.now_s) for alert in causes[:_MOST_CARDS])
    if not cards:
        cards = (
            f'<div class="card none">{glyph(State.UP)}<p><b>No alert is active.</b> '
            f'<span class="muted">Nobody has been called for anything that still lasts.</span></p></div>'
        )
        if not any(environment.seen for environment in overview.environments):
            cards = ""
    more = len(causes) - _MOST_CARDS
    rest = f'<p class="card more">and {more} more: /api/v1/alerts</p>' if more > 0 else ""
    rest += _pending(pending, overview.now_s)
    return f'<section id="alerts" aria-label="Active alerts">{cards}{rest}</section>'


def _followers(cause: ActiveAlert, firing: tuple[ActiveAlert, ...]) -> list[ActiveAlert]:
    return [alert for alert in firing if alert.cause == cause.id]


def _card(alert: ActiveAlert, followers: list[ActiveAlert], now_s: float) -> str:
    state = State.DEGRADED if alert.state == "recovering" or alert.severity != "page" else State.DOWN
    began = alert.fired_s or alert.since_s
    facts = [
        f'<span class="pill p-{state.value}">{glyph(state)}{_WORDS.get(alert.state, "Active")}</span>',
        f"<span>{esc(alert.env, 60)}</span><span>{esc(alert.severity, 20)}</span>",
        f"<span>since {clock(began, now_s)} UTC, {lasting(now_s - began)}</span>",
    ]
    if alert.incident:
        name = esc(alert.incident, 60)
        facts.append(
            f'<a class="ut" href="/i/{name}">{name}</a>' if alert.notified else f"<span>{name}</span>"
        )
    if alert.muted:
        facts.append(f'<span class="pill p-starting ut">{esc(alert.muted, 80)}</span>')
    if alert.stale_s is not None:
        facts.append(
            f'<span class="pill p-unknown">no fresh data for {lasting(now_s - alert.stale_s)}</span>'
        )
    identifier = esc(alert.id, 80).replace(" ", "_")
    return (
        f'<article class="card alert a-{state.value}" aria-labelledby="a-{identifier}">'
        f'<div class="row1">{"".join(facts)}</div>'
        f'<h2 class="ut" id="a-{identifier}">{esc(alert.title, 160)}</h2>'
        f'<p class="imp ut">{esc(alert.summary, 600)}</p>'
        f'<div class="two"><div>{_value(alert)}{_evidence(alert)}</div>'
        f"<div>{_affected(alert, followers)}{_next(alert)}{_told(alert)}</div></div></article>"
    )


def _value(alert: ActiveAlert) -> str:
    if not alert.value:
        return ""
    limit = (
        f'<span class="lim">limit <b class="ut">{esc(alert.threshold, 60)}</b></span>'
        if alert.threshold
        else ""
    )
    return f'<p class="val"><b class="ut">{esc(alert.value, 80)}</b>{limit}</p>'


def _evidence(alert: ActiveAlert) -> str:
    facts = "".join(
        f'<dt class="ut">{esc(fact.name, 40)}</dt><dd class="ut">{esc(fact.value)}</dd>'
        for fact in alert.evidence[:_MOST_EVIDENCE]
    )
    return f'<h3>Evidence</h3><dl class="kv">{facts}</dl>' if facts else ""


def _affected(alert: ActiveAlert, followers: list[ActiveAlert]) -> str:
    names = dict.fromkeys([*alert.affected, *(follower.service for follower in followers)])
    if not names:
        return ""
    listed = "".join(f'<li class="ut">{esc(name, 80)}</li>' for name in list(names)[:20])
    return f'<h3>Also affected, not called apart</h3><ul class="aff">{listed}</ul>'


def _next(alert: ActiveAlert) -> str:
    step = f'<h3>First step</h3><p class="ut">{esc(alert.first_step, 400)}</p>' if alert.first_step else ""
    if alert.runbook.startswith(("https://", "http://")):
        step += (
            f'<p><a class="btn pri" rel="noreferrer" href="{esc(alert.runbook, 500)}">Open runbook</a></p>'
        )
    return step


def _told(alert: ActiveAlert) -> str:
    lines = [f'<li class="ut">{esc(line, 120)}</li>' for line in alert.notified[:6]]
    if alert.acknowledged_by:
        lines.insert(0, f'<li class="ut">Acknowledged by {esc(alert.acknowledged_by, 60)}</li>')
    return f'<h3>Who knows</h3><ul class="plain">{"".join(lines)}</ul>' if lines else ""


def _pending(pending: tuple[ActiveAlert, ...], now_s: float) -> str:
    if not pending:
        return ""
    lines = "".join(
        f'<li><b class="ut">{esc(alert.title, 120)}</b> <span class="muted ut">{_measured(alert)}'
        f"for {lasting(now_s - alert.since_s)}; nobody is called yet</span></li>"
        for alert in pending[:20]
    )
    return (
        '<div class="card"><header><h2>Pending</h2></header><div class="body">'
        f'<ul class="plain">{lines}</ul></div></div>'
    )


def _measured(alert: ActiveAlert) -> str:
    limit = f", limit {esc(alert.threshold, 60)}" if alert.threshold else ""
    return f"{esc(alert.value, 60)}{limit}, " if alert.value else ""
