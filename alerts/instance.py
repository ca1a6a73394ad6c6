"""One rule at one place: its identity, which never changes, and where it stands, which does."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from msgspec import Struct, field

from alerts.machine import Pace, Standing
from alerts.plan import JudgePlan
from alerts.reading import Reading, Unknown, unknown
from alerts.rule import (
    BurnRateRule,
    ConnectionFailuresRule,
    ErrorLogRateRule,
    ErrorRatioRule,
    MeasureRule,
    Rule,
    SlowRequestRatioRule,
)
from checks.target import Kind, TargetKey

_NOT_YET: Final = unknown(Unknown.STALE, 0.0, "not evaluated yet")


class Source(StrEnum):
    """Where the evidence comes from."""

    TARGET = "target"
    TRAFFIC = "traffic"
    LOGS = "logs"
    EXTERNAL = "external"


class Instance(Struct, kw_only=True, eq=False):
    """Changed only by the judge. `labels` are identity: never a machine, a value or a time.

    `held` says why a firing alert is not told yet; `inhibited_by` and `silenced_by` name the episode and
    the silence that keep it untold.
    """

    alertname: str
    rule: Rule
    source: Source
    component: str
    kind: Kind
    labels: dict[str, str]
    fingerprint: str
    pace: Pace
    key: TargetKey | None = None
    standing: Standing = field(default_factory=Standing)
    reading: Reading = _NOT_YET
    worst: Reading | None = None
    errors: int = 0
    held: str = ""
    inhibited_by: str = ""
    silenced_by: str = ""
    annotations: dict[str, str] = field(default_factory=dict)
    ends_at_s: float = 0.0

    @property
    def episode(self) -> str:
        """The deduplication key of the present or last firing; empty when it never fired."""
        return episode(self.fingerprint, self.standing.fired_at_s) if self.standing.fired_at_s else ""


def episode(fingerprint: str, fired_at_s: float) -> str:
    """One fire of one alert, the same everywhere and after a restart."""
    return f"{fingerprint}:{round(fired_at_s * 1000)}"


def fingerprint(labels: dict[str, str]) -> str:
    """Identity of a label set: 16 hex digits."""
    text = "\x00".join(f"{name}\x01{labels[name]}" for name in sorted(labels))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def new_instance(
    plan: JudgePlan,
    name: str,
    *,
    source: Source,
    component: str,
    kind: Kind,
    place: Mapping[str, str],
    key: TargetKey | None,
) -> Instance:
    """An alert of the rule `name` that has not been evaluated; `place` are its labels beside the usual."""
    rule = plan.rules[name]
    labels = {"alertname": name, "env": plan.env, "service": component, **place}
    return Instance(
        alertname=name,
        rule=rule,
        source=source,
        component=component,
        kind=kind,
        labels=labels,
        fingerprint=fingerprint(labels),
        pace=pace_of(rule, plan.interval_of(key)),
        key=key,
    )


def pace_of(rule: Rule, interval_s: float) -> Pace:
    """The rule's times as the state machine takes them."""
    return Pace(
        for_s=float(rule.for_),
        keep_firing_s=float(rule.keep_firing_for),
        interval_s=interval_s,
        window_s=memory_s(rule),
        min_good=rule.min_good,
    )


def memory_s(rule: Rule) -> float:
    """How long a past fault stays in the rule's value: a cause that ended explains it that long."""
    if isinstance(rule, ErrorRatioRule | SlowRequestRatioRule):
        return float(rule.and_over if rule.and_over is not None else rule.over)
    if isinstance(rule, BurnRateRule):
        return float(max(window.short for window in rule.windows))
    if isinstance(rule, ConnectionFailuresRule | ErrorLogRateRule):
        return float(rule.over)
    if isinstance(rule, MeasureRule) and rule.increase_over is not None:
        return float(rule.increase_over)
    return 0.0
