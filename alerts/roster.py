"""Every alert there is: which are enumerated, which came to be, which are not OK, and whose turn it is."""

from __future__ import annotations

from typing import Final

from alerts import external
from alerts.batch import SavedAlert
from alerts.evidence import Evidence
from alerts.external import ExternalAlert
from alerts.instance import (
    Instance,
    Source,
    enumerate_instances,
    of_target,
    seen_first,
    selects,
    several_vantages,
)
from alerts.machine import Phase
from alerts.plan import JudgePlan
from alerts.rule import Rule
from alerts.told import Told
from alerts.watch import Watch
from checks.target import TargetKey

_EAGER_ALERTS: Final = 200


class Roster:
    """The alerts of one plan. Changed only by the judge."""

    def __init__(self, plan: JudgePlan, evidence: Evidence) -> None:
        self._evidence = evidence
        self._plan = plan
        self.by_fingerprint: dict[str, Instance] = {}
        self.order: list[Instance] = []
        self.by_key: dict[TargetKey, list[Instance]] = {}
        self.active: dict[str, list[Instance]] = {}
        self._seen_first: dict[str, Rule] = {}
        self._unseen: dict[TargetKey, list[str]] = {}
        self.arrange(plan)

    def arrange(self, plan: JudgePlan) -> None:
        """Enumerate the alerts of a plan; those of the one before are forgotten here."""
        self._plan = plan
        self.by_fingerprint, self.order = {}, []
        self.by_key.clear()
        self.active.clear()
        self._seen_first = seen_first(dict(plan.rules))
        self._unseen = {
            target.key: [name for name, rule in self._seen_first.items() if selects(rule, target)]
            for target in plan.targets
        }
        for instance in enumerate_instances(plan):
            self.add(instance)
        # Neighbours in the file land in different slices of a round.
        self.order.sort(key=lambda one: one.fingerprint)

    def seen(self, watch: Watch) -> None:
        """A look may show for the first time what a rule is about: then its alert comes to be."""
        unseen = self._unseen.get(watch.target.key)
        if not unseen:
            return
        for name in [name for name in unseen if self._evidence.shows(self._seen_first[name], watch)]:
            unseen.remove(name)
            self.add(self._of_target(name, watch))

    def _of_target(self, name: str, watch: Watch) -> Instance:
        several = several_vantages(self._plan.targets)
        return of_target(self._plan, name, self._seen_first[name], watch.target, several=several)

    def add(self, instance: Instance) -> None:
        """One more alert."""
        self.by_fingerprint[instance.fingerprint] = instance
        self.order.append(instance)
        if instance.key is not None:
            self.by_key.setdefault(instance.key, []).append(instance)

    def again(self, old: Instance) -> Instance | None:
        """An alert that only a finding or a sender can bring about, and that the new plan still allows."""
        if old.source is Source.EXTERNAL:
            self.add(old)
            return old
        rule = self._seen_first.get(old.alertname)
        if rule is None or old.key is None or old.key not in self._evidence.watches:
            return None
        if old.alertname not in self._unseen.get(old.key, ()):
            return None
        self._unseen[old.key].remove(old.alertname)
        made = self._of_target(old.alertname, self._evidence.watches[old.key])
        self.add(made)
        return made

    def reborn(self, saved: SavedAlert, told: Told | None) -> Instance | None:
        """An alert that is not enumerated: seen first in a finding, or judged by others."""
        for key, names in self._unseen.items():
            matches = key.service == saved.labels.get("service") and key.check == saved.labels.get("check")
            if matches and saved.alertname in names:
                made = self._of_target(saved.alertname, self._evidence.watches[key])
                if made.fingerprint == saved.fingerprint:
                    names.remove(saved.alertname)
                    self.add(made)
                    return made
        if saved.alertname in self._plan.rules or not saved.standing.firing:
            return None
        severity = told.severity.value if told is not None else ""
        made = external.instance_of(
            ExternalAlert(labels=saved.labels | {"severity": severity}), self._plan.env
        )
        if made.fingerprint != saved.fingerprint or saved.labels.get("check"):
            return None
        self.add(made)
        return made

    def due(self, last_s: float, now_s: float) -> list[Instance]:
        """A slice of the round, as wide as the time since the last tick; always what is active, if few."""
        interval_s = self._plan.interval_s
        count = len(self.order)
        passed_s = now_s - last_s
        if not 0 <= passed_s < interval_s:
            return list(self.order)
        start = int(last_s % interval_s / interval_s * count)
        end = int(now_s % interval_s / interval_s * count)
        due = self.order[start:end] if end >= start else self.order[start:] + self.order[:end]
        active = [one for instances in self.active.values() for one in instances]
        if len(active) <= _EAGER_ALERTS:
            chosen = set(map(id, due))
            due = due + [one for one in active if id(one) not in chosen]
        return due

    def file(self, instance: Instance) -> None:
        """Keep the list of alerts that are not OK."""
        listed = self.active.get(instance.component, [])
        if instance.standing.phase is Phase.OK:
            if instance in listed:
                listed.remove(instance)
                if not listed:
                    del self.active[instance.component]
        elif instance not in listed:
            self.active.setdefault(instance.component, []).append(instance)

    def on(self) -> list[Instance]:
        """Those that fire or are recovering."""
        return [one for instances in self.active.values() for one in instances if one.standing.firing]
