"""Which rules call, who acts on it, and what a threshold would have spared: the week in numbers. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Final

from msgspec import Struct

from alerts.rule import ErrorRatioRule, Rule, Severity, SlowRequestRatioRule
from alerts.told import STORM, Told
from checks.units import Duration, Ratio

_SOON_OVER_S: Final = 300.0
_NIGHT: Final = range(7)  # From 0 to 7 o'clock, UTC.
# Fewer episodes than these say nothing about a threshold.
_ENOUGH: Final = 4
_WORTH: Final = 1 / 3


class Past(Struct, frozen=True, kw_only=True):
    """One episode as told: its value when it fired, and whether somebody silenced it."""

    told: Told
    value: float | None = None
    silenced: bool = False

    @property
    def acted(self) -> bool:
        """Whether somebody took it or silenced it."""
        return bool(self.told.acked_by) or self.silenced

    @property
    def lasted_s(self) -> float | None:
        """How long it was open; None while it is."""
        return None if self.told.resolved_at_s is None else self.told.resolved_at_s - self.told.fired_at_s


class RuleNoise(Struct, frozen=True, kw_only=True):
    """One rule's calls. `acted` were taken or silenced, `soon_over` ended alone within five minutes."""

    alertname: str
    severity: str
    calls: int
    at_night: int
    acted: int
    soon_over: int
    components: tuple[str, ...]
    median_lasted_s: float | None
    median_taken_s: float | None
    suggestion: str


class NoiseReport(Struct, frozen=True, kw_only=True):
    """The noisiest rule first; `never` are the rules that call somebody and have not."""

    env: str
    from_s: float
    to_s: float
    pages: int
    chats: int
    acted: int
    rules: tuple[RuleNoise, ...]
    never: tuple[str, ...]


def noise(
    past: Iterable[Past], rules: Mapping[str, Rule], *, env: str, from_s: float, to_s: float
) -> NoiseReport:
    """What was told between two wall seconds, by rule."""
    by_name: dict[str, list[Past]] = {}
    for one in past:
        if from_s <= one.told.fired_at_s < to_s:
            name = "many_at_once" if one.told.fingerprint == STORM else one.told.alertname
            by_name.setdefault(name, []).append(one)
    found = [_of(name, episodes, rules.get(name)) for name, episodes in by_name.items()]
    found.sort(key=lambda one: (-(one.calls - one.acted), -one.calls, one.alertname))
    every = [one for episodes in by_name.values() for one in episodes]
    pages = sum(one.told.severity is Severity.PAGE for one in every)
    return NoiseReport(
        env=env,
        from_s=from_s,
        to_s=to_s,
        pages=pages,
        chats=len(every) - pages,
        acted=sum(one.acted for one in every),
        rules=tuple(found),
        never=tuple(
            sorted(
                name
                for name, rule in rules.items()
                if name not in by_name and rule.severity is not Severity.LOG
            )
        ),
    )


def _of(name: str, episodes: list[Past], rule: Rule | None) -> RuleNoise:
    lasted = [one.lasted_s for one in episodes if one.lasted_s is not None]
    taken = [one.told.acked_at_s - one.told.told_at_s for one in episodes if one.told.acked_by]
    ignored = [one for one in episodes if not one.acted]
    return RuleNoise(
        alertname=name,
        severity=episodes[-1].told.severity.value,
        calls=len(episodes),
        at_night=sum(int(one.told.fired_at_s % 86400 // 3600) in _NIGHT for one in episodes),
        acted=len(episodes) - len(ignored),
        soon_over=sum(one.lasted_s is not None and one.lasted_s < _SOON_OVER_S for one in ignored),
        components=tuple(dict.fromkeys(one.told.component for one in episodes if one.told.component)),
        median_lasted_s=median(lasted) if lasted else None,
        median_taken_s=median(taken) if taken else None,
        suggestion=suggestion(episodes, rule) if rule is not None else "",
    )


def suggestion(episodes: list[Past], rule: Rule) -> str:
    """A threshold, or a longer `for`, that spares at least a third of what nobody acted on, and no other."""
    ignored = [one for one in episodes if not one.acted]
    if len(ignored) < _ENOUGH:
        return ""
    return _by_value(episodes, ignored, rule) or _by_time(episodes, ignored, rule)


def _by_value(episodes: list[Past], ignored: list[Past], rule: Rule) -> str:
    if not isinstance(rule, SlowRequestRatioRule | ErrorRatioRule):
        return ""
    values = sorted(one.value for one in ignored if one.value is not None)
    needed = [one.value for one in episodes if one.acted]
    if len(values) < _ENOUGH or None in needed:
        return ""
    # Just above four of five of what was ignored, but below everything that somebody acted on.
    wanted = _rounded_up(values[(len(values) * 4) // 5 - 1])
    least = min((value for value in needed if value is not None), default=None)
    if least is not None and wanted >= least:
        wanted = _rounded_down(least)
    spared = sum(value <= wanted for value in values)
    if wanted <= rule.above or wanted >= 1 or spared < len(ignored) * _WORTH:
        return ""
    return f"above: {Ratio(wanted)} {_spares(spared, ignored)}"


def _by_time(episodes: list[Past], ignored: list[Past], rule: Rule) -> str:
    lasted = sorted(one.lasted_s for one in ignored if one.lasted_s is not None)
    needed = [one.lasted_s for one in episodes if one.acted and one.lasted_s is not None]
    if len(lasted) < _ENOUGH or rule.for_ >= _SOON_OVER_S:
        return ""
    longer_s = 30.0 * (lasted[(len(lasted) * 4) // 5 - 1] // 30 + 1)
    if longer_s > _SOON_OVER_S or (needed and longer_s >= min(needed)):
        return ""
    spared = sum(value < longer_s for value in lasted)
    wanted = Duration(rule.for_ + longer_s)
    return f"for: {wanted} {_spares(spared, ignored)}"


def _spares(spared: int, ignored: list[Past]) -> str:
    return f"would have spared {spared} of {len(ignored)} that nobody acted on, and no other"


def _rounded_up(value: float) -> float:
    return (int(value * 100) + 1) / 100


def _rounded_down(value: float) -> float:
    return int(value * 100 - 1e-9) / 100
