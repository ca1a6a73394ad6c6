"""Every alert there is: where rules look, which alerts stirred, which are not OK, and whose turn it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from alerts import external
from alerts.batch import SavedAlert
from alerts.duty import NO_RULES, Duty, duties
from alerts.external import ExternalAlert
from alerts.instance import Instance, Source
from alerts.machine import FLAP_WINDOW_S, Phase
from alerts.plan import JudgePlan
from alerts.told import Told
from checks.target import TargetKey

_EAGER_ALERTS: Final = 200
_IDENTITY: Final = re.compile(r"[0-9a-f]{16}(:\d+)?\Z")


class Roster:
    """The alerts of one plan. Changed only by the judge.

    An alert that was never bad has no object of its own: it is one name among its place's rules.
    """

    def __init__(self, plan: JudgePlan) -> None:
        self._plan = plan
        self.by_fingerprint: dict[str, Instance] = {}
        self.order: list[Duty] = []
        self.by_key: dict[TargetKey, Duty] = {}
        self.active: dict[str, list[Instance]] = {}
        self._by_component: dict[str, tuple[Duty, ...]] = {}
        self.arrange(plan)

    def arrange(self, plan: JudgePlan) -> None:
        """Find the places of a plan; the alerts of the one before are forgotten here."""
        self._plan = plan
        self.by_fingerprint = {}
        self.active.clear()
        self.order = list(duties(plan))
        self.by_key = {
            key: duty for duty in self.order if duty.key is not None for key in (duty.members or (duty.key,))
        }
        self._by_component = {}
        for duty in self.order:
            self._by_component[duty.component] = (*self._by_component.get(duty.component, ()), duty)

    def wake(self, duty: Duty, name: str) -> Instance:
        """The alert of one of a place's rules: it is, or was, bad."""
        return self._admit(duty, duty.made(self._plan, name))

    def add(self, instance: Instance) -> None:
        """One more alert that others judge, or that is about the agent itself."""
        duty = Duty(source=instance.source, component=instance.component, kind=instance.kind, rules=NO_RULES)
        self.order.append(duty)
        self._admit(duty, instance)

    def knows(self, instance: Instance) -> bool:
        """Whether an alert of this identity belongs to a rule of the plan."""
        return self._found(instance.fingerprint, instance.alertname, instance.component) is not None

    def named(self, fingerprint: str, alertname: str, component: str) -> Instance | None:
        """The alert with this identity, from now on awake; None when the plan has none."""
        awake = self.by_fingerprint.get(fingerprint)
        if awake is not None:
            return awake
        found = self._found(fingerprint, alertname, component)
        return None if found is None else self._admit(*found)

    def again(self, old: Instance) -> Instance | None:
        """The alert of the plan before as it is under this one; None when there is none any more."""
        if old.source is Source.EXTERNAL:
            self.add(old)
            return old
        return self.named(old.fingerprint, old.alertname, old.component)

    def reborn(self, saved: SavedAlert, told: Told | None) -> Instance | None:
        """An alert of the process before: one of the plan's, or one that others judged."""
        known = self.named(saved.fingerprint, saved.alertname, saved.labels.get("service", ""))
        if known is not None or saved.alertname in self._plan.rules or not saved.standing.firing:
            return known
        severity = told.severity.value if told is not None else ""
        made = external.instance_of(
            ExternalAlert(labels=saved.labels | {"severity": severity}), self._plan.env
        )
        if made.fingerprint != saved.fingerprint or saved.labels.get("check"):
            return None
        self.add(made)
        return made

    def all(self, of: str = "") -> Iterator[Instance]:
        """Every alert; those that are asleep are made for the asking and kept nowhere.

        `of` leaves out, of these, whatever is not called so: by rule, component, or both with a space.
        An identity (16 hex digits) leaves out none.
        """
        any_name = not of or _IDENTITY.match(of) is not None
        for duty in self.order:
            yield from duty.awake
            names = {one.alertname for one in duty.awake}
            for name in duty.rules.by_name:
                called = any_name or of in (name, duty.component, f"{name} {duty.component}")
                if called and name not in names:
                    yield duty.made(self._plan, name)

    def due(self, last_s: float, now_s: float) -> tuple[list[Duty], list[Instance]]:
        """A slice of the round, as wide as the time since the last tick; always what is active, if few."""
        interval_s = self._plan.interval_s
        count = len(self.order)
        passed_s = now_s - last_s
        if not 0 <= passed_s < interval_s:
            return list(self.order), []
        began_s, ends_s = last_s % interval_s, now_s % interval_s
        start, end = int(began_s / interval_s * count), int(ends_s / interval_s * count)
        # A new round began in between, which places alone cannot tell where there is only one.
        due = self.order[start:end] if ends_s >= began_s else self.order[start:] + self.order[:end]
        active = [one for instances in self.active.values() for one in instances]
        if len(active) > _EAGER_ALERTS:
            return due, []
        chosen = {id(one) for duty in due for one in duty.awake}
        return due, [one for one in active if id(one) not in chosen]

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

    def rest(self, now_s: float) -> None:
        """Let go of what is well again and has not flapped lately; who judges elsewhere may post it again."""
        for duty in self.order:
            if duty.awake:
                duty.awake = tuple(one for one in duty.awake if not _rested(one, now_s))
        self.order = [duty for duty in self.order if duty.awake or duty.rules is not NO_RULES]
        self.by_fingerprint = {one.fingerprint: one for duty in self.order for one in duty.awake}

    def _admit(self, duty: Duty, instance: Instance) -> Instance:
        duty.awake = (*duty.awake, instance)
        self.by_fingerprint[instance.fingerprint] = instance
        return instance

    def _found(self, fingerprint: str, alertname: str, component: str) -> tuple[Duty, Instance] | None:
        for duty in self._by_component.get(component, ()):
            if alertname in duty.rules.by_name:
                made = duty.made(self._plan, alertname)
                if made.fingerprint == fingerprint:
                    return duty, made
        return None


def _rested(instance: Instance, now_s: float) -> bool:
    standing = instance.standing
    return (
        standing.phase is Phase.OK
        and not instance.errors
        and all(now_s - at_s > FLAP_WINDOW_S for at_s in standing.changes)
    )
