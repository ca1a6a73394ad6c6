"""The `alerts` table for one environment: its rules, its policy, the receivers that serve it."""

from __future__ import annotations

from typing import Any

import msgspec

from agent.platform.convert import Reader
from agent.platform.effective import own_view
from agent.platform.model import Environment
from agent.platform.problem import Problems
from agent.platform.rule_checks import MIN_INTERVALS
from agent.platform.tree import Mapping, Node, Scalar, Sequence, is_null, without
from alerts.receiver import Receiver
from alerts.rule import DEFAULT_POLICIES, DEFAULT_RULES, Rule, in_force
from alerts.section import AlertsSection
from checks.units import Duration

_POLICIES: Any = dict[str, tuple[str, ...]]


class AlertReader:
    """Reads when to worry and whom to call."""

    def __init__(self, reader: Reader, environment: Environment, problems: Problems) -> None:
        self._reader = reader
        self._environment = environment
        self._problems = problems

    def section(self, node: Node | None, root: Mapping) -> AlertsSection:
        """The whole table: built-in rules and policies under those written, every rule that is defined."""
        if node is None or is_null(node):
            node = Mapping(root.at, {})
        if not isinstance(node, Mapping):
            self._not_a_table(node, "alerts")
            node = Mapping(node.at, {})
        policies = dict(DEFAULT_POLICIES)
        written = node.get("policies")
        if written is not None and not is_null(written):
            policies |= self._reader.value(written, _POLICIES, key="alerts.policies") or {}
        policy = policies.get(self._environment.alerts)
        receivers = self._receivers(node) if policy != () else {}
        section = self._reader.table(
            without(node, "rules", "policies", "receivers"),
            AlertsSection,
            key="alerts",
            fixed={"rules": {}, "policies": policies, "receivers": receivers},
            also=("rules", "policies", "receivers"),
        ) or AlertsSection(policies=policies, receivers=receivers)
        return msgspec.structs.replace(section, rules=self._rules(node))

    def in_force(self, section: AlertsSection) -> dict[str, Rule]:
        """The rules that are judged here: those of the policy, or all of them silently when it is empty."""
        policy = section.policies.get(self._environment.alerts, ())
        known = tuple(name for name in policy if name in section.rules)
        return in_force(section.rules, known) if known or not policy else {}

    def _rules(self, alerts: Mapping) -> dict[str, Rule]:
        least = Duration(MIN_INTERVALS * self._environment.check_interval)
        rules = {name: _widened(rule, least) for name, rule in DEFAULT_RULES.items()}
        written = alerts.get("rules")
        if written is None or is_null(written):
            return rules
        if not isinstance(written, Mapping):
            self._not_a_table(written, "alerts.rules")
            return rules
        for name, entry in written.entries.items():
            node = own_view(entry.value, self._environment.name)
            rule = self._reader.value(node, Rule, key=f"alerts.rules.{name}")
            rules.pop(name, None)
            if rule is not None:
                rules[name] = rule
        return rules

    def _receivers(self, alerts: Mapping) -> dict[str, Receiver]:
        written = alerts.get("receivers")
        if written is None or is_null(written):
            return {}
        if not isinstance(written, Mapping):
            self._not_a_table(written, "alerts.receivers")
            return {}
        found = {}
        for name, entry in written.entries.items():
            if _serves(entry.value, self._environment.name):
                receiver = self._reader.table(entry.value, Receiver, key=f"alerts.receivers.{name}")
                if receiver is not None:
                    found[name] = receiver
        return found

    def _not_a_table(self, node: Node, key: str) -> None:
        self._problems.add(node.at, f'"{key.rpartition(".")[2]}" must be a table of keys', key=key)


def _widened(rule: Rule, least: Duration) -> Rule:
    """A built-in rule with no window shorter than `least`, so that it can fire at any interval."""
    short = {
        field: least
        for field in ("over", "and_over")
        if isinstance(window := getattr(rule, field, None), Duration) and window < least
    }
    return msgspec.structs.replace(rule, **short) if short else rule


def _serves(node: Node, environment: str) -> bool:
    """Whether a receiver is for this environment; the variables of others are not needed here."""
    wanted = node.get("environments") if isinstance(node, Mapping) else None
    if not isinstance(wanted, Sequence) or not wanted.items:
        return True
    return any(isinstance(item, Scalar) and item.text == environment for item in wanted.items)
