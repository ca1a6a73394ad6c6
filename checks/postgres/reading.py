"""What one look beyond the vitals added."""

from __future__ import annotations

from msgspec import Struct, field

from checks.finding import Evidence, Measure
from checks.postgres.depth import Depth
from checks.problem import Problem


class Reading(Struct):
    """Problems, numbers and evidence of one round."""

    problems: list[Problem] = field(default_factory=list)
    measures: list[Measure] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    depth: Depth | None = None
