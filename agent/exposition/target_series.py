"""The series of every target: counted by each look in a microsecond or two, written only when scraped."""

from __future__ import annotations

import logging
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Final

from msgspec import Struct

from agent.board import Row
from agent.exposition.document import Document, Exemplar
from agent.exposition.family import Family, Line, Shape, Type, histogram_shape, label_text
from agent.exposition.measured import Layout, LayoutKey, key_of, layout_of
from agent.exposition.metrics import LATENCY_EDGES_S, TARGETS
from agent.exposition.negotiation import Format
from agent.prober import Look
from checks.catalog import MeasureInfo
from checks.finding import State
from checks.observation import Observation
from checks.reason import Reason
from checks.target import TargetKey

logger = logging.getLogger(__name__)

_LATENCY: Final = "gaia_probe_latency_seconds"
_ANSWERED: Final = {State.UP.value: 1, State.DEGRADED.value: 1, State.DOWN.value: 0}
_ONE_HOT: Final = {state.value: tuple(int(state is other) for other in State) for state in State}
_STATES: Final = Shape("gaia_target_state", tuple(Line(labels=(("state", state.value),)) for state in State))
# Duration, last run, lag, missed, interval, info, reason, and the states.
_ALWAYS: Final = 7 + len(State)
# So many targets are written at a time: together a few tenths of a millisecond of work.
_AT_A_TIME: Final = 24


class TargetSeries:
    """Counts what the looks at every target found, and writes it for `document`; used on the event loop.

    Nothing is kept as text: what a target's latest look found is read from the look itself, so that a
    target costs some hundred bytes here, however many series it has.
    """

    def __init__(
        self, document: Document, measures: Iterable[MeasureInfo], *, edges_s: Iterable[float] = ()
    ) -> None:
        """`measures` are those of every kind of check in use, declared here.

        `edges_s` are the thresholds configured anywhere: each becomes an edge of the latency histogram.
        """
        self._document = document
        self._declared = {metric.name: metric.name for metric in TARGETS}
        self._undeclared: set[str] = set()
        self._edges = tuple(sorted({*LATENCY_EDGES_S, *(float(edge) for edge in edges_s)}))
        self._targets: dict[TargetKey, _Counts] = {}
        self._layouts: dict[LayoutKey, _Shared] = {}
        self._runs: dict[tuple[tuple[State, Reason], ...], _Runs] = {}
        self._now_s = 0.0
        self._writers = self._written_by()
        self.series = 0
        self.declare(measures)
        document.attach(self)

    def declare(self, measures: Iterable[MeasureInfo]) -> None:
        """Add the measures of further kinds of checks."""
        infos = tuple(measures)
        for info in infos:
            self._document.declare(Family(name=info.name, type=Type(info.type), help=info.help))
        self._declared |= {series: info.name for info in infos for series in info.series}
        self._layouts.clear()
        for counts in self._targets.values():
            counts.shared = None
            self._count(counts)

    def place(self, rows: Iterable[Row]) -> None:
        """Take over the targets of a (new) configuration; those that are gone leave no series behind."""
        kept = {row.target.key: row for row in rows}
        for key in self._targets.keys() - kept.keys():
            gone = self._targets.pop(key)
            self.series -= gone.lines
            self._leave(gone)
        for key, counts in self._targets.items():
            counts.row = kept[key]

    def looked(self, look: Look) -> None:
        """Take in one look."""
        key = look.row.target.key
        counts = self._targets.get(key)
        if counts is None:
            counts = self._targets[key] = _Counts(look.row, look.observation)
        counts.row, counts.observation, counts.lag_s = look.row, look.observation, look.lag_s
        counts.missed += look.missed
        finding = look.observation.finding
        self._ran(counts, finding.state, finding.reason)
        if finding.latency_s is not None:
            if counts.buckets is None:
                counts.buckets = array("Q", bytes(8 * (len(self._edges) + 1)))
            counts.buckets[bisect_left(self._edges, finding.latency_s)] += 1
            counts.sum_s += finding.latency_s
            limit_s = look.row.slower_than_s
            if limit_s is not None and finding.latency_s > limit_s:
                # The latest look is its own exemplar; of those before only a slow one is worth its memory.
                counts.slow = exemplar_of(look.observation)
        self._count(counts)

    def aged(self, now_s: float) -> None:
        """Show targets whose last look is too old at `now_s` as unknown; call it before a scrape."""
        self._now_s = now_s

    def lines(self, family: str, form: Format) -> Iterator[tuple[bytes, int]]:
        """The family's lines, some targets at a time, and how many they are."""
        write = self._writers.get(family)
        if family == _LATENCY and form is Format.OPEN_METRICS:
            write = self._with_exemplars
        if write is not None:
            yield from _batches(tuple(self._targets.values()), write)
            return
        for shared in tuple(self._layouts.values()):
            place = shared.layout.places.get(family)
            if place is not None:
                text = place.text
                # A target whose layout changed between two batches is written where it belongs now.
                yield from _batches(
                    tuple(shared.members.values()),
                    lambda counts, shared=shared, text=text: (  # type: ignore[misc]  # defaults bind them
                        text(counts.owner, counts.observation.finding) if counts.shared is shared else ""
                    ),
                )

    def _with_exemplars(self, counts: _Counts) -> str:
        """The histogram as OpenMetrics has it: the latest look and the last slow one lead to their traces."""
        text = self._writers[_LATENCY](counts)
        if not text:
            return text
        lines = text.split("\n")
        for exemplar in (counts.slow, exemplar_of(counts.observation)):
            if exemplar is not None:
                bucket = bisect_left(self._edges, exemplar.value)
                lines[bucket] = lines[bucket].partition(" # ")[0] + exemplar.text()
        return "\n".join(lines)

    def _ran(self, counts: _Counts, state: State, reason: Reason) -> None:
        for index, (known_state, known_reason) in enumerate(counts.runs.pairs):
            if known_state is state and known_reason is reason:
                counts.ran[index] += 1
                return
        pairs = (*counts.runs.pairs, (state, reason))
        runs = self._runs.get(pairs)
        if runs is None:
            runs = self._runs[pairs] = _Runs(pairs, _runs_shape(pairs))
        counts.runs = runs
        counts.ran.append(1)

    def _count(self, counts: _Counts) -> None:
        """Keep the layout and the number of series of one target up to date."""
        finding = counts.observation.finding
        shared = counts.shared
        if shared is None or not shared.layout.fits(finding):
            self._leave(counts)
            shared = counts.shared = self._shared(key_of(counts.row.target.kind, finding))
            shared.members[counts.row.target.key] = counts
        lines = _ALWAYS + len(counts.ran) + shared.layout.lines
        lines += (finding.state.value in _ANSWERED) + (counts.row.slower_than_s is not None)
        lines += counts.row.verdict.since_s > 0
        if counts.buckets is not None:
            lines += len(counts.buckets) + 2
        self.series += lines - counts.lines
        counts.lines = lines

    def _shared(self, key: LayoutKey) -> _Shared:
        shared = self._layouts.get(key)
        if shared is None:
            for name, _ in key[2]:
                if name not in self._declared and name not in self._undeclared:
                    self._undeclared.add(name)
                    logger.warning("exposition.measure_undeclared", extra={"measure": name})
            shared = self._layouts[key] = _Shared(layout_of(key, self._declared), {})
        return shared

    def _leave(self, counts: _Counts) -> None:
        if counts.shared is not None:
            members = counts.shared.members
            members.pop(counts.row.target.key, None)
            if not members:
                self._layouts.pop(counts.shared.layout.key, None)
            counts.shared = None

    def _written_by(self) -> dict[str, Callable[[_Counts], str]]:
        latency = histogram_shape(_LATENCY, self._edges)

        def histogram(counts: _Counts) -> str:
            if counts.buckets is None:
                return ""
            buckets = tuple(accumulate(counts.buckets))
            return latency.text(counts.owner, (*buckets, buckets[-1], counts.sum_s))

        def state(counts: _Counts) -> str:
            return _STATES.text(counts.owner, _ONE_HOT[counts.row.shown(self._now_s).state.value])

        def reason(counts: _Counts) -> str:
            reason = counts.row.shown(self._now_s).reason.value
            return f'gaia_target_reason{{{counts.owner},reason="{reason}"}} 1\n'

        def since(counts: _Counts) -> float | None:
            return counts.row.shown(self._now_s).since_s if counts.row.verdict.since_s else None

        singles: dict[str, Callable[[_Counts], float | None]] = {
            "probe_success": lambda counts: _ANSWERED.get(counts.observation.finding.state.value),
            "probe_duration_seconds": lambda counts: counts.observation.duration_s,
            "gaia_target_since_timestamp_seconds": since,
            "gaia_target_slower_than_seconds": lambda counts: counts.row.slower_than_s,
            "gaia_probe_last_run_timestamp_seconds": lambda counts: counts.observation.at_s,
            "gaia_probe_interval_seconds": lambda counts: counts.row.interval_s,
            "gaia_probe_schedule_lag_seconds": lambda counts: counts.lag_s,
            "gaia_probe_missed_total": lambda counts: counts.missed,
        }
        return {name: _single(name, value) for name, value in singles.items()} | {
            "gaia_target_state": state,
            "gaia_target_reason": reason,
            "gaia_target_info": lambda counts: (
                f'gaia_target_info{{{counts.owner},kind="{counts.row.target.kind.value}"}} 1\n'
            ),
            _LATENCY: histogram,
            "gaia_probe_runs_total": lambda counts: counts.runs.shape.text(counts.owner, tuple(counts.ran)),
        }


class _Runs(Struct, frozen=True, eq=False):
    """Which states and reasons were found, in order of appearance, and their lines."""

    pairs: tuple[tuple[State, Reason], ...]
    shape: Shape


class _Shared(Struct, frozen=True, eq=False):
    """A layout and the targets whose latest finding has it."""

    layout: Layout
    members: dict[TargetKey, _Counts]


_NO_RUNS: Final = _Runs((), Shape("gaia_probe_runs_total", ()))


class _Counts:
    """What accumulates over the looks of one target."""

    __slots__ = (
        "buckets",
        "lag_s",
        "lines",
        "missed",
        "observation",
        "owner",
        "ran",
        "row",
        "runs",
        "shared",
        "slow",
        "sum_s",
    )

    def __init__(self, row: Row, observation: Observation) -> None:
        key = row.target.key
        self.owner = label_text(
            (("env", key.env), ("service", key.service), ("check", key.check), ("vantage", key.vantage))
        )
        self.row = row
        self.observation = observation
        self.lag_s = 0.0
        self.missed = 0
        self.buckets: array[int] | None = None
        self.sum_s = 0.0
        self.runs = _NO_RUNS
        self.ran = array("Q")
        self.shared: _Shared | None = None
        self.slow: Exemplar | None = None
        self.lines = 0


def exemplar_of(observation: Observation) -> Exemplar | None:
    """The trace of a look that measured a latency: the service's own spans of it have the same id."""
    finding = observation.finding
    if finding.latency_s is None:
        return None
    for fact in finding.evidence:
        if fact.name == "trace_id":
            return Exemplar(
                labels=(("trace_id", fact.value),), value=finding.latency_s, at_s=observation.at_s
            )
    return None


def _runs_shape(pairs: tuple[tuple[State, Reason], ...]) -> Shape:
    labels = ((("result", state.value), ("reason", reason.value)) for state, reason in pairs)
    return Shape("gaia_probe_runs_total", tuple(Line(labels=one) for one in labels))


def _single(name: str, value_of: Callable[[_Counts], float | None]) -> Callable[[_Counts], str]:
    def write(counts: _Counts) -> str:
        value = value_of(counts)
        return "" if value is None else f"{name}{{{counts.owner}}} {value!r}\n"

    return write


def _batches(targets: tuple[_Counts, ...], write: Callable[[_Counts], str]) -> Iterator[tuple[bytes, int]]:
    for start in range(0, len(targets), _AT_A_TIME):
        text = "".join(map(write, targets[start : start + _AT_A_TIME]))
        if text:
            yield text.encode(), text.count("\n")
