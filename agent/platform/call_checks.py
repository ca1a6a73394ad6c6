"""Receivers nobody calls, calls nobody hears, and windows that never close."""

from __future__ import annotations

import time
from collections.abc import Mapping as MappingType
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from agent.platform.place import Places
from agent.platform.problem import Problems, Severity, nearest
from agent.platform.scope import Scope
from agent.platform.tree import Mapping, Node, Scalar, Sequence, find
from alerts.maintenance import around, is_open
from alerts.receiver import MaintenanceWindow, Owner, Receiver
from alerts.rule import Rule
from alerts.rule import Severity as RuleSeverity
from alerts.words import local

_RECEIVERS: Final = ("alerts", "receivers")
_BLOCKS: Final = (
    "notify", "webhook", "pagerduty", "opsgenie", "slack", "alertmanager", "smtp", "console",
)  # fmt: skip
_SOONEST_REMINDER_S: Final = 60.0
_OPENINGS_COMPARED: Final = 60


def check_calls(root: Mapping, scopes: MappingType[str, Scope], places: Places, problems: Problems) -> None:
    """Note who would never be called, what would reach nobody, and what would silence everything."""
    used: set[str] = set()
    served: dict[str, Receiver] = {}
    for scope in scopes.values():
        served |= scope.receivers
        used |= _called_in(scope)
        _unheard(scope, places, problems)
        _escalation(root, scope, problems)
        for name, receiver in scope.receivers.items():
            _receiver(name, receiver, scope, places, problems)
    for name, receiver in served.items():
        if name not in used:
            takes = " or ".join(receiver.severities)
            said = (
                f"no rule of severity {takes} calls it"
                if takes
                else "it takes no severity and no step names it"
            )
            _warn(places, problems, (*_RECEIVERS, name), f'receiver "{name}" is never called: {said}')
    _maintenance(root, scopes, problems)
    _report(root, scopes, problems)


def _called_in(scope: Scope) -> set[str]:
    found = {name for rule in scope.rules.values() for name in _takers(rule, scope)}
    found |= {step.receiver for step in scope.alerts.escalation}
    found |= {scope.alerts.report.receiver} if scope.alerts.report is not None else set()
    found |= {name for name, receiver in scope.receivers.items() if receiver.alertmanager is not None}
    return found | {
        receiver.failover for receiver in scope.receivers.values() if receiver.failover is not None
    }


def _unheard(scope: Scope, places: Places, problems: Problems) -> None:
    """Rules that call, in an environment with receivers, and none of them takes it."""
    for name, rule in scope.rules.items():
        if not scope.receivers or rule.severity is RuleSeverity.LOG or _takers(rule, scope):
            continue
        path = ("alerts", "rules", name)
        field = "receivers" if rule.receivers else "severity"
        places.own(
            problems,
            scope.environment_name,
            (*path, field) if places.written(*path) else _RECEIVERS,
            f"{name} reaches nobody in {scope.environment_name}: {_why(rule, scope)}",
            severity=Severity.WARNING,
        )


def _takers(rule: Rule, scope: Scope) -> list[str]:
    return [
        name
        for name, receiver in scope.receivers.items()
        if rule.severity in receiver.severities and (not rule.receivers or name in rule.receivers)
    ]


def _why(rule: Rule, scope: Scope) -> str:
    if rule.receivers:
        away = [name for name in rule.receivers if name not in scope.receivers]
        if away:
            return f"{', '.join(away)} does not serve this environment"
        return f"{', '.join(rule.receivers)} does not take {rule.severity}"
    return f"no receiver takes {rule.severity}"


def _receiver(name: str, receiver: Receiver, scope: Scope, places: Places, problems: Problems) -> None:
    path = (*_RECEIVERS, name)
    if not any(places.written(*path, block) for block in _BLOCKS):
        _warn(
            places,
            problems,
            path,
            f'receiver "{name}" has no channel: give it notify, webhook, slack or smtp',
        )
    if receiver.timezone is not None:
        try:
            local(0.0, receiver.timezone)
        except ValueError as error:
            places.note(problems, (*path, "timezone"), str(error))
    pushes = any(one.alertmanager is not None for one in scope.receivers.values())
    if receiver.owner is Owner.ALERTMANAGER and not pushes:
        places.note(
            problems,
            (*path, "owner"),
            f"no receiver of {scope.environment_name} has an alertmanager block to leave it to",
        )
    if receiver.failover is not None and receiver.failover not in scope.receivers:
        _warn(
            places,
            problems,
            (*path, "failover"),
            f"{receiver.failover} does not serve {scope.environment_name}: a page that {name} does not take "
            "goes nowhere",
        )
    for field in ("repeat_page", "repeat_chat"):
        every = getattr(receiver, field)
        least = max(_SOONEST_REMINDER_S, scope.environment.check_interval)
        if 0 < every < least:
            _warn(
                places,
                problems,
                (*path, field),
                f"a reminder every {every} comes before anything new is known; write 1h, or 0s for never",
            )


def _escalation(root: Mapping, scope: Scope, problems: Problems) -> None:
    pages = any(rule.severity is RuleSeverity.PAGE for rule in scope.rules.values())
    written = find(root, "alerts", "escalation")
    if not pages or not scope.receivers or not isinstance(written, Sequence):
        return
    before = 0.0
    for node, step in zip(written.items, scope.alerts.escalation, strict=False):
        at = _at(node, "receiver")
        if step.receiver not in scope.receivers:
            problems.add(
                at.at,
                f"{step.receiver} does not serve {scope.environment_name}: this step calls nobody there",
                key="alerts.escalation",
                severity=Severity.WARNING,
            )
        if step.after <= before:
            problems.add(
                _at(node, "after").at,
                f"a step after {step.after} does not come later than the one before it",
                key="alerts.escalation",
                severity=Severity.WARNING,
            )
        before = step.after


def _report(root: Mapping, scopes: MappingType[str, Scope], problems: Problems) -> None:
    schedule = next((scope.alerts.report for scope in scopes.values()), None)
    node = find(root, "alerts", "report")
    if schedule is None or node is None:
        return
    receivers = find(root, "alerts", "receivers")
    names = tuple(receivers.entries) if isinstance(receivers, Mapping) else ()
    if schedule.receiver not in names:
        defined = ", ".join(names) or "none"
        place = _at(node, "receiver")
        problems.add(
            place.at,
            f'receiver "{schedule.receiver}" is not defined; defined: {defined}',
            key="alerts.report.receiver",
            nearest=nearest(schedule.receiver, names),
            width=place.width if isinstance(place, Scalar) else 1,
        )
    try:
        around(schedule.cron, 0.0)
    except ValueError as error:
        problems.add(_at(node, "cron").at, str(error), key="alerts.report.cron")


def _maintenance(root: Mapping, scopes: MappingType[str, Scope], problems: Problems) -> None:
    written = find(root, "alerts", "maintenance")
    windows = next((scope.alerts.maintenance for scope in scopes.values()), ())
    if not isinstance(written, Sequence) or len(written.items) != len(windows):
        return
    for node, window in zip(written.items, windows, strict=True):
        place = _at(node, "cron" if window.cron is not None else "starts")
        width = place.width if isinstance(place, Scalar) else 1
        try:
            said = _window(window)
        except ValueError as error:
            problems.add(place.at, str(error), key="alerts.maintenance", width=width)
            continue
        if said:
            problems.add(place.at, said, key="alerts.maintenance", severity=Severity.WARNING, width=width)


def _window(window: MaintenanceWindow) -> str:
    """What is odd about a window, empty when nothing is. Raises ValueError for a wrong cron expression."""
    is_open(window, 0.0)
    if window.cron is None:
        over_s = window.span_s[1]
        return "" if over_s > time.time() else f"this window is over since {_day(over_s)}: remove it"
    from cronsim import CronSim

    assert window.lasts is not None
    starts = CronSim(window.cron, datetime.fromtimestamp(0, tz=UTC))
    openings = [one for one, _ in zip(starts, range(_OPENINGS_COMPARED), strict=False)]
    gaps = [later - sooner for sooner, later in pairwise(openings)]
    if gaps and max(gaps) <= timedelta(seconds=window.lasts):
        return f"it opens again before {window.lasts} are over: it never closes and nobody is ever called"
    return ""


def _day(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, tz=UTC):%Y-%m-%d}"


def _at(node: Node, key: str) -> Node:
    found = find(node, key)
    return node if found is None else found


def _warn(places: Places, problems: Problems, path: tuple[str, ...], message: str) -> None:
    places.note(problems, path, message, severity=Severity.WARNING)
