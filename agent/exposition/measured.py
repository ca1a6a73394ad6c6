"""What a finding measured, as lines: the layout is kept once for all targets that measure the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from msgspec import Struct

from agent.exposition.family import Line, Shape
from checks.finding import Finding, Phase
from checks.target import Kind

Labels: TypeAlias = tuple[tuple[str, str], ...]
_HTTP_PHASES: Final = "probe_http_duration_seconds"
_OTHER_PHASES: Final = "gaia_probe_phase_seconds"


class Place(Struct, frozen=True, eq=False):
    """Where the values of one family stand in a finding: among its phases or its measures."""

    shape: Shape
    positions: tuple[int, ...]
    of_phases: bool

    def text(self, owner: str, finding: Finding) -> str:
        """The family's lines for `owner`."""
        if self.of_phases:
            phases = finding.phases
            return self.shape.text(owner, tuple([phases[index].duration_s for index in self.positions]))
        measures = finding.measures
        return self.shape.text(owner, tuple([measures[index].value for index in self.positions]))


class Layout(Struct, frozen=True, eq=False):
    """Every place of a finding, by family; `lines` is how many there are in all."""

    http: bool
    phases: tuple[Phase, ...]
    measures: tuple[tuple[str, Labels], ...]
    places: dict[str, Place]
    lines: int

    def fits(self, finding: Finding) -> bool:
        """Whether a further finding of the same target has the same layout."""
        return (
            len(finding.phases) == len(self.phases)
            and len(finding.measures) == len(self.measures)
            and all(part.phase is phase for part, phase in zip(finding.phases, self.phases, strict=True))
            and all(
                item.name == name and item.labels == labels
                for item, (name, labels) in zip(finding.measures, self.measures, strict=True)
            )
        )

    @property
    def key(self) -> LayoutKey:
        """What tells layouts apart."""
        return self.http, self.phases, self.measures


LayoutKey: TypeAlias = tuple[bool, tuple[Phase, ...], tuple[tuple[str, Labels], ...]]


def key_of(kind: Kind, finding: Finding) -> LayoutKey:
    """The key of the layout that a finding about a target of this kind has."""
    phases = tuple(part.phase for part in finding.phases)
    http = kind is Kind.SERVICE and Phase.PROCESSING in phases
    return http, phases, tuple((item.name, item.labels) for item in finding.measures)


def layout_of(key: LayoutKey, declared: Mapping[str, str]) -> Layout:
    """The layout itself. `declared` gives each series' family, which a histogram's parts share.

    A measure of a name that is not in there has no place.
    """
    http, phases, measures = key
    places: dict[str, Place] = {}
    if phases:
        name = _HTTP_PHASES if http else _OTHER_PHASES
        lines = tuple(Line(labels=(("phase", phase.value),)) for phase in phases)
        places[name] = Place(Shape(name, lines), tuple(range(len(phases))), of_phases=True)
    found: dict[str, dict[Line, int]] = {}
    for index, (name, labels) in enumerate(measures):
        family = declared.get(name)
        if family is not None:
            # The last of two equal series counts: there may be only one.
            line = Line(suffix=name.removeprefix(family), labels=labels)
            found.setdefault(family, {})[line] = index
    for family, by_line in found.items():
        places[family] = Place(Shape(family, tuple(by_line)), tuple(by_line.values()), of_phases=False)
    return Layout(http, phases, measures, places, sum(place.shape.lines for place in places.values()))
