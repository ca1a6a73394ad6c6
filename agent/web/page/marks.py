"""Drawn marks: a shape for each state, the bars of past looks, the latency line. Never colour alone."""

from __future__ import annotations

from math import log10
from typing import Final

from agent.board import Point
from checks.finding import SEVERITY, State

# Height and place of a look's bar by its state: readable in pure grey.
_BAR_Y: Final = {
    State.UP: ((8, 22),),
    State.DEGRADED: ((19, 11),),
    State.DOWN: ((2, 34),),
    State.STARTING: ((8, 9), (21, 9)),
    State.ASLEEP: ((26, 4),),
    State.UNKNOWN: ((28, 2),),
}
_SLOTS: Final = 90
_LOW_S: Final = 0.002
_HIGH_S: Final = 10.0
_LINE_HEIGHT: Final = 38
WORDS: Final = {
    State.UP: "Up",
    State.DEGRADED: "Degraded",
    State.DOWN: "Down",
    State.STARTING: "Starting",
    State.ASLEEP: "Asleep",
    State.UNKNOWN: "No data",
}
_GLYPHS: Final = {
    State.UP: '<circle cx="12" cy="12" r="10.5" fill="currentColor"/><path d="m7 12.4 3.5 3.5L17 8.8" '
    'fill="none" stroke="var(--surface)" stroke-width="2.4" stroke-linecap="round" stroke-linejoin="round"/>',
    State.DEGRADED: '<path d="M12 1.6c.6 0 1.1.3 1.4.8l9.3 17.2c.6 1.1-.2 2.4-1.4 2.4H2.7c-1.2 0-2-1.3'
    '-1.4-2.4L10.6 2.4c.3-.5.8-.8 1.4-.8z" fill="currentColor"/>'
    '<path d="M12 8.6v6.2" stroke="var(--surface)" '
    'stroke-width="2.5" stroke-linecap="round"/><circle cx="12" cy="18.3" r="1.5" fill="var(--surface)"/>',
    State.DOWN: '<path d="M7.6 1h8.8L23 7.6v8.8L16.4 23H7.6L1 16.4V7.6z" fill="currentColor"/>'
    '<path d="m8.2 8.2 7.6 7.6m0-7.6-7.6 7.6" stroke="var(--surface)" stroke-width="2.6" '
    'stroke-linecap="round"/>',
    State.STARTING: '<circle cx="12" cy="12" r="9.6" fill="none" stroke="currentColor" stroke-width="2.4"/>'
    '<path d="M12 6.6V12l3.6 2.4" fill="none" stroke="currentColor" stroke-width="2.4" '
    'stroke-linecap="round"/>',
    State.ASLEEP: '<path d="M20.6 15.2A9.6 9.6 0 0 1 8.8 3.4a9.6 9.6 0 1 0 11.8 11.8z" fill="currentColor"/>',
    State.UNKNOWN: '<circle cx="12" cy="12" r="10" fill="none" stroke="currentColor" stroke-width="2" '
    'stroke-dasharray="3.9 2.4"/><path d="M9.3 9.4a2.8 2.8 0 1 1 3.9 2.6c-.8.4-1.2.9-1.2 1.9" fill="none" '
    'stroke="currentColor" stroke-width="2" stroke-linecap="round"/>'
    '<circle cx="12" cy="17" r="1.3" fill="currentColor"/>',
}
_CELLS: Final = {
    State.UP: "M2 2h6v6H2z",
    State.DOWN: "M.5.5h9v9h-9z",
    State.DEGRADED: "M5 0l5 10H0z",
    State.STARTING: "M2 2h6v2H2zM2 6h6v2H2z",
    State.ASLEEP: "M2 6h6v2H2z",
    State.UNKNOWN: "M3 4h4v2H3z",
}
# The icon of the browser's tab changes its shape with the state.
_ICONS: Final = {
    State.DOWN: ("C4161C", "M7 1h10l6 6v10l-6 6H7l-6-6V7z"),
    State.DEGRADED: ("D18F00", "M12 1 23 22H1z"),
    State.UNKNOWN: ("777777", "M3 10h18v4H3z"),
}
_UP_ICON: Final = ("15A194", "M1 12a11 11 0 1 1 22 0 11 11 0 1 1-22 0z")


def symbols() -> str:
    """The shapes, defined once for the whole page."""
    shapes = "".join(
        f'<symbol id="i-{state.value}" viewBox="0 0 24 24">{shape}</symbol>'
        for state, shape in _GLYPHS.items()
    )
    arrows = (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" '
        f'orient="auto"><path class="{kind}" d="M0 0 8 4 0 8z"/></marker>'
        for name, kind in (("ar", "ah"), ("arh", "ahh"))
    )
    cells = (
        f'<pattern id="w-{state.value}" width="10" height="10" patternUnits="userSpaceOnUse">'
        f'<path class="f{state.value}" d="{shape}"/></pattern>'
        for state, shape in _CELLS.items()
    )
    defs = shapes + "".join((*arrows, *cells))
    return f'<svg class="defs" width="0" height="0" aria-hidden="true"><defs>{defs}</defs></svg>'


def glyph(state: State, more: str = "") -> str:
    """The state's shape; the word always stands beside it."""
    return (
        f'<svg class="g g-{state.value}{more}" viewBox="0 0 24 24" aria-hidden="true">'
        f'<use href="#i-{state.value}"/></svg>'
    )


def icon(state: State) -> str:
    """The tab's icon as a data URL."""
    colour, path = _ICONS.get(state, _UP_ICON)
    return (
        "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24'%3E"
        f"%3Cpath fill='%23{colour}' d='{path}'/%3E%3C/svg%3E"
    )


def bars(points: list[Point], label: str) -> str:
    """One bar for each of the last 90 looks, the newest at the right; `label` says it in words."""
    paths: dict[State, list[str]] = {}
    first = _SLOTS - len(points)
    for slot, point in enumerate(points, first):
        paths.setdefault(point.state, []).extend(
            f"M{slot * 4} {top}h3v{height}h-3z" for top, height in _BAR_Y[point.state]
        )
    drawn = "".join(
        f'<path class="f{state.value}" d="{"".join(paths[state])}"/>' for state in SEVERITY if state in paths
    )
    return (
        f'<svg class="bar" viewBox="0 0 360 38" preserveAspectRatio="none" role="img" aria-label="{label}">'
        f'<path class="base" d="M0 30.5h360"/>{drawn}</svg>'
    )


def latency_line(points: list[Point], limit_s: float | None, label: str) -> str:
    """Latencies on one logarithmic scale for every row, so that rows compare and the limit is level."""
    parts, previous = [], False
    last: tuple[float, float] | None = None
    first = _SLOTS - len(points)
    for slot, point in enumerate(points, first):
        if point.latency_s is None or point.latency_s <= 0:
            previous = False
            continue
        last = (slot * 4 + 2, _height(point.latency_s))
        parts.append(f"{'L' if previous else 'M'}{last[0]} {last[1]:.1f}")
        previous = True
    limit = ""
    if limit_s is not None:
        at = _height(limit_s)
        limit = f'<path class="zone" d="M0 0h360V{at:.1f}H0z"/><path class="thr" d="M0 {at:.1f}h360"/>'
    # A line of no length with a round cap: a dot that does not stretch with the drawing.
    dot = f'<path class="dot" d="M{last[0]} {last[1]:.1f}h0"/>' if last is not None else ""
    return (
        f'<svg class="spark" viewBox="0 0 360 {_LINE_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{label}">{limit}<path class="lat" d="{"".join(parts)}"/>{dot}</svg>'
    )


def wall(counts: dict[State, int], columns: int = 200) -> str:
    """One small shape for each component, the worst first: ten thousand at a glance in one node a state."""
    drawn, first = [], 0
    for state in SEVERITY:
        if count := counts.get(state, 0):
            drawn.append(f'<path fill="url(#w-{state.value})" d="{_cells(first, first + count, columns)}"/>')
            first += count
    words = ", ".join(f"{counts[state]} {WORDS[state].lower()}" for state in SEVERITY if counts.get(state))
    box = f"0 0 {columns * 10} {-(-first // columns) * 10}"
    return f'<svg class="wall" viewBox="{box}" role="img" aria-label="{words}">{"".join(drawn)}</svg>'


def _cells(first: int, end: int, columns: int) -> str:
    """The cells from `first` to before `end` as rectangles: the rest of a row, whole rows, a last part."""
    parts = []
    while first < end:
        row, column = divmod(first, columns)
        rows = max(1, (end - first) // columns) if column == 0 else 1
        wide = min(columns - column, end - first)
        parts.append(f"M{column * 10} {row * 10}h{wide * 10}v{rows * 10}h-{wide * 10}z")
        first += wide * rows
    return "".join(parts)


def _height(seconds: float) -> float:
    clipped = min(max(seconds, _LOW_S), _HIGH_S)
    share = (log10(clipped) - log10(_LOW_S)) / (log10(_HIGH_S) - log10(_LOW_S))
    return 2 + (1 - share) * (_LINE_HEIGHT - 4)
