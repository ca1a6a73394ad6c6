"""Which part is at fault, from which ways fail and which do not: pure."""

from __future__ import annotations

from collections.abc import Iterator

from checks.finding import State
from checks.network.options import Route, Way
from checks.network.way import Trip
from checks.problem import Problem
from checks.reason import Reason

Seen = tuple[tuple[Way, Trip], ...]


def blame(app: str, seen: Seen) -> Iterator[Problem]:
    """One bad machine, the app, the proxy or the edge.

    A way further out is only to blame where the one before it works.
    """
    by_route: dict[Route, list[tuple[Way, Trip]]] = {"private": [], "proxy": [], "public": []}
    for way, trip in seen:
        by_route[way.route].append((way, trip))
    failed = {route: [one for one in ways if one[1].failure is not None] for route, ways in by_route.items()}
    private, lost = by_route["private"], failed["private"]
    if private and len(lost) == len(private):
        yield _problem(State.DOWN, f"{app} does not answer on any of its {len(private)} machines", lost)
        return
    for one in lost:
        yield _problem(
            State.DEGRADED, f"one machine of {app} is bad and {len(private) - len(lost)} are well", [one]
        )
    inside_works = len(lost) < len(private) or not private
    if failed["proxy"]:
        told = "its machines answer and the proxy does not" if private else "the proxy does not answer"
        yield _problem(State.DOWN if inside_works else State.DEGRADED, f"{app}: {told}", failed["proxy"])
    elif failed["public"]:
        inside = by_route["proxy"] or private
        told = (
            "everything inside answers and the public edge does not" if inside else "the edge does not answer"
        )
        yield _problem(State.DOWN, f"{app}: {told}", failed["public"])


def _problem(state: State, start: str, ways: list[tuple[Way, Trip]]) -> Problem:
    way, trip = ways[0]
    words = f"{start}: {way.name} {trip.why}"
    return Problem(state=state, reason=trip.failure or Reason.UNREACHABLE, message=words, urgent=True)
