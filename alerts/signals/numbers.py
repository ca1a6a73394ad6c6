"""Signals read from what checks measured."""

from __future__ import annotations

from collections.abc import Iterable

from alerts.reading import Outcome, Reading, Unknown, unknown
from alerts.rule import BackupAgeRule, MeasureRule, quantity
from alerts.watch import Watch
from checks.finding import Measure, State
from checks.units import Duration

_RECOVERY_SHARE = 0.9
BACKUP_AGE_MEASURES = ("gaia_backup_age_seconds",)


def measure(rule: MeasureRule, watch: Watch, now_s: float, *, firing: bool) -> Reading:
    """The worst matching series of a measure against the rule's threshold."""
    latest = watch.latest
    if latest is None or not watch.fresh(now_s):
        return unknown(Unknown.STALE, 0.0 if latest is None else latest.at_s, "no fresh measurement")
    if rule.increase_over is None:
        values = [item.value for item in latest.finding.measures if _selected(rule, item)]
    else:
        values = _increases(rule, watch, now_s)
    if not values:
        why = Unknown.ASLEEP if latest.finding.state is State.ASLEEP else Unknown.STALE
        return unknown(why, latest.at_s, f"{rule.measure} was not measured")
    return _compare(rule, values, latest.at_s, firing=firing)


def _compare(rule: MeasureRule, values: list[float], at_s: float, *, firing: bool) -> Reading:
    if rule.above is not None:
        threshold = quantity(rule.above)
        default = threshold * _RECOVERY_SHARE
        recover = default if rule.recover_at is None else quantity(rule.recover_at)
        value = max(values)
        bad = value >= recover if firing and recover < threshold else value > threshold
        relation = "over" if value > threshold else "limit"
        written = rule.above
    else:
        assert rule.below is not None
        threshold = quantity(rule.below)
        recover = threshold / _RECOVERY_SHARE if rule.recover_at is None else quantity(rule.recover_at)
        value = min(values)
        bad = value <= recover if firing and recover > threshold else value < threshold
        relation = "under" if value < threshold else "limit"
        written = rule.below
    grew = f" more in {rule.increase_over}" if rule.increase_over is not None else ""
    text = f"{rule.measure} is {_shown(value, written)}{grew}, {relation} {written}"
    return Reading(
        outcome=Outcome.BAD if bad else Outcome.GOOD, at_s=at_s, text=text, value=value, threshold=threshold
    )


def _shown(value: float, written: float | str) -> str:
    if isinstance(written, str) and written.endswith("%"):
        return f"{value * 100:.3g}%"
    if isinstance(written, str) and not written[-1].isdigit() and written[-1] in "smhdw":
        return str(Duration(round(value, 3)))
    return f"{value:.4g}"


def _selected(rule: MeasureRule, item: Measure) -> bool:
    if item.name != rule.measure:
        return False
    labels = dict(item.labels)
    return all(labels.get(name) == value for name, value in rule.where.items())


def _increases(rule: MeasureRule, watch: Watch, now_s: float) -> list[float]:
    assert rule.increase_over is not None
    since_s = now_s - rule.increase_over
    wanted = rule.where.items()
    return [
        increase(points, since_s)
        for (name, labels), points in watch.history.items()
        if name == rule.measure and all(dict(labels).get(key) == value for key, value in wanted)
    ]


def increase(points: Iterable[tuple[float, float]], since_s: float) -> float:
    """The growth since the last point at or before `since_s`; a counter that fell started again from 0."""
    before: float | None = None
    grown = 0.0
    for at_s, value in points:
        if before is not None and at_s > since_s:
            grown += value - before if value >= before else value
        before = value
    return grown


def backup_age(rule: BackupAgeRule, watch: Watch, now_s: float) -> Reading:
    """The newest backup's age, or the verdict of the check that looks after backups."""
    latest = watch.latest
    if latest is None:
        return unknown(Unknown.STALE, 0.0, "no look has finished yet")
    ages = [item.value for item in latest.finding.measures if item.name in BACKUP_AGE_MEASURES]
    if ages:
        # An age keeps growing between looks; a stale look makes it an underestimate, never a false alarm.
        age_s = max(ages) + max(0.0, now_s - latest.at_s)
        if age_s > rule.older_than:
            return Reading(
                outcome=Outcome.BAD,
                at_s=latest.at_s,
                text=f"the newest backup is {Duration(round(age_s))} old, limit {rule.older_than}",
                value=age_s,
                threshold=float(rule.older_than),
            )
    verdict = watch.verdict
    if verdict.state in (State.UNKNOWN, State.STARTING):
        return unknown(Unknown.STALE, latest.at_s, verdict.message)
    bad = verdict.reason.value.startswith("backup.") and verdict.state in (State.DOWN, State.DEGRADED)
    return Reading(
        outcome=Outcome.BAD if bad else Outcome.GOOD, at_s=latest.at_s, text=verdict.message, looks=2
    )
