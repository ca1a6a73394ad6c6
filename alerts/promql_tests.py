"""promtool tests for exported rules: each fires on a fault that lasts and is quiet on a healthy platform."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from alerts.promql import REQUESTS, entry_of, expression, span
from alerts.rule import (
    BackupAgeRule,
    BurnRateRule,
    ConnectionFailuresRule,
    ContradictionRule,
    ErrorLogRateRule,
    ErrorRatioRule,
    MachinesBelowMinRule,
    MeasureRule,
    Rule,
    SlowRequestRatioRule,
    TargetStateRule,
    quantity,
)

_STEPS: Final = 120
_WITHOUT_CHECK: Final = (ErrorRatioRule, SlowRequestRatioRule, BurnRateRule, ErrorLogRateRule)


def tests_file(rules: Mapping[str, Rule], env: str, interval_s: float, rules_path: str) -> dict[str, object]:
    """Promtool tests: each rule fires on a fault that lasts, and keeps quiet on a healthy platform."""
    tests = [test for name, rule in rules.items() if (test := _test(name, rule, env, interval_s)) is not None]
    return {"rule_files": [rules_path], "evaluation_interval": span(interval_s), "tests": tests}


def _test(name: str, rule: Rule, env: str, interval_s: float) -> dict[str, object] | None:
    """Ten minutes of health, then a fault to the end; asserted just before it and at the very end."""
    series = _fault(rule, env, interval_s)
    if series is None or expression(rule, env) is None:
        return None
    service = rule.targets[0] if rule.targets else "auth"
    labels = {"env": env, "service": service, "severity": rule.severity.value, **rule.labels}
    if rule.checks or not isinstance(rule, _WITHOUT_CHECK):
        labels["check"] = rule.checks[0] if rule.checks else "health"
    if isinstance(rule, MachinesBelowMinRule):
        labels["reason"] = "fly.below_minimum"
    if isinstance(rule, ContradictionRule):
        labels["reason"] = "contradiction"
    if isinstance(rule, MeasureRule):
        labels |= rule.where
    end_s = (_STEPS - 1) * interval_s
    firing = {
        "exp_labels": labels,
        "exp_annotations": _annotations(name, rule, service),
    }
    return {
        "name": name,
        "interval": span(interval_s),
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "alert_rule_test": [
            {"alertname": name, "eval_time": span(59 * interval_s), "exp_alerts": []},
            {"alertname": name, "eval_time": span(end_s), "exp_alerts": [firing]},
        ],
    }


def _annotations(name: str, rule: Rule, service: str) -> dict[str, str]:
    entry = entry_of(name, rule, "", ())
    assert entry is not None
    found = entry["annotations"]
    assert isinstance(found, dict)
    return {key: str(text).replace("{{ $labels.service }}", service) for key, text in found.items()}


def _fault(rule: Rule, env: str, interval_s: float) -> dict[str, str] | None:
    """Series that are well for 60 steps and bad for 60."""
    service = rule.targets[0] if rule.targets else "auth"
    check = rule.checks[0] if rule.checks else "health"
    place = f'env="{env}", service="{service}", check="{check}"'
    home = f'env="{env}", service="{service}"'
    if float(rule.for_) >= 59 * interval_s:
        return None
    step_up = "0x59 1x59"
    match rule:
        case TargetStateRule() if rule.at_least is None:
            return {f'gaia_target_state{{{place}, state="{rule.states[0]}"}}': step_up}
        case MachinesBelowMinRule():
            return {f'gaia_target_reason{{{place}, reason="fly.below_minimum"}}': step_up}
        case ContradictionRule():
            return {f'gaia_target_reason{{{place}, reason="contradiction"}}': step_up}
        case ErrorRatioRule():
            return {
                f'{REQUESTS}_count{{{home}, http_response_status_code="200"}}': "0+100x119",
                f'{REQUESTS}_count{{{home}, http_response_status_code="500"}}': "0x59 100+100x59",
            }
        case SlowRequestRatioRule():
            edge = f"{float(rule.slower_than):g}"
            return {
                f"{REQUESTS}_count{{{home}}}": "0+100x119",
                f'{REQUESTS}_bucket{{{home}, le="{edge}"}}': "0+100x59 5900x59",
            }
        case ConnectionFailuresRule():
            return {f'gaia_probe_runs_total{{{place}, result="down"}}': "0x59 1+1x59"}
        case ErrorLogRateRule() if not rule.fatal and not rule.and_bad_traffic:
            return {f"gaia_telemetry_error_logs_total{{{home}}}": "0x59 10+10x59"}
        case BackupAgeRule():
            age = float(rule.older_than)
            return {f"gaia_backup_age_seconds{{{place}}}": f"0x59 {age + 1:g}x59"}
        case MeasureRule() if rule.increase_over is None:
            labels = "".join(f', {name}="{value}"' for name, value in rule.where.items())
            well, bad = (
                (quantity(rule.above), quantity(rule.above) * 2 + 1)
                if rule.above is not None
                else (quantity(rule.below or 0), quantity(rule.below or 0) / 2 - 1)
            )
            return {f"{rule.measure}{{{place}{labels}}}": f"{well:g}x59 {bad:g}x59"}
        case _:
            return None
