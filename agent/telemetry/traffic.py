"""Every service's real requests, each counted by exactly one witness.

The rule: a service's own histogram, scraped, is the best witness (all requests, no sampling); its histogram
pushed over OTLP is the second; spans are the third. The best witness heard within `release_after_s` owns the
service; the others are kept for display and judged by nobody. When the owner falls silent the next takes over
from that moment on, and back: what one witness counted while another owned is never counted again.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from msgspec import Struct

from agent.telemetry.red import RedView, RedWindow, RequestTotals, RouteCounts, merge
from alerts.requests import RequestSample

RELEASE_AFTER_S: Final = 90.0
MAX_SERVICES: Final = 1000
_ENOUGH_TO_COMPARE: Final = 100


class Witness(IntEnum):
    """Who counted the requests, best first."""

    SCRAPE = 0
    METRICS = 1
    SPANS = 2


class _Source(Struct):
    incarnation: str
    base: Mapping[str, RouteCounts]
    epoch: int = 0


class _Service(Struct):
    window: RedWindow
    heard_s: dict[Witness, float]
    sources: dict[tuple[Witness, str], _Source]
    # What each witness counted since another did too: how much of the whole its numbers are.
    counted: dict[Witness, int]
    totals: dict[tuple[Witness, str], tuple[str, int]]
    owner: Witness | None = None
    # Counts ownership changes: a source judged in an older term starts from where it stands now.
    term: int = 0


class Traffic:
    """Takes counters from every witness and gives out samples for the rules and views for the page."""

    def __init__(
        self,
        *,
        env: str,
        slower_than_s: Mapping[str, float] | None = None,
        release_after_s: float = RELEASE_AFTER_S,
    ) -> None:
        self._env = env
        self._slower_than_s = slower_than_s or {}
        self._release_after_s = release_after_s
        self._services: dict[str, _Service] = {}

    def take(
        self, *, service: str, witness: Witness, source: str, totals: RequestTotals
    ) -> RequestSample | None:
        """Counters of one source at one moment: the sample to judge, None when a better witness owns them."""
        state = self._services.get(service)
        if state is None:
            if len(self._services) >= MAX_SERVICES:
                return None
            window = RedWindow(service, slower_than_s=self._slower_than_s.get(service, 2.0))
            state = self._services[service] = _Service(window, {}, {}, {}, {})
        state.heard_s[witness] = totals.at_s
        self._compare(state, (witness, source), totals)
        owner = min(who for who, at_s in state.heard_s.items() if at_s > totals.at_s - self._release_after_s)
        if owner is not state.owner:
            state.term += state.owner is not None
            state.owner = owner
        if witness is not owner:
            return None
        own = self._rebased(state, (witness, source), totals)
        state.window.add(source, own)
        return _sample(self._env, service, source, own)

    def coverage(self, service: str) -> float | None:
        """The share of a service's requests that its spans show, by its own histogram; None if unknown.

        Head sampling leaves no mark on a span unless the sampler writes `ot=th`: this is how it shows.
        """
        state = self._services.get(service)
        if state is None:
            return None
        whole = max(state.counted.get(Witness.SCRAPE, 0), state.counted.get(Witness.METRICS, 0))
        if whole < _ENOUGH_TO_COMPARE:
            return None
        return min(1.0, state.counted.get(Witness.SPANS, 0) / whole)

    def _compare(self, state: _Service, key: tuple[Witness, str], totals: RequestTotals) -> None:
        """Add what one source counted since its last sample, once spans and a histogram are both there."""
        whole = sum(counts.total for counts in totals.routes.values())
        born, before = state.totals.get(key, ("", whole))
        state.totals[key] = (totals.incarnation, whole)
        both = Witness.SPANS in state.heard_s and len(state.heard_s) > 1
        if both and born == totals.incarnation and whole >= before:
            state.counted[key[0]] = state.counted.get(key[0], 0) + whole - before

    def forget(self, *, service: str, source: str) -> None:
        """A source is gone for good, such as an instance that was removed."""
        state = self._services.get(service)
        if state is not None:
            state.window.forget(source)
            for witness in Witness:
                state.sources.pop((witness, source), None)
                state.totals.pop((witness, source), None)

    def view(self, service: str, *, now_s: float, window_s: float = 300.0) -> RedView | None:
        """Rate, errors, duration of one service; None when nobody ever reported it."""
        state = self._services.get(service)
        return state.window.view(now_s=now_s, window_s=window_s) if state else None

    def owner(self, service: str) -> Witness | None:
        """Whose numbers are judged now."""
        state = self._services.get(service)
        return state.owner if state else None

    def services(self) -> tuple[str, ...]:
        """Every service whose requests were ever reported."""
        return tuple(sorted(self._services))

    def _rebased(self, state: _Service, key: tuple[Witness, str], totals: RequestTotals) -> RequestTotals:
        source = state.sources.get(key)
        if source is None:
            # Born into a later term, it may have counted what another witness did: from here on, then.
            fresh = state.term == 0
            source = _Source(totals.incarnation, {} if fresh else totals.routes, state.term)
            state.sources[key] = source
        elif source.epoch != state.term:
            source.incarnation, source.base, source.epoch = totals.incarnation, totals.routes, state.term
        elif source.incarnation != totals.incarnation:
            source.incarnation, source.base = totals.incarnation, {}
        if not source.base and not source.epoch:
            return totals
        return RequestTotals(
            at_s=totals.at_s,
            incarnation=f"{totals.incarnation}/{source.epoch}",
            routes={route: _minus(counts, source.base.get(route)) for route, counts in totals.routes.items()},
            born_s=totals.born_s if not source.base else None,
        )


def _minus(counts: RouteCounts, base: RouteCounts | None) -> RouteCounts:
    if base is None:
        return counts
    known = dict(base.buckets)
    return RouteCounts(
        total=counts.total - base.total,
        errors=counts.errors - base.errors,
        buckets=tuple((edge, count - known.get(edge, 0)) for edge, count in counts.buckets),
    )


def _sample(env: str, service: str, source: str, totals: RequestTotals) -> RequestSample:
    whole = merge(totals.routes.values())
    return RequestSample(
        env=env,
        service=service,
        source=source,
        at_s=totals.at_s,
        incarnation=totals.incarnation,
        total=whole.total,
        errors=whole.errors,
        buckets=whole.buckets,
        born_s=totals.born_s,
    )
