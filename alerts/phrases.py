"""What is wrong, in two or three words, for each kind of signal."""

from __future__ import annotations

from typing import Final

from alerts.rule import (
    ErrorRatioRule,
    MeasureRule,
    Rule,
    SlowProbesRule,
    SlowRequestRatioRule,
    TargetStateRule,
    signal,
)

_WHAT: Final = {
    "slow_probes": "answers slowly or not at all",
    "slow_request_ratio": "is slow",
    "error_ratio": "fails requests",
    "measure": "is over its limit",
    "connection_failures": "drops connections",
    "machines_below_min": "runs too few machines",
    "error_log_rate": "logs errors",
    "new_error_log": "logs a new kind of error",
    "backup_age": "has no good backup",
    "no_data": "cannot be seen",
    "contradiction": "is not what it says",
    "burn_rate": "spends its error budget",
}


def what(rule: Rule) -> str:
    """The predicate of a title: `postgres` ... `is down`."""
    if rule.summary:
        return rule.summary
    if isinstance(rule, TargetStateRule):
        return f"is {' or '.join(rule.states)}"
    return _WHAT[signal(rule)]


def limit_of(rule: Rule) -> str:
    """What would still be well, with how long it may last; empty where there is no number."""
    match rule:
        case ErrorRatioRule() | SlowRequestRatioRule():
            windows = f"{rule.over} and {rule.and_over}" if rule.and_over is not None else f"{rule.over}"
            return f"{rule.above} over {windows}"
        case SlowProbesRule():
            return f"{rule.slower_than}, {rule.at_least} of {rule.out_of} looks"
        case MeasureRule(above=above, below=below):
            return f"at most {above}" if above is not None else f"at least {below}"
        case _:
            return ""
