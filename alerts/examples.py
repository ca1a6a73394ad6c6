"""One request, log line or look to look at for each alert: what a number cannot say, its trace can."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from alerts.instance import Instance
from alerts.requests import ErrorLog, RequestExample
from alerts.rule import (
    BurnRateRule,
    ErrorLogRateRule,
    ErrorRatioRule,
    NewErrorLogRule,
    Rule,
    SlowRequestRatioRule,
)
from alerts.watch import Watch
from alerts.words import clock

_FRESH_S = 900.0
_SLOWEST_FOR_S = 60.0


class Example(Struct, frozen=True, kw_only=True):
    """One event behind an alert; `trace_id` is empty where it has none."""

    words: str
    trace_id: str
    at_s: float

    @property
    def text(self) -> str:
        """For people: what, when, and where to look on."""
        trace = f", trace {self.trace_id}" if self.trace_id else ""
        return f"{self.words} at {clock(self.at_s)}{trace}"


class Examples:
    """The newest failed request, the slowest lately and the newest ERROR line of each service."""

    def __init__(self, watches: Mapping[str, list[Watch]]) -> None:
        self._watches = watches
        self._failed: dict[str, RequestExample] = {}
        self._slow: dict[str, RequestExample] = {}
        self._logged: dict[str, ErrorLog] = {}

    def request(self, example: RequestExample) -> None:
        """Take in a request that failed or was slow."""
        if example.failed:
            self._failed[example.service] = example
        known = self._slow.get(example.service)
        slower = known is None or example.duration_s >= known.duration_s
        if slower or (known is not None and known.at_s < example.at_s - _SLOWEST_FOR_S):
            self._slow[example.service] = example

    def logged(self, event: ErrorLog) -> None:
        """Take in ERROR log events."""
        self._logged[event.service] = event

    def of(self, instance: Instance, now_s: float) -> Example | None:
        """What to show beside an alert; None when nothing fresh is known."""
        found = self._of(instance.rule, instance)
        return found if found is not None and now_s - found.at_s <= _FRESH_S else None

    def _of(self, rule: Rule, instance: Instance) -> Example | None:
        match rule:
            case SlowRequestRatioRule():
                return _told(self._slow.get(instance.component))
            case BurnRateRule() if rule.slower_than is not None:
                return _told(self._slow.get(instance.component))
            case ErrorRatioRule() | BurnRateRule():
                return _told(self._failed.get(instance.component))
            case ErrorLogRateRule() | NewErrorLogRule():
                event = self._logged.get(instance.component)
                if event is None:
                    return None
                return Example(words=event.sample, trace_id=event.trace_id, at_s=event.at_s)
            case _:
                return self._looked(instance)

    def _looked(self, instance: Instance) -> Example | None:
        """The look behind a verdict, where it carried a trace id of the agent's."""
        for watch in self._watches.get(instance.component, ()):
            seen = watch.verdict.observation
            if watch.target.key != instance.key or seen is None:
                continue
            for fact in seen.finding.evidence:
                if fact.name == "trace_id":
                    words = f"our look at {watch.target.address}"
                    return Example(words=words, trace_id=fact.value, at_s=seen.at_s)
        return None


def took(seconds: float) -> str:
    """A request's duration as people read it: `0.08 ms`, `20 ms`, `3.2 s`."""
    if seconds >= 1:
        return f"{seconds:.3g} s"
    return f"{seconds * 1000:.3g} ms" if seconds >= 1e-4 else f"{seconds * 1000:.2f} ms"


def _told(example: RequestExample | None) -> Example | None:
    if example is None:
        return None
    answered = f"answered {example.status}" if example.status else "failed" if example.failed else "ended"
    what = " ".join(filter(None, (example.method, example.route)))
    words = f"{what} {answered} after {took(example.duration_s)}"
    return Example(words=words, trace_id=example.trace_id, at_s=example.at_s)
