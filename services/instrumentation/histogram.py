"""Histograms of durations that cost a fraction of a microsecond: plain numbers, read when scraped."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

Labels = tuple[str | int, ...]


class _Series:
    """One combination of labels: a count per bucket (not cumulated), their sum, and the last exemplars."""

    __slots__ = ("counts", "exemplars", "total_s")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.total_s = 0.0
        self.exemplars: dict[int, Exemplar] = {}


class Histogram:
    """Durations by label values. One thread observes and renders: the event loop's, so it needs no lock.

    prometheus_client's own takes two locks and walks the edges: 1.5 us where this takes 0.4.
    """

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        *,
        edges_s: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name = name
        self._text = text
        self._labels = tuple(labels)
        self._edges_s = tuple(edges_s)
        self._bounds: Final = (*map(floatToGoString, self._edges_s), "+Inf")
        self._series: dict[Labels, _Series] = {} if labels else {(): _Series(len(self._bounds))}
        registry.register(self)

    def observe(self, labels: Labels, duration_s: float, trace_id: str | None = None) -> None:
        """Count one duration; `trace_id` becomes its bucket's exemplar. `labels` must be bounded."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = _Series(len(self._bounds))
        # An edge belongs to its own bucket: `le` is less or equal.
        bucket = bisect_left(self._edges_s, duration_s)
        series.counts[bucket] += 1
        series.total_s += duration_s
        if trace_id is not None:
            series.exemplars[bucket] = Exemplar({"trace_id": trace_id}, duration_s, time.time())

    def remove(self, gone: Callable[[Labels], bool]) -> None:
        """Drop every series whose labels `gone` names."""
        for labels in [labels for labels in self._series if gone(labels)]:
            del self._series[labels]

    def describe(self) -> Iterator[HistogramMetricFamily]:
        """The family without samples: the registry asks at registration, for the names."""
        yield HistogramMetricFamily(self._name, self._text, labels=self._labels)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for labels, series in self._series.items():
            reached = 0
            buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
            for number, bound in enumerate(self._bounds):
                reached += series.counts[number]
                exemplar = series.exemplars.get(number)
                buckets.append((bound, reached) if exemplar is None else (bound, reached, exemplar))
            family.add_metric([str(label) for label in labels], buckets, series.total_s)
        yield family
