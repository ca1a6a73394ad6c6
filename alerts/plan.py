"""What the judge judges in one environment: rules, targets, who depends on whom, and whom to call."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from alerts.canary import Canary
from alerts.receiver import EscalationStep, MaintenanceWindow, Receiver, ReportSchedule
from alerts.rule import Rule
from checks.target import Target, TargetKey


class JudgePlan(Struct, frozen=True, kw_only=True):
    """One environment's judgement, resolved and validated.

    `rules` are those in force (see `alerts.rule.in_force`). `services` are those whose requests and logs
    are judged even where nothing looks at them, as where they may sleep; from the `scraped` ones counters
    must keep coming while they answer. `dependencies` maps a component to those it needs. `interval_s` is
    the check interval, `intervals_s` the exceptions by target. `alias` is how the environment is called in
    titles. `canaries` are places outside that tell whether it is the agent that is cut off.
    """

    env: str
    rules: Mapping[str, Rule]
    targets: tuple[Target, ...]
    interval_s: float
    receivers: Mapping[str, Receiver] = field(default_factory=dict)
    services: tuple[str, ...] = ()
    scraped: frozenset[str] = frozenset()
    dependencies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    intervals_s: Mapping[TargetKey, float] = field(default_factory=dict)
    alias: str = ""
    settle_s: float = 10.0
    escalation: tuple[EscalationStep, ...] = ()
    maintenance: tuple[MaintenanceWindow, ...] = ()
    report: ReportSchedule | None = None
    external_url: str = "http://127.0.0.1:9877"
    canaries: tuple[Canary, ...] = ()

    def interval_of(self, key: TargetKey | None) -> float:
        """How often a target is looked at, in seconds; for what is no target, the usual interval."""
        return self.interval_s if key is None else self.intervals_s.get(key, self.interval_s)


class Graph:
    """Who depends on whom, transitively. Raises ValueError naming a cycle."""

    def __init__(self, dependencies: Mapping[str, tuple[str, ...]]) -> None:
        self._above: dict[str, tuple[str, ...]] = {}
        for name in dependencies:
            self._climb(name, dependencies, ())
        self._below: dict[str, list[str]] = {}
        for name, above in self._above.items():
            for cause in above:
                self._below.setdefault(cause, []).append(name)
        self._direct = dependencies

    def causes(self, component: str) -> tuple[str, ...]:
        """Everything this component needs, nearest first."""
        return self._above.get(component, ())

    def dependents(self, component: str) -> tuple[str, ...]:
        """Everything that needs this component, nearest first."""
        below = self._below.get(component, [])
        return tuple(sorted(below, key=lambda name: (component not in self._direct.get(name, ()), name)))

    def depth(self, component: str) -> int:
        """How many things could be to blame: 0 for a root."""
        return len(self.causes(component))

    def _climb(
        self, name: str, dependencies: Mapping[str, tuple[str, ...]], path: tuple[str, ...]
    ) -> tuple[str, ...]:
        if name in path:
            raise ValueError(f"depends_on goes in a circle: {' -> '.join((*path[path.index(name) :], name))}")
        if name not in self._above:
            direct = dependencies.get(name, ())
            further = [far for near in direct for far in self._climb(near, dependencies, (*path, name))]
            self._above[name] = tuple(dict.fromkeys((*direct, *further)))
        return self._above[name]
