"""The series of one target, brought up to date by each look in a few microseconds."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Final, TypeAlias

from agent.board import Row
from agent.exposition.document import Document
from agent.exposition.family import Family, Line, Shape, Type, histogram_shape, label_text
from agent.exposition.metrics import LATENCY_EDGES_S, TARGETS
from agent.prober import Look
from checks.catalog import MeasureInfo
from checks.finding import Finding, Phase, State
from checks.reason import Reason
from checks.target import Kind, TargetKey
from checks.verdict import Verdict

logger = logging.getLogger(__name__)

Labels: TypeAlias = tuple[tuple[str, str], ...]

_ANSWERED: Final = {State.UP: 1, State.DEGRADED: 1, State.DOWN: 0}
_ONE_HOT: Final = {state: tuple(int(state is other) for other in State) for state in State}
_STATES: Final = Shape("gaia_target_state", tuple(Line(labels=(("state", state.value),)) for state in State))
_SINGLE: Final = {
    name: Shape(name)
    for name in (
        "probe_success",
        "probe_duration_seconds",
        "gaia_target_since_timestamp_seconds",
        "gaia_target_slower_than_seconds",
        "gaia_probe_last_run_timestamp_seconds",
        "gaia_probe_interval_seconds",
        "gaia_probe_schedule_lag_seconds",
        "gaia_probe_missed_total",
    )
}
_SHAPES_KEPT: Final = 20_000


class TargetSeries:
    """Keeps the series of every target in `document`; called on the event loop."""

    def __init__(
        self, document: Document, measures: Iterable[MeasureInfo], *, edges_s: Iterable[float] = ()
    ) -> None:
        """`measures` are those of every kind of check in use, declared here.

        `edges_s` are the thresholds configured anywhere: each becomes an edge of the latency histogram.
        """
        self._document = document
        self._declared = {metric.name for metric in TARGETS}
        self._undeclared: set[str] = set()
        self.declare(measures)
        self._edges = tuple(sorted({*LATENCY_EDGES_S, *(float(edge) for edge in edges_s)}))
        self._latency = histogram_shape("gaia_probe_latency_seconds", self._edges)
        self._targets: dict[TargetKey, _Counts] = {}
        self._shapes: dict[tuple[str, tuple[Labels, ...]], Shape] = {}

    def declare(self, measures: Iterable[MeasureInfo]) -> None:
        """Add the measures of further kinds of checks."""
        for info in measures:
            self._document.declare(Family(name=info.name, type=Type(info.type), help=info.help))
            self._declared.add(info.name)

    def place(self, rows: Iterable[Row]) -> None:
        """Take over the targets of a (new) configuration; those that are gone leave no series behind."""
        kept = {row.target.key for row in rows}
        for key in self._targets.keys() - kept:
            self._document.forget(self._targets.pop(key).owner)

    def looked(self, look: Look) -> None:
        """Take in one look."""
        observation, finding, put = look.observation, look.observation.finding, self._document.put
        counts = self._targets.get(look.row.target.key) or self._born(look.row)
        owner = counts.owner
        answered = _ANSWERED.get(finding.state)
        if answered is None:
            self._document.remove("probe_success", owner)
        else:
            self._single("probe_success", owner, answered)
        self._single("probe_duration_seconds", owner, observation.duration_s)
        self._single("gaia_probe_last_run_timestamp_seconds", owner, observation.at_s)
        self._single("gaia_probe_schedule_lag_seconds", owner, look.lag_s)
        if look.missed:
            counts.missed += look.missed
            self._single("gaia_probe_missed_total", owner, counts.missed)
        counts.runs[finding.state, finding.reason] = counts.runs.get((finding.state, finding.reason), 0) + 1
        runs = tuple((("result", state.value), ("reason", reason.value)) for state, reason in counts.runs)
        put(
            "gaia_probe_runs_total",
            owner,
            self._shape("gaia_probe_runs_total", runs),
            tuple(counts.runs.values()),
        )
        if finding.latency_s is not None:
            put(
                "gaia_probe_latency_seconds", owner, self._latency, counts.add(finding.latency_s, self._edges)
            )
        self._measures(counts, look.row.target.kind, finding)
        self._show(counts, look.verdict)

    def aged(self, rows: Iterable[Row], now_s: float) -> None:
        """Show targets whose last look has become too old as unknown; call it before a scrape."""
        for row in rows:
            counts = self._targets.get(row.target.key)
            if counts is not None:
                self._show(counts, row.shown(now_s))

    def _show(self, counts: _Counts, verdict: Verdict) -> None:
        shown = (verdict.state, verdict.reason, verdict.since_s)
        if counts.shown == shown:
            return
        counts.shown = shown
        reason = self._shape("gaia_target_reason", ((("reason", verdict.reason.value),),))
        self._document.put("gaia_target_state", counts.owner, _STATES, _ONE_HOT[verdict.state])
        self._document.put("gaia_target_reason", counts.owner, reason, (1,))
        if verdict.since_s:
            self._single("gaia_target_since_timestamp_seconds", counts.owner, verdict.since_s)

    def _born(self, row: Row) -> _Counts:
        key = row.target.key
        owner = label_text(
            (("env", key.env), ("service", key.service), ("check", key.check), ("vantage", key.vantage))
        )
        counts = self._targets[key] = _Counts(owner, len(self._edges))
        kind = self._shape("gaia_target_info", ((("kind", row.target.kind.value),),))
        self._document.put("gaia_target_info", owner, kind, (1,))
        self._single("gaia_probe_interval_seconds", owner, row.interval_s)
        self._single("gaia_probe_missed_total", owner, 0)
        if row.slower_than_s is not None:
            self._single("gaia_target_slower_than_seconds", owner, row.slower_than_s)
        return counts

    def _single(self, name: str, owner: str, value: float) -> None:
        self._document.put(name, owner, _SINGLE[name], (value,))

    def _measures(self, counts: _Counts, kind: Kind, finding: Finding) -> None:
        by_name: dict[str, dict[Labels, float]] = {}
        if finding.phases:
            http = kind is Kind.SERVICE and any(part.phase is Phase.PROCESSING for part in finding.phases)
            by_name["probe_http_duration_seconds" if http else "gaia_probe_phase_seconds"] = {
                (("phase", part.phase.value),): part.duration_s for part in finding.phases
            }
        for measure in finding.measures:
            by_name.setdefault(measure.name, {})[measure.labels] = measure.value
        for name in by_name.keys() - self._declared:
            del by_name[name]
            if name not in self._undeclared:
                self._undeclared.add(name)
                logger.warning("exposition.measure_undeclared", extra={"measure": name})
        for name, lines in by_name.items():
            self._document.put(name, counts.owner, self._shape(name, tuple(lines)), tuple(lines.values()))
        # A number that was not measured this time is not known any more: its old value would be a lie.
        for name in counts.measured - by_name.keys():
            self._document.remove(name, counts.owner)
        counts.measured = by_name.keys()

    def _shape(self, name: str, lines: tuple[Labels, ...]) -> Shape:
        shape = self._shapes.get((name, lines))
        if shape is None:
            if len(self._shapes) >= _SHAPES_KEPT:
                self._shapes.clear()
            shape = self._shapes[name, lines] = Shape(name, tuple(Line(labels=labels) for labels in lines))
        return shape


class _Counts:
    """What accumulates over the looks of one target."""

    __slots__ = ("buckets", "measured", "missed", "owner", "runs", "shown", "sum_s")

    def __init__(self, owner: str, edges: int) -> None:
        self.owner = owner
        self.buckets = [0] * (edges + 1)
        self.sum_s = 0.0
        self.runs: dict[tuple[State, Reason], int] = {}
        self.missed = 0
        self.measured: AbstractSet[str] = frozenset()
        self.shown: tuple[State, Reason, float] | None = None

    def add(self, latency_s: float, edges: tuple[float, ...]) -> tuple[float, ...]:
        """Count one latency; gives the cumulative buckets, the count and the sum."""
        buckets = self.buckets
        for index in range(bisect_left(edges, latency_s), len(buckets)):
            buckets[index] += 1
        self.sum_s += latency_s
        return (*buckets, buckets[-1], self.sum_s)
