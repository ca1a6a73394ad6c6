"""Rules that could never fire, or only by luck: windows, bucket edges, severities."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as MappingType
from functools import cache
from typing import Final

from agent.platform.place import Places
from agent.platform.problem import Problems, nearest
from agent.platform.scope import Scope
from alerts.rule import BurnRateRule, MeasureRule, Rule, SlowRequestRatioRule
from checks.catalog import kind as check_kind
from checks.catalog import names as check_names
from checks.reason import Reason
from checks.units import Duration

# Fewer looks in a window than this and a rate is a guess: with one, it never fires at all.
MIN_INTERVALS: Final = 4


def check_rules(scopes: MappingType[str, Scope], places: Places, problems: Problems) -> None:
    """Note every rule that cannot do what it says in an environment where its policy has it."""
    for scope in scopes.values():
        policy = scope.alerts.policies.get(scope.environment.alerts, ())
        for name in policy:
            rule = scope.rules.get(name)
            if rule is not None:
                _windows(name, rule, scope, places, problems)
        for name, rule in scope.alerts.rules.items():
            _edge(name, rule, scope, places, problems)
            _counts(name, rule, scope, places, problems)
            _seen(name, rule, places, problems)


def _windows(name: str, rule: Rule, scope: Scope, places: Places, problems: Problems) -> None:
    least = Duration(MIN_INTERVALS * scope.environment.check_interval)
    for field, window in _window_fields(rule):
        if window < least:
            places.own(
                problems,
                scope.environment_name,
                ("alerts", "rules", name, field),
                f"window {window} is shorter than {MIN_INTERVALS} x the interval of {scope.environment_name} "
                f"({scope.environment.check_interval}): it needs at least {least}",
            )


def _window_fields(rule: Rule) -> Iterator[tuple[str, Duration]]:
    for field in ("over", "and_over", "increase_over"):
        window = getattr(rule, field, None)
        if isinstance(window, Duration):
            yield field, window
    if isinstance(rule, BurnRateRule):
        for pair in rule.windows:
            yield "windows", pair.short


def _edge(name: str, rule: Rule, scope: Scope, places: Places, problems: Problems) -> None:
    if not isinstance(rule, SlowRequestRatioRule | BurnRateRule) or rule.slower_than is None:
        return
    threshold = float(rule.slower_than)
    if threshold not in scope.latency_edges_s:
        edges = ", ".join(str(Duration(edge)) for edge in scope.latency_edges_s)
        places.own(
            problems,
            scope.environment_name,
            ("alerts", "rules", name, "slower_than"),
            f"{rule.slower_than} is no edge of the latency histogram, so the share of slower requests cannot "
            f"be told; edges: {edges}; add it to latency_edges",
        )
    elif threshold >= max(scope.latency_edges_s):
        places.own(
            problems,
            scope.environment_name,
            ("alerts", "rules", name, "slower_than"),
            f"{rule.slower_than} is the histogram's last edge: add a higher one to latency_edges",
        )


def _seen(name: str, rule: Rule, places: Places, problems: Problems) -> None:
    """A rule over something that no check ever reports is a rule that never fires."""
    path = ("alerts", "rules", name)
    for reason in getattr(rule, "reasons", ()):
        if reason not in _reasons():
            position, width = places.item((*path, "reasons"), reason)
            problems.add(
                position,
                f'there is no reason "{reason}"',
                key=".".join((*path, "reasons")),
                nearest=nearest(reason, _reasons()),
                width=width,
            )
    if isinstance(rule, MeasureRule) and places.written(*path):
        measures = _measures()
        if rule.measure not in measures:
            places.note(
                problems,
                (*path, "measure"),
                f'no check measures "{rule.measure}"',
                nearest=nearest(rule.measure, measures),
            )


@cache
def _reasons() -> frozenset[str]:
    """Every reason, and every group of them such as `pg.*`."""
    reasons = {str(reason) for reason in Reason}
    return frozenset(reasons | {f"{reason.partition('.')[0]}.*" for reason in reasons if "." in reason})


@cache
def _measures() -> frozenset[str]:
    return frozenset(measure.name for name in check_names() for measure in check_kind(name).measures)


def _counts(name: str, rule: Rule, scope: Scope, places: Places, problems: Problems) -> None:
    at_least, out_of = getattr(rule, "at_least", None), getattr(rule, "out_of", None)
    if isinstance(at_least, int) and isinstance(out_of, int) and at_least > out_of:
        places.own(
            problems,
            scope.environment_name,
            ("alerts", "rules", name, "at_least"),
            f"at_least {at_least} of out_of {out_of} can never be reached",
        )
