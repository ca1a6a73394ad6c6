"""One rule at one place: its identity, which never changes, and where it stands, which does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from msgspec import Struct, field

from alerts.machine import Pace, Standing
from alerts.plan import JudgePlan
from alerts.reading import Reading, Unknown, unknown
from alerts.rule import (
    BackupAgeRule,
    BurnRateRule,
    ConnectionFailuresRule,
    ErrorLogRateRule,
    ErrorRatioRule,
    MachinesBelowMinRule,
    MeasureRule,
    NewErrorLogRule,
    NoDataRule,
    Rule,
    SlowProbesRule,
    SlowRequestRatioRule,
    TargetStateRule,
)
from checks.finding import State
from checks.target import Kind, Target, TargetKey

_TRAFFIC: Final = (ErrorRatioRule, SlowRequestRatioRule, BurnRateRule)
_LOGS: Final = (ErrorLogRateRule, NewErrorLogRule)
# What these look at shows only in the findings: the alert comes to be when it is first seen.
_SEEN_FIRST: Final = (MeasureRule, MachinesBelowMinRule, BackupAgeRule)
_LONGEST_S: Final = 3600.0
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
    by_looks: bool = False

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


def enumerate_instances(plan: JudgePlan) -> Iterable[Instance]:
    """Every alert that can be known before anything is seen."""
    services = {target.key.service: target for target in plan.targets if target.kind is Kind.SERVICE}
    several = _several_vantages(plan.targets)
    for name, rule in plan.rules.items():
        if isinstance(rule, _TRAFFIC + _LOGS):
            source = Source.LOGS if isinstance(rule, _LOGS) else Source.TRAFFIC
            for service, target in services.items():
                if _selects(rule, target, ignore_check=True):
                    yield _instance(plan, name, rule, source, service, target.kind, {})
        elif not isinstance(rule, _SEEN_FIRST):
            for target in plan.targets:
                if _selects(rule, target):
                    yield of_target(plan, name, rule, target, several=several)


def seen_first(rules: dict[str, Rule]) -> dict[str, Rule]:
    """The rules whose alerts come to be when a finding first shows what they look at."""
    return {name: rule for name, rule in rules.items() if isinstance(rule, _SEEN_FIRST)}


def of_target(
    plan: JudgePlan, name: str, rule: Rule, target: Target, *, several: frozenset[tuple[str, str]]
) -> Instance:
    """The alert of one rule on one target."""
    place = {"check": target.key.check}
    if (target.key.service, target.key.check) in several:
        place["vantage"] = target.key.vantage
    made = _instance(plan, name, rule, Source.TARGET, target.key.service, target.kind, place)
    made.key = target.key
    made.pace = pace_of(rule, plan.interval_of(target.key))
    made.by_looks = _by_looks(rule)
    return made


def _by_looks(rule: Rule) -> bool:
    """Whether plainly good looks are all the rule needs to be good."""
    if isinstance(rule, TargetStateRule):
        return State.UP not in rule.states
    if isinstance(rule, ConnectionFailuresRule):
        return rule.over <= _LONGEST_S
    return isinstance(rule, SlowProbesRule | NoDataRule)


def selects(rule: Rule, target: Target) -> bool:
    """Whether the rule looks at this target."""
    return _selects(rule, target)


def several_vantages(targets: tuple[Target, ...]) -> frozenset[tuple[str, str]]:
    """(service, check) pairs that are looked at from more than one place."""
    return _several_vantages(targets)


def _several_vantages(targets: tuple[Target, ...]) -> frozenset[tuple[str, str]]:
    seen: set[tuple[str, str]] = set()
    several: set[tuple[str, str]] = set()
    for target in targets:
        pair = (target.key.service, target.key.check)
        (several if pair in seen else seen).add(pair)
    return frozenset(several)


def _selects(rule: Rule, target: Target, *, ignore_check: bool = False) -> bool:
    return (
        (not rule.kinds or target.kind in rule.kinds)
        and (not rule.targets or target.key.service in rule.targets)
        and (ignore_check or not rule.checks or target.key.check in rule.checks)
    )


def _instance(
    plan: JudgePlan,
    name: str,
    rule: Rule,
    source: Source,
    component: str,
    kind: Kind,
    place: dict[str, str],
) -> Instance:
    labels = {"alertname": name, "env": plan.env, "service": component, **place}
    return Instance(
        alertname=name,
        rule=rule,
        source=source,
        component=component,
        kind=kind,
        labels=labels,
        fingerprint=fingerprint(labels),
        pace=pace_of(rule, plan.interval_s),
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
