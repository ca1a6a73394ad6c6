"""Everything that was seen, by target and by service, and the one place where a rule meets it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from alerts.duty import Duty, Named
from alerts.instance import Source
from alerts.ledger import Ledger
from alerts.plan import JudgePlan
from alerts.reading import Outcome, Reading, Unknown, unknown
from alerts.requests import ErrorLog, RequestSample
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
    SlowProbesRule,
    SlowRequestRatioRule,
    TargetStateRule,
)
from alerts.signals import instances, logs, looks, numbers, traffic
from alerts.signals.logs import LogWindow
from alerts.watch import Watch, verdicts
from checks.contradiction import Seen, Traffic, Witness, contradictions
from checks.finding import State
from checks.instances import groups
from checks.observation import Observation
from checks.target import TargetKey
from checks.verdict import Verdict

_NEVER = 7 * 86400.0
_WITNESS_WINDOW_S = 60.0
_LOGGED_LATELY_S = 300.0
_NO_LOGS = LogWindow()


class Evidence:
    """Bounded memory of looks, request counters and log events; reads rules against it."""

    def __init__(self, plan: JudgePlan, began_s: float) -> None:
        self._began_s = began_s
        self._dependencies: Mapping[str, tuple[str, ...]] = {}
        self.watches: dict[TargetKey, Watch] = {}
        self.by_component: dict[str, list[Watch]] = {}
        # The instances of one service, under the key of the first.
        self._instances: dict[TargetKey, tuple[Watch, ...]] = {}
        self._ledgers: dict[str, Ledger] = {}
        self._logs: dict[str, LogWindow] = {}
        self._edges: tuple[float, ...] = ()
        self._keep_s = 0.0
        self._quiet_for_s = _NEVER
        self._ratios: list[ErrorRatioRule | SlowRequestRatioRule] = []
        self.isolated = False
        self.replan(plan)

    def replan(self, plan: JudgePlan) -> None:
        """Take over the targets and rules of a plan, keeping what is known of those that stay."""
        tracked = frozenset(
            rule.measure
            for rule in plan.rules.values()
            if isinstance(rule, MeasureRule) and rule.increase_over is not None
        )
        slow = [float(rule.slower_than) for rule in plan.rules.values() if isinstance(rule, SlowProbesRule)]
        slow_s = min(slow, default=float("inf"))
        kept: dict[TargetKey, Watch] = {}
        self.by_component.clear()
        for target in plan.targets:
            interval_s = plan.interval_of(target.key)
            fresh = Watch(target, interval_s, tracked, slow_s=slow_s)
            watch = kept[target.key] = fresh.resume(self.watches.get(target.key))
            self.by_component.setdefault(target.key.service, []).append(watch)
        self.watches = kept
        self._instances = {
            first: tuple(kept[one.key] for one in members) for first, members in groups(plan.targets).items()
        }
        self._dependencies = plan.dependencies
        rules = plan.rules.values()
        edges = tuple(sorted({edge for rule in rules for edge in traffic.edges(rule)}))
        keep_s = max((_longest_s(rule) for rule in rules), default=0.0)
        if edges != self._edges or keep_s > self._keep_s:
            # Increments seen under other edges cannot be told apart any more.
            self._edges, self._keep_s = edges, keep_s
            self._ledgers.clear()
        self._ratios = [rule for rule in rules if isinstance(rule, ErrorRatioRule | SlowRequestRatioRule)]
        quiet = [float(rule.quiet_for) for rule in rules if isinstance(rule, NewErrorLogRule)]
        self._quiet_for_s = min(quiet, default=_NEVER)

    def look(self, observation: Observation, verdict: Verdict) -> None:
        """Take in one look; nothing happens when its target is not watched."""
        watch = self.watches.get(observation.target.key)
        if watch is not None:
            watch.take(observation, verdict)

    def stepped_back(self, by_s: float, now_s: float) -> None:
        """The wall clock was set back by so much; some looks may have come since."""
        self._began_s -= by_s
        for watch in self.watches.values():
            watch.stepped_back(by_s, now_s)
        for window in self._logs.values():
            window.began_s -= by_s

    def requests(self, sample: RequestSample) -> None:
        """Take in one source's counters."""
        ledger = self._ledgers.get(sample.service)
        if ledger is None:
            ledger = self._ledgers[sample.service] = Ledger(edges=self._edges, keep_s=self._keep_s)
        ledger.add(sample)

    def logged(self, event: ErrorLog) -> None:
        """Take in ERROR log events."""
        self._heard(event.service).add(event, quiet_for_s=self._quiet_for_s)

    def remember(self, service: str, fingerprint: str, last_at_s: float) -> None:
        """A kind of ERROR log event that an earlier process saw."""
        self._heard(service).remember(fingerprint, last_at_s)

    def log_kinds(self, now_s: float) -> list[tuple[str, str, float]]:
        """(service, fingerprint, last seen) of what should be on disk and is not."""
        return [
            (service, mark, at_s)
            for service, window in self._logs.items()
            for mark, at_s in window.unsaved(now_s)
        ]

    def log_window(self, service: str) -> LogWindow:
        """The ERROR log events of one service."""
        return self._logs.get(service, _NO_LOGS)

    def logged_lately(self, service: str, now_s: float) -> tuple[str, ...]:
        """The most frequent kinds of ERROR log events of the last minutes, in words."""
        return tuple(f"logged {kind}" for kind in self.log_window(service).worst(now_s, _LOGGED_LATELY_S))

    def _heard(self, service: str) -> LogWindow:
        window = self._logs.get(service)
        if window is None:
            window = self._logs[service] = LogWindow(self._began_s)
        return window

    def shows(self, rule: Rule, key: TargetKey | None) -> bool:
        """Whether there is anything at this place that the rule is about: some numbers only a look shows."""
        if not isinstance(rule, MeasureRule | MachinesBelowMinRule | BackupAgeRule):
            return True
        latest = next((one.latest for one in self._at(key) if one.latest is not None), None) if key else None
        if latest is None:
            return False
        names = {measure.name for measure in latest.finding.measures}
        match rule:
            case MeasureRule():
                return rule.measure in names
            case MachinesBelowMinRule():
                return latest.finding.reason.value.startswith("fly.") or any(
                    name.startswith("gaia_machine") for name in names
                )
            case _:
                return latest.finding.reason.value.startswith("backup.") or any(
                    name.startswith("gaia_backup") for name in names
                )

    def stirring(self, duty: Duty, now_s: float) -> Named:
        """The rules of a place that could be anything but good now: nothing else need be read."""
        traffic = duty.component in self._ledgers
        if duty.source is Source.TRAFFIC:
            return duty.rules.every if traffic else ()
        if duty.source is Source.LOGS:
            return duty.rules.every if duty.component in self._logs else ()
        looked = () if duty.key is None or self.isolated else self._at(duty.key)
        if not looked or not all(watch.calm(now_s) for watch in looked):
            return duty.rules.every
        return (*duty.rules.restless, *duty.rules.disputes) if traffic else duty.rules.restless

    def read(
        self, rule: Rule, component: str, key: TargetKey | None, now_s: float, *, on_since_s: float = 0.0
    ) -> Reading:
        """The rule's signal on what is known now of a component, or of one of its targets.

        `on_since_s` is when the alert became active, 0 unless it fires. Raises only for defects of ours.
        """
        if self.isolated and component:
            return unknown(Unknown.ISOLATED, 0.0, "the agent itself is cut off")
        looked = () if key is None else self._at(key)
        if not looked:
            return self._read_service(rule, component, now_s, on_since_s=on_since_s)
        if len(looked) > 1 and isinstance(rule, TargetStateRule) and rule.at_least is None:
            return instances.state(rule, looked, now_s, firing=on_since_s > 0)
        if len(looked) > 1 and isinstance(rule, SlowProbesRule):
            return instances.slow_probes(rule, looked, now_s, firing=on_since_s > 0)
        readings = [self._read_target(rule, watch, now_s, firing=on_since_s > 0) for watch in looked]
        return readings[0] if len(looked) == 1 else instances.each(looked, readings)

    def _at(self, key: TargetKey) -> tuple[Watch, ...]:
        """What is looked at at a place: one target, or every instance of a service."""
        several = self._instances.get(key)
        if several is not None:
            return several
        watch = self.watches.get(key)
        return () if watch is None else (watch,)

    def _read_target(self, rule: Rule, watch: Watch, now_s: float, *, firing: bool) -> Reading:
        match rule:
            case TargetStateRule():
                return looks.target_state(rule, watch, now_s, firing=firing)
            case SlowProbesRule():
                return looks.slow_probes(rule, watch, now_s, firing=firing)
            case ConnectionFailuresRule():
                return looks.connection_failures(rule, watch, now_s, firing=firing)
            case MachinesBelowMinRule():
                return looks.machines_below_min(rule, watch, now_s)
            case MeasureRule():
                return numbers.measure(rule, watch, now_s, firing=firing)
            case BackupAgeRule():
                return numbers.backup_age(rule, watch, now_s)
            case NoDataRule():
                return looks.no_data(
                    rule, watch.known_at_s, now_s, interval_s=watch.interval_s, began_s=self._began_s
                )
            case ContradictionRule():
                return looks.contradiction(rule, watch, self._disputed(watch, now_s), now_s)
            case _:
                return unknown(Unknown.EVAL_ERROR, now_s, "this signal is not about a target")

    def _read_service(self, rule: Rule, service: str, now_s: float, *, on_since_s: float) -> Reading:
        match rule:
            case ErrorLogRateRule():
                window = self.log_window(service)
                logged = logs.error_log_rate(rule, window, now_s, active_at_s=on_since_s)
                if not rule.and_bad_traffic or logged.outcome is not Outcome.BAD:
                    return logged
                return self._with_traffic(logged, service, now_s, firing=on_since_s > 0)
            case NoDataRule():
                return self._counters(rule, service, now_s)
            case NewErrorLogRule():
                return logs.new_error_log(rule, self.log_window(service), now_s)
            case ErrorRatioRule() | SlowRequestRatioRule() | BurnRateRule():
                ledger = self._ledgers.get(service)
                if ledger is None:
                    return unknown(Unknown.STALE, 0.0, "no counters from the service yet")
                vouched = self._vouched(service, now_s)
                if isinstance(rule, BurnRateRule):
                    return traffic.burn_rate(rule, ledger, now_s, vouched=vouched)
                return traffic.ratio(rule, ledger, now_s, firing=on_since_s > 0, vouched=vouched)
            case _:
                return unknown(Unknown.STALE, 0.0, "its target is not watched")

    def _with_traffic(self, logged: Reading, service: str, now_s: float, *, firing: bool) -> Reading:
        """Errors in the log that users feel: bad as long as a rule over the same service's requests is."""
        readings = [
            self._read_service(rule, service, now_s, on_since_s=float(firing))
            for rule in self._ratios
            if not rule.targets or service in rule.targets
        ]
        bad = next((one for one in readings if one.outcome is Outcome.BAD), None)
        if bad is not None:
            return msgspec.structs.replace(logged, text=f"{bad.text}; {logged.text}")
        if any(one.outcome is Outcome.GOOD for one in readings):
            return Reading(
                outcome=Outcome.GOOD, at_s=now_s, text=f"{logged.text}; requests are answered well"
            )
        return unknown(Unknown.NO_TRAFFIC, now_s, f"{logged.text}; nothing is known of its requests")

    def _disputed(self, watch: Watch, now_s: float) -> tuple[str, ...]:
        """Where what the target says disagrees with what the agent or its traffic sees, in words."""
        if watch.latest is None:
            return ()
        name = watch.target.key.service
        depends_on = self._dependencies.get(name, ())
        claims = watch.latest.finding.claims
        witness = Witness(
            service=name,
            state=watch.verdict.state,
            since_s=watch.verdict.since_s,
            claims=claims,
            claims_since_s=watch.claims_since_s,
            depends_on=depends_on,
        )
        seen: dict[str, Seen] = {}
        for component in {*depends_on, *(claim.about for claim in claims)}:
            if component == name:
                continue
            others = [one for one in self.by_component.get(component, ()) if one.fresh(now_s)]
            kinds = {one.target.key: one.target.kind for one in others}
            for key, verdict in verdicts(others).items():
                seen.setdefault(
                    component,
                    Seen(
                        name=component,
                        kind=kinds[key],
                        state=verdict.state,
                        message=verdict.message,
                        since_s=verdict.since_s,
                    ),
                )
        found = contradictions([witness], seen, self._traffic_of(name, now_s), now_s=now_s)
        return tuple(one.finding.message for one in found)

    def _traffic_of(self, service: str, now_s: float) -> dict[str, Traffic]:
        ledger = self._ledgers.get(service)
        if ledger is None:
            return {}
        counts = ledger.counts(now_s, _WITNESS_WINDOW_S)
        if not counts.total:
            return {}
        traffic_seen = Traffic(
            requests=counts.total,
            error_ratio=counts.errors / counts.total,
            window_s=_WITNESS_WINDOW_S,
            since_s=now_s - _WITNESS_WINDOW_S,
        )
        return {service: traffic_seen}

    def _counters(self, rule: NoDataRule, service: str, now_s: float) -> Reading:
        """Whether counters come; where the service does not answer either, that is what is told."""
        if not self._vouched(service, now_s):
            return unknown(Unknown.STALE, now_s, "its counters can come only while it answers")
        ledger = self._ledgers.get(service)
        if ledger is None or not ledger.last_at_s:
            return unknown(Unknown.STALE, 0.0, "no counters from the service yet")
        interval_s = max(watch.interval_s for watch in self.by_component[service])
        return traffic.counters(rule, ledger.last_at_s, now_s, interval_s=interval_s)

    def _vouched(self, service: str, now_s: float) -> bool:
        watches = self.by_component.get(service, ())
        return any(watch.fresh(now_s) and watch.verdict.state is State.UP for watch in watches)


def _longest_s(rule: Rule) -> float:
    if isinstance(rule, BurnRateRule):
        return float(max(window.long for window in rule.windows))
    return 0.0
