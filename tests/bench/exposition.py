"""CPU of one scrape with 1,000, 10,000 and 50,000 series, beside prometheus_client in the same run."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from itertools import accumulate
from statistics import median

from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client.exposition import generate_latest

from agent.exposition.document import Document
from agent.exposition.family import Family, Line, Shape, Type, histogram_shape, label_text
from agent.exposition.metrics import LATENCY_EDGES_S
from agent.exposition.negotiation import Format

_LATENCY = "gaia_probe_latency_seconds"
_STATE = "gaia_target_state"
_STATES = ("up", "degraded", "down", "asleep", "starting", "unknown")
_SERIES = len(LATENCY_EDGES_S) + 3 + len(_STATES)
_ROUNDS = 5
_LIMITS_MS = {10_000: 5.0, 50_000: 25.0}


class Ours:
    """A document of the size asked for; `change` is what a round of looks does to it."""

    def __init__(self, targets: int) -> None:
        self._random = random.Random(7)
        self.document = Document(
            (
                Family(name=_LATENCY, type=Type.HISTOGRAM, help=""),
                Family(name=_STATE, type=Type.GAUGE, help=""),
            )
        )
        self._latency = histogram_shape(_LATENCY, LATENCY_EDGES_S)
        self._state = Shape(_STATE, tuple(Line(labels=(("state", state),)) for state in _STATES))
        self._owners = [label_text(labels(number)) for number in range(targets)]

    def change(self) -> None:
        for owner in self._owners:
            counts = tuple(accumulate(self._random.randrange(900) for _ in range(len(LATENCY_EDGES_S) + 1)))
            values = (*counts, counts[-1], self._random.random())
            self.document.put(_LATENCY, owner, self._latency, values)
            self.document.put(_STATE, owner, self._state, (1, 0, 0, 0, 0, 0))

    def scrape(self) -> None:
        for _ in self.document.render(Format.TEXT):
            pass


def labels(number: int) -> tuple[tuple[str, str], ...]:
    return (("env", "production"), ("service", f"service-{number}"), ("check", "http"), ("vantage", "fra"))


def theirs(targets: int) -> CollectorRegistry:
    registry = CollectorRegistry()
    names = ("env", "service", "check", "vantage")
    latency = Histogram(_LATENCY, "", names, registry=registry, buckets=LATENCY_EDGES_S)
    state = Gauge(_STATE, "", (*names, "state"), registry=registry)
    for number in range(targets):
        values = dict(labels(number))
        latency.labels(**values).observe(0.1)
        for name in _STATES:
            state.labels(**values, state=name).set(0)
    return registry


def cpu_ms(work: Callable[[], object], before: Callable[[], object] = lambda: None) -> float:
    """Median CPU milliseconds of `work` over some rounds, each after `before`."""
    times = []
    for _ in range(_ROUNDS):
        before()
        start = time.process_time()
        work()
        times.append((time.process_time() - start) * 1000)
    return median(times)


async def stall_ms(document: Document) -> float:
    """The longest the event loop is held while a scrape is streamed with gzip, in CPU milliseconds."""
    worst, last = 0.0, time.thread_time()
    async for _ in document.stream(Format.TEXT, gzip=True):
        now = time.thread_time()
        worst, last = max(worst, now - last), now
    return worst * 1000


def main() -> None:
    print(f"{'series':>7} {'all changed':>12} {'10 % changed':>13} {'none':>8} {'+ gzip':>8} {'stall':>8} "
          f"{'prometheus_client':>18} {'ratio':>6}   limit")  # fmt: skip
    for wanted in (1_000, 10_000, 50_000):
        targets = wanted // _SERIES + 1
        ours = Ours(targets)
        ours.change()
        dirty = cpu_ms(ours.scrape, ours.change)
        tenth = Ours(max(1, targets // 10))
        part = cpu_ms(tenth.scrape, tenth.change)
        clean = cpu_ms(ours.scrape)
        packed = cpu_ms(lambda document=ours.document: asyncio.run(drain(document)))  # type: ignore[misc]  # bound now
        ours.change()
        stall = asyncio.run(stall_ms(ours.document))
        registry = theirs(targets)
        peer = cpu_ms(lambda registry=registry: generate_latest(registry))  # type: ignore[misc]  # bound now
        limit = _LIMITS_MS.get(wanted)
        told = f"{limit:g} ms: {'kept' if dirty <= limit else 'MISSED'}" if limit is not None else ""
        print(
            f"{ours.document.series:>7} {dirty:>9.1f} ms {part + clean:>10.1f} ms {clean:>5.1f} ms "
            f"{packed:>5.1f} ms {stall:>5.1f} ms {peer:>15.1f} ms {peer / dirty:>5.0f}x   {told}"
        )


async def drain(document: Document) -> None:
    async for _ in document.stream(Format.TEXT, gzip=True):
        pass
