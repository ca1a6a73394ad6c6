"""CPU of one scrape with 1,000, 10,000 and 50,000 series, beside prometheus_client in the same run."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from statistics import median

from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from agent.board import Row
from agent.exposition.document import Document
from agent.exposition.metrics import LATENCY_EDGES_S, METRICS
from agent.exposition.negotiation import Format
from agent.exposition.target_series import TargetSeries
from agent.prober import Look
from checks.finding import Finding, Phase, PhaseTime, State
from checks.observation import Observation
from checks.reason import Reason
from checks.target import Kind, Target, TargetKey
from checks.verdict import Verdict

_NAMES = ("env", "service", "check", "vantage")
_ROUNDS = 7
_LIMITS_MS = {10_000: 5.0, 50_000: 25.0}
# What each target of prometheus_client's arm has.
_THEIR_SERIES = len(LATENCY_EDGES_S) + 3 + len(State)


class Ours:
    """The series of so many targets, each looked at three times."""

    def __init__(self, wanted: int) -> None:
        self.document = Document(metric.family for metric in METRICS)
        self._series = TargetSeries(self.document, ())
        self._random = random.Random(7)
        number = 0
        while self.document.series < wanted:
            target = Target(key=TargetKey(**dict(_labels(number))), kind=Kind.SERVICE, address="http://s/")
            row = Row(target=target, interval_s=10, slower_than_s=2.0)
            for _ in range(3):
                self._look(row)
            number += 1

    def _look(self, row: Row) -> None:
        latency_s = self._random.random()
        finding = Finding(
            state=State.UP,
            reason=Reason.OK,
            message="200",
            latency_s=latency_s,
            phases=(
                PhaseTime(phase=Phase.CONNECT, duration_s=latency_s / 3),
                PhaseTime(phase=Phase.PROCESSING, duration_s=latency_s / 2),
                PhaseTime(phase=Phase.TRANSFER, duration_s=latency_s / 7),
            ),
        )
        seen = Observation(target=row.target, at_s=1.8e9 + latency_s, duration_s=latency_s, finding=finding)
        row.latest, row.verdict = seen, Verdict(state=State.UP, reason=Reason.OK, since_s=1.8e9)
        self._series.looked(
            Look(row=row, observation=seen, before=row.verdict, verdict=row.verdict, lag_s=1e-3, missed=0)
        )

    def scrape(self) -> None:
        self._series.aged(1.8e9 + 5)
        for _ in self.document.render(Format.TEXT):
            pass


def _labels(number: int) -> tuple[tuple[str, str], ...]:
    return (("env", "production"), ("service", f"service-{number}"), ("check", "http"), ("vantage", "fra"))


def _theirs(wanted: int) -> CollectorRegistry:
    registry = CollectorRegistry()
    latency = Histogram("latency_seconds", "", _NAMES, registry=registry, buckets=LATENCY_EDGES_S)
    state = Gauge("state", "", (*_NAMES, "state"), registry=registry)
    for number in range(wanted // _THEIR_SERIES + 1):
        values = dict(_labels(number))
        latency.labels(**values).observe(0.1)
        for name in State:
            state.labels(**values, state=name.value).set(0)
    return registry


def _cpu_ms(work: Callable[[], object]) -> float:
    """Median CPU milliseconds of `work` over some rounds."""
    times = []
    for _ in range(_ROUNDS):
        start = time.process_time()
        work()
        times.append((time.process_time() - start) * 1000)
    return median(times)


async def _stall_ms(document: Document) -> float:
    """The longest the event loop is held while a scrape is streamed with gzip, in CPU milliseconds."""
    worst, last = 0.0, time.thread_time()
    async for _ in document.stream(Format.TEXT, gzip=True):
        now = time.thread_time()
        worst, last = max(worst, now - last), now
    return worst * 1000


async def _drain(document: Document) -> None:
    async for _ in document.stream(Format.TEXT, gzip=True):
        pass


def main() -> None:
    """Every number is written anew by every scrape; nothing is kept as text between two."""
    print(f"{'series':>7} {'scrape':>10} {'+ gzip':>10} {'stall':>8} {'prometheus_client':>20} {'ratio':>6}")
    for wanted in (1_000, 10_000, 50_000):
        ours = Ours(wanted)
        scrape = _cpu_ms(ours.scrape)
        packed = _cpu_ms(lambda document=ours.document: asyncio.run(_drain(document)))  # type: ignore[misc]  # bound now
        stall = asyncio.run(_stall_ms(ours.document))
        registry = _theirs(wanted)
        peer = _cpu_ms(lambda registry=registry: generate_latest(registry))  # type: ignore[misc]  # bound now
        limit = _LIMITS_MS.get(wanted)
        told = f"limit {limit:g} ms: {'kept' if scrape <= limit else 'MISSED'}" if limit is not None else ""
        print(
            f"{ours.document.series:>7} {scrape:>7.1f} ms {packed:>7.1f} ms {stall:>5.1f} ms "
            f"{peer:>17.1f} ms {peer / scrape:>5.0f}x   {told}"
        )
