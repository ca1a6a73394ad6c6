"""The rules that look at the same thing, and those of its alerts that ever stirred."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from alerts.instance import Instance, Source, new_instance
from alerts.plan import JudgePlan
from alerts.rule import (
    BurnRateRule,
    ConnectionFailuresRule,
    ContradictionRule,
    ErrorLogRateRule,
    ErrorRatioRule,
    NewErrorLogRule,
    NoDataRule,
    Rule,
    SlowProbesRule,
    SlowRequestRatioRule,
    TargetStateRule,
)
from checks.finding import State
from checks.instances import groups
from checks.target import Kind, Target, TargetKey

_TRAFFIC: Final = (ErrorRatioRule, SlowRequestRatioRule, BurnRateRule)
_LOGS: Final = (ErrorLogRateRule, NewErrorLogRule)
_LONGEST_S: Final = 3600.0

Named = tuple[tuple[str, Rule], ...]


class Rules(Struct, frozen=True, kw_only=True, eq=False):
    """The rules of every target or service that is looked at in the same way: kept once for all of them.

    `restless` are those that plainly good looks do not settle; `disputes` those that need traffic besides.
    """

    by_name: Mapping[str, Rule]
    every: Named
    restless: Named
    disputes: Named


class Duty(Struct, kw_only=True, eq=False):
    """One target, or one service's traffic and logs, or one alert that others judge: evaluated together.

    An alert that was never bad needs nothing but its place here; `awake` are those that need more. Instances
    of one service are one place, `key` that of the first: what is wrong with one is told of the service.
    """

    source: Source
    component: str
    kind: Kind
    rules: Rules
    key: TargetKey | None = None
    vantage: str = ""
    members: tuple[TargetKey, ...] = ()
    awake: tuple[Instance, ...] = ()

    def made(self, plan: JudgePlan, name: str) -> Instance:
        """A fresh alert of the rule `name` at this place."""
        place: dict[str, str] = {}
        if self.key is not None:
            place["check"] = self.key.check
            if self.vantage:
                place["vantage"] = self.vantage
        return new_instance(
            plan,
            name,
            source=self.source,
            component=self.component,
            kind=self.kind,
            place=place,
            key=self.key,
        )


NO_RULES: Final = Rules(by_name={}, every=(), restless=(), disputes=())


def duties(plan: JudgePlan) -> Iterable[Duty]:
    """Every place at which some rule of the plan looks; those of one component side by side.

    So what befalls a component is judged in one pass, and the most urgent of its alerts speaks for it.
    """
    instances = groups(plan.targets)
    further = {one.key for members in instances.values() for one in members[1:]}
    places = tuple(target for target in plan.targets if target.key not in further)
    several = _several_vantages(places)
    shared: dict[tuple[str, ...], Rules] = {}
    by_component: dict[str, list[Target]] = {service: [] for service in plan.services}
    for target in places:
        by_component.setdefault(target.key.service, []).append(target)
    for component, targets in by_component.items():
        yield from _of_service(plan, component, targets, shared)
        for target in targets:
            names = tuple(
                name
                for name, rule in plan.rules.items()
                if not isinstance(rule, _TRAFFIC + _LOGS)
                and _selects(rule, target.kind, component, target.key.check)
            )
            members = tuple(one.key for one in instances.get(target.key, ()))
            ways = (component, target.key.check) in several
            yield Duty(
                source=Source.TARGET,
                component=component,
                kind=target.kind,
                rules=_rules(plan, names, shared),
                key=target.key,
                vantage="" if not ways else "instances" if members else target.key.vantage,
                members=members,
            )


def _of_service(
    plan: JudgePlan, component: str, targets: list[Target], shared: dict[tuple[str, ...], Rules]
) -> Iterable[Duty]:
    if component not in plan.services and not any(one.kind is Kind.SERVICE for one in targets):
        return
    for source, kinds in ((Source.TRAFFIC, _TRAFFIC), (Source.LOGS, _LOGS)):
        names = tuple(
            name
            for name, rule in plan.rules.items()
            if (isinstance(rule, kinds) or (source is Source.TRAFFIC and _must_come(plan, rule, component)))
            and _selects(rule, Kind.SERVICE, component)
        )
        if names:
            rules = _rules(plan, names, shared)
            yield Duty(source=source, component=component, kind=Kind.SERVICE, rules=rules)


def _must_come(plan: JudgePlan, rule: Rule, component: str) -> bool:
    """Whether counters that stop coming are told: only a scrape brings them when there is no traffic too."""
    return isinstance(rule, NoDataRule) and component in plan.scraped


def _rules(plan: JudgePlan, names: tuple[str, ...], shared: dict[tuple[str, ...], Rules]) -> Rules:
    found = shared.get(names)
    if found is None:
        every = tuple((name, plan.rules[name]) for name in names)
        found = shared[names] = Rules(
            by_name=dict(every),
            every=every,
            restless=tuple(pair for pair in every if not _by_looks(pair[1])),
            disputes=tuple(pair for pair in every if isinstance(pair[1], ContradictionRule)),
        )
    return found


def _by_looks(rule: Rule) -> bool:
    """Whether plainly good looks are all the rule needs to be good, as long as there is no traffic."""
    if isinstance(rule, TargetStateRule):
        return State.UP not in rule.states
    if isinstance(rule, ConnectionFailuresRule):
        return rule.over <= _LONGEST_S
    return isinstance(rule, SlowProbesRule | NoDataRule | ContradictionRule)


def _several_vantages(targets: tuple[Target, ...]) -> frozenset[tuple[str, str]]:
    """(service, check) pairs that are looked at from more than one place."""
    seen: set[tuple[str, str]] = set()
    several: set[tuple[str, str]] = set()
    for target in targets:
        pair = (target.key.service, target.key.check)
        (several if pair in seen else seen).add(pair)
    return frozenset(several)


def _selects(rule: Rule, kind: Kind, component: str, check: str | None = None) -> bool:
    """Whether the rule is about this component; `check` None: about what no single check sees."""
    return (
        (not rule.kinds or kind in rule.kinds)
        and (not rule.targets or component in rule.targets)
        and (check is None or not rule.checks or check in rule.checks)
    )
