"""The rules as Prometheus alerting rules over the agent's own metrics, with promtool tests that pass.

Where Prometheus cannot say the same (missing data resolves there, increments are extrapolated, n of a kind
over several windows), the nearest is said and the rule's description tells the difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from alerts.phrases import what
from alerts.rule import (
    BackupAgeRule,
    BurnRateRule,
    ConnectionFailuresRule,
    ContradictionRule,
    ErrorLogRateRule,
    ErrorRatioRule,
    MachinesBelowMinRule,
    MeasureRule,
    NewErrorLogRule,
    NoDataRule,
    Rule,
    RuleCommon,
    SlowProbesRule,
    SlowRequestRatioRule,
    TargetStateRule,
    quantity,
    signal,
)
from checks.finding import State
from checks.instances import INSTANCE
from checks.units import Duration

REQUESTS: Final = "http_server_request_duration_seconds"
_FAILED: Final = 'http_response_status_code=~"5.."'


def expression(rule: Rule, env: str, services: tuple[str, ...] = ()) -> str | None:
    """PromQL for one rule in one environment; None when Prometheus has nothing like it.

    `services` are the components the rule looks at, where it does not look at all of them.
    """
    where = _selector(rule, env, services)
    match rule:
        case TargetStateRule():
            return None if rule.at_least is not None else _state(rule, where)
        case SlowProbesRule():
            slow = f"(probe_duration_seconds{{{where}}} > {float(rule.slower_than):g})[1m:10s]"
            return f"count_over_time({slow}) >= {rule.at_least}"
        case ErrorRatioRule():
            return _ratio(rule, f"{REQUESTS}_count{{{where}, {_FAILED}}}", f"{REQUESTS}_count{{{where}}}")
        case SlowRequestRatioRule():
            return _slow(rule, where)
        case MeasureRule():
            return _measure(rule, where)
        case ConnectionFailuresRule():
            runs = f'gaia_probe_runs_total{{{where}, result="down"}}'
            return f"sum by (env, service, check) (increase({runs}[{span(rule.over)}])) >= {rule.at_least}"
        case MachinesBelowMinRule():
            return f'gaia_target_reason{{{where}, reason=~"fly.below_minimum|fly.no_machines"}} == 1'
        case ErrorLogRateRule() if rule.fatal or rule.and_bad_traffic:
            return None
        case ErrorLogRateRule():
            logs = f"gaia_telemetry_error_logs_total{{{where}}}"
            return f"sum by (env, service) (increase({logs}[{span(rule.over)}])) >= {rule.at_least}"
        case BackupAgeRule():
            return f"gaia_backup_age_seconds{{{where}}} > {float(rule.older_than):g}"
        case NoDataRule():
            limit = float(rule.stale_after) if rule.stale_after is not None else 60.0
            return f"time() - gaia_probe_last_run_timestamp_seconds{{{where}}} > {limit:g}"
        case ContradictionRule():
            return f'gaia_target_reason{{{where}, reason="contradiction"}} == 1'
        case BurnRateRule():
            return _burn(rule, where)
        case NewErrorLogRule():
            return None


def rules_file(
    rules: Mapping[str, Rule], env: str, services: Mapping[str, tuple[str, ...]], interval_s: float
) -> dict[str, object]:
    """A Prometheus rule file (JSON is YAML) for one environment; what has no equivalent is left out."""
    entries = [
        entry
        for name, rule in rules.items()
        if (entry := entry_of(name, rule, env, services.get(name, ()))) is not None
    ]
    return {"groups": [{"name": f"gaia-{env}", "interval": span(interval_s), "rules": entries}]}


def untranslatable(rules: Mapping[str, Rule], env: str) -> tuple[str, ...]:
    """The rules Prometheus has nothing like."""
    return tuple(name for name, rule in rules.items() if expression(rule, env) is None)


def entry_of(name: str, rule: Rule, env: str, services: tuple[str, ...]) -> dict[str, object] | None:
    """One alerting rule of a rule file; None when Prometheus has nothing like it."""
    expr = expression(rule, env, services)
    if expr is None:
        return None
    annotations = {
        "summary": f"{{{{ $labels.service }}}} {what(rule)}",
        "description": f"gaia rule {name} (signal {signal(rule)}). In Prometheus missing data resolves it.",
    }
    if rule.runbook:
        annotations["runbook_url"] = rule.runbook
    return {
        "alert": name,
        "expr": expr,
        "for": span(rule.for_),
        "keep_firing_for": span(rule.keep_firing_for),
        "labels": {"severity": rule.severity.value, **rule.labels},
        "annotations": annotations,
    }


def _selector(rule: RuleCommon, env: str, services: tuple[str, ...]) -> str:
    parts = [f'env="{env}"']
    names = rule.targets or services
    if names:
        parts.append(f'service=~"{"|".join(names)}"')
    if rule.checks:
        parts.append(f'check=~"{"|".join(rule.checks)}"')
    return ", ".join(parts)


def _state(rule: TargetStateRule, where: str) -> str:
    """Of several instances one that is down is a service that is degraded, as long as another answers."""
    instances = f'{where}, vantage=~"{INSTANCE}.*"'

    def any_is(place: str, states: str) -> str:
        return f'max by (env, service, check) (gaia_target_state{{{place}, state=~"{states}"}}) == 1'

    states = "|".join(rule.states)
    answers = any_is(instances, "up|degraded")
    if (State.DOWN in rule.states) == (State.DEGRADED in rule.states):
        return any_is(where, states)
    if State.DEGRADED in rule.states:
        return f"{any_is(where, states)} or ({any_is(instances, 'down')} and {answers})"
    others = f'{where}, vantage!~"{INSTANCE}.*"'
    return f"{any_is(others, states)} or ({any_is(instances, states)} unless {answers})"


def _ratio(rule: ErrorRatioRule | SlowRequestRatioRule, bad: str, total: str) -> str:
    by = "sum by (env, service)"
    windows = [rule.over] + ([rule.and_over] if rule.and_over is not None else [])
    parts = []
    for window in windows:
        share = f"{by} (rate({bad}[{span(window)}])) / {by} (rate({total}[{span(window)}]))"
        parts.append(f"({share} > {float(rule.above):g})")
    parts.append(f"({by} (increase({total}[{span(rule.over)}])) >= {rule.min_requests})")
    parts.append(f"({by} (increase({bad}[{span(rule.over)}])) >= {rule.min_bad})")
    return " and ".join(parts)


def _slow(rule: SlowRequestRatioRule, where: str) -> str:
    """Slow is all minus those up to the edge; without interpolation, as the agent counts."""
    edge = f"{float(rule.slower_than):g}"
    by = "sum by (env, service)"
    windows = [rule.over] + ([rule.and_over] if rule.and_over is not None else [])
    parts = []
    for window in windows:
        fast = f'{by} (rate({REQUESTS}_bucket{{{where}, le=~"{edge}|{edge}.0"}}[{span(window)}]))'
        every = f"{by} (rate({REQUESTS}_count{{{where}}}[{span(window)}]))"
        parts.append(f"(1 - {fast} / {every} > {float(rule.above):g})")
    total = f"{REQUESTS}_count{{{where}}}"
    parts.append(f"({by} (increase({total}[{span(rule.over)}])) >= {rule.min_requests})")
    return " and ".join(parts)


def _measure(rule: MeasureRule, where: str) -> str:
    labels = "".join(f', {name}="{value}"' for name, value in rule.where.items())
    series = f"{rule.measure}{{{where}{labels}}}"
    if rule.increase_over is not None:
        series = f"increase({series}[{span(rule.increase_over)}])"
    if rule.above is not None:
        return f"{series} > {quantity(rule.above):g}"
    assert rule.below is not None
    return f"{series} < {quantity(rule.below):g}"


def _burn(rule: BurnRateRule, where: str) -> str:
    by = "sum by (env, service)"
    budget = round(1 - float(rule.objective), 9)
    total = f"{REQUESTS}_count{{{where}}}"

    def share(window: Duration) -> str:
        every = f"{by} (rate({total}[{span(window)}]))"
        if rule.slower_than is None:
            return f"{by} (rate({REQUESTS}_count{{{where}, {_FAILED}}}[{span(window)}])) / {every}"
        edge = f"{float(rule.slower_than):g}"
        fast = f'{by} (rate({REQUESTS}_bucket{{{where}, le=~"{edge}|{edge}.0"}}[{span(window)}]))'
        return f"1 - {fast} / {every}"

    pairs = [
        f"({share(one.long)} > {one.burn * budget:g} and {share(one.short)} > {one.burn * budget:g})"
        for one in rule.windows
    ]
    return " or ".join(pairs)


def span(seconds: float) -> str:
    """A duration as Prometheus writes it."""
    return f"{round(seconds)}s"
