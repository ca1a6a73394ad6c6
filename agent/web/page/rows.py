"""One component as a row that opens: state and reason, past looks, latency against its limit, traffic."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from agent.telemetry.red import RedView
from agent.web.overview import Component, Look, lasting
from agent.web.page.html import anchor, clock, esc, limit_text, percent, rate, span_text
from agent.web.page.marks import WORDS, bars, glyph, latency_line
from checks.finding import Evidence, PhaseTime, State
from checks.target import TargetKey

_MOST_CHECKS: Final = 20
_MOST_EVIDENCE: Final = 12
_QUIET: Final = frozenset({State.UP, State.ASLEEP, State.STARTING})
LEGEND: Final = (State.UP, State.DEGRADED, State.DOWN, State.STARTING, State.ASLEEP, State.UNKNOWN)


def component_row(component: Component, red: RedView | None, now_s: float) -> str:
    """The row; its details name every check."""
    state = component.state
    name = esc(component.service, 80)
    points = list(component.worst.row.recent)
    looks = _looks_label(component.worst, now_s)
    main = component.main
    latencies = points if main is component.worst else list(main.row.recent)
    return (
        f'<details class="item" id="{anchor(component.env, component.service)}" data-s="{state.value}">'
        f'<summary class="rowg"><div class="nm">{glyph(state)}<b class="ut">{name}</b>'
        f'<span class="ut why">{_short(component, now_s)}</span></div>'
        f"<div>{bars(points, looks)}</div>"
        f"<div>{latency_line(latencies, main.row.slower_than_s, _latency_label(component))}</div>"
        f"{_latency_cell(component)}{_traffic_cells(red)}</summary>"
        f'<div class="det">{_details(component, now_s)}</div></details>'
    )


def _short(component: Component, now_s: float) -> str:
    """What stands under the name: the reason and for how long, or just that it is up and since when."""
    shown = component.worst.shown
    span = f" for {lasting(now_s - shown.since_s)}" if shown.since_s else ""
    if component.state is State.UP:
        checks = f", {len(component.looks)} checks" if len(component.looks) > 1 else ""
        return f'<span class="faint">up{span}{checks}</span>'
    quiet = "faint" if component.state in _QUIET else f"x-{component.state.value}"
    return (
        f'<span class="w x-{component.state.value}">{WORDS[component.state]}{span}:</span> '
        f'<span class="{quiet}">{esc(shown.message, 140)}</span>'
    )


def _latency_cell(component: Component) -> str:
    main = component.main
    latency_s, limit_s = component.latency_s, main.row.slower_than_s
    bad = " bad" if latency_s is not None and limit_s is not None and latency_s > limit_s else ""
    limit = (
        f"<small>of {limit_text(limit_s)}</small>" if limit_s is not None and latency_s is not None else ""
    )
    return f'<div class="r num{bad}"><span class="k">latency</span>{span_text(latency_s)}{limit}</div>'


def _traffic_cells(red: RedView | None) -> str:
    if red is None or red.requests_per_s is None:
        nothing = '<div class="r num nil"><span class="k">{}</span>–</div>'
        return nothing.format("requests") + nothing.format("errors")
    bad = " bad" if (red.error_ratio or 0) > 0.05 else ""
    p95 = f"<small>p95 {span_text(red.p95_s)}</small>" if red.p95_s is not None else ""
    return (
        f'<div class="r num"><span class="k">requests</span>{rate(red.requests_per_s)}{p95}</div>'
        f'<div class="r num{bad}"><span class="k">errors</span>{percent(red.error_ratio)}</div>'
    )


def _details(component: Component, now_s: float) -> str:
    looks = component.looks[:_MOST_CHECKS]
    more = len(component.looks) - len(looks)
    rest = f'<p class="muted">and {more} more checks: /api/v1/checks</p>' if more > 0 else ""
    depends = ", ".join(esc(name, 80) for name in component.depends_on)
    needs = f'<p class="muted ut">Depends on {depends}.</p>' if depends else ""
    return "".join(_check(look, now_s) for look in looks) + rest + needs


def _check(look: Look, now_s: float) -> str:
    row, shown, latest = look.row, look.shown, look.row.latest
    key = row.target.key
    facts = [("Address", esc(row.target.address, 200)), ("Says", esc(shown.message))]
    if latest is not None:
        age = f"{clock(latest.at_s, now_s)} UTC, {lasting(now_s - latest.at_s)} ago"
        facts.append(("Last look", f"{age}, every {limit_text(row.interval_s)}, {row.looks} in all"))
        facts += measured(latest.finding.phases, latest.finding.latency_s, row.slower_than_s)
        facts += proof(latest.finding.evidence)
    facts.append(("Before", f'<a href="{_failures_of(key)}">its last failures</a>'))
    if shown.since_s:
        facts.insert(1, ("Since", f"{clock(shown.since_s, now_s)} UTC"))
    doubt = ' <span class="faint">latest look disagrees, confirming</span>' if shown.in_doubt else ""
    listed = "".join(f'<dt>{name}</dt><dd class="ut">{value}</dd>' for name, value in facts)
    return (
        f'<section class="chk"><h4>{glyph(shown.state)} <span class="ut">{esc(key.check, 60)}</span> '
        f'<span class="x-{shown.state.value}">{WORDS[shown.state]}</span> '
        f'<span class="faint ut">from {esc(key.vantage, 60)}, {esc(shown.reason.value)}</span>{doubt}</h4>'
        f'<dl class="kv">{listed}</dl></section>'
    )


def _failures_of(key: TargetKey) -> str:
    names = {"env": key.env, "service": key.service, "check": key.check, "vantage": key.vantage}
    return esc(f"/failures?{urlencode(names)}", 600)


def measured(
    phases: tuple[PhaseTime, ...], latency_s: float | None, limit_s: float | None
) -> list[tuple[str, str]]:
    """Latency and phases as rows of a list; only what was measured."""
    parts = " · ".join(f"{part.phase.value} {span_text(part.duration_s)}" for part in phases)
    phased = [("Phases", parts)] if parts else []
    if latency_s is None:
        return phased
    limit = f", limit {limit_text(limit_s)}" if limit_s is not None else ""
    return [("Latency", f"{span_text(latency_s)}{limit}"), *phased]


def proof(evidence: tuple[Evidence, ...]) -> list[tuple[str, str]]:
    """Evidence as rows of a list."""
    return [(esc(fact.name, 40), esc(fact.value)) for fact in evidence[:_MOST_EVIDENCE]]


def _looks_label(look: Look, now_s: float) -> str:
    points = list(look.row.recent)
    if not points:
        return "no look yet"
    counts: dict[State, int] = {}
    for point in points:
        counts[point.state] = counts.get(point.state, 0) + 1
    words = ", ".join(f"{count} {WORDS[state].lower()}" for state, count in counts.items())
    return f"last {len(points)} looks in {lasting(now_s - points[0].at_s)}: {words}"


def _latency_label(component: Component) -> str:
    limit_s = component.main.row.slower_than_s
    limit = f", limit {limit_text(limit_s)}" if limit_s is not None else ""
    if component.latency_s is None:
        return f"latency not measured now{limit}"
    return f"latency now {span_text(component.latency_s)}{limit}"
