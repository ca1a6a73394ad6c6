"""The drawing of who needs whom: layers from those that are called last to those that are needed most."""

from __future__ import annotations

from typing import Final

from agent.web.overview import WELL, Component, phrase
from agent.web.page.html import anchor, esc, span_text
from checks.finding import State

_WIDTH: Final = 440
_GAP: Final = 14
_NODE_HEIGHT: Final = 50
_LAYER_HEIGHT: Final = 122
_ROW_HEIGHT: Final = 64
_PER_ROW: Final = 3

Place = tuple[float, float, float]  # Left, top, width.


def drawing(components: list[Component], edges: list[tuple[Component, Component]]) -> str:
    """An SVG of links; a link that leads to something not well is thick."""
    places, height = _places(components, edges)
    lines = [_line(places[above.service], places[below.service], below) for above, below in edges]
    lines.sort(key=lambda line: "hot" in line)
    nodes = "".join(_node(component, places[component.service]) for component in components)
    return (
        f'<svg class="mapsvg" viewBox="0 0 {_WIDTH} {height:.0f}" role="group" aria-label="Dependency map">'
        f"{''.join(lines)}{nodes}</svg>"
    )


def _places(
    components: list[Component], edges: list[tuple[Component, Component]]
) -> tuple[dict[str, Place], float]:
    depth = {component.service: 0 for component in components}
    # Longest path from the top; as many rounds as there are nodes end it even when there is a cycle.
    for _ in components:
        for above, below in edges:
            depth[below.service] = min(
                max(depth[below.service], depth[above.service] + 1), len(components) - 1
            )
    layers: dict[int, list[str]] = {}
    for name, layer in sorted(depth.items(), key=lambda pair: pair[1]):
        layers.setdefault(layer, []).append(name)
    places: dict[str, Place] = {}
    top = 4.0
    for names in layers.values():
        for start in range(0, len(names), _PER_ROW):
            line = names[start : start + _PER_ROW]
            width = min(136.0, (_WIDTH - 4 - _GAP * (len(line) - 1)) / len(line))
            left = (_WIDTH - width * len(line) - _GAP * (len(line) - 1)) / 2
            for index, name in enumerate(line):
                places[name] = (left + index * (width + _GAP), top, width)
            top += _ROW_HEIGHT
        top += _LAYER_HEIGHT - _ROW_HEIGHT
    return places, top - (_LAYER_HEIGHT - _NODE_HEIGHT) + 4


def _line(above: Place, below: Place, needed: Component) -> str:
    hot = needed.state in {State.DOWN, State.DEGRADED}
    x1, y1 = above[0] + above[2] / 2, above[1] + _NODE_HEIGHT
    x2, y2 = below[0] + below[2] / 2, below[1] - 2
    # Lines into one node arrive side by side, nearer to where they come from.
    x2 += max(-0.3, min(0.3, (x1 - x2) / _WIDTH)) * below[2]
    bend = (y2 - y1) / 2
    kind, marker = (f"e hot h-{needed.state.value}", "arh") if hot else ("e", "ar")
    return (
        f'<path class="{kind}" marker-end="url(#{marker})" '
        f'd="M{x1:.1f} {y1:.1f}C{x1:.1f} {y1 + bend:.1f} {x2:.1f} {y2 - bend:.1f} {x2:.1f} {y2:.1f}"/>'
    )


def _node(component: Component, place: Place) -> str:
    left, top, width = place
    state = component.state
    words = "no data" if state is State.UNKNOWN else phrase(component).removeprefix("is ")
    small = span_text(component.latency_s) if state in WELL and component.latency_s is not None else words
    room = int((width - 46) / 7.4)
    return (
        f'<a href="#{anchor(component.env, component.service)}"><g class="node n-{state.value}">'
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{_NODE_HEIGHT}" rx="9"/>'
        f'<svg x="{left + 9:.1f}" y="{top + 14:.1f}" width="22" height="22" viewBox="0 0 24 24" '
        f'class="g-{state.value}"><use href="#i-{state.value}"/></svg>'
        f'<text x="{left + 38:.1f}" y="{top + 21:.1f}">{esc(component.service, room)} </text>'
        f'<text class="s" x="{left + 38:.1f}" y="{top + 38:.1f}">{esc(small, room + 4)}'
        f'<tspan class="iv">, {state.value}</tspan></text></g></a>'
    )
