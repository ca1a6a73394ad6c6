"""One evaluation of one place: which alerts stir, what the evidence says, and what follows from a change."""

from __future__ import annotations

import logging
from typing import Final

from msgspec import Struct

from alerts import external
from alerts.batch import Batch, Happening, SavedAlert
from alerts.cover import AGENT_ISOLATED
from alerts.duty import Duty
from alerts.evidence import Evidence
from alerts.external import ExternalAlert
from alerts.herald import Herald
from alerts.instance import Instance, Source
from alerts.machine import Ended, Phase, Standing, Step, closed, step
from alerts.quiet import Quiet
from alerts.reading import Outcome, Reading, Unknown, unknown
from alerts.roster import Roster
from alerts.rule import NewErrorLogRule, Rule
from alerts.view import Transition

logger = logging.getLogger(__name__)

_BROKEN_AFTER: Final = 3


class Evaluation(Struct, frozen=True, kw_only=True, eq=False):
    """Over the judge's own parts. Everything that changes goes into a batch beside the state itself."""

    evidence: Evidence
    roster: Roster
    herald: Herald
    quiet: Quiet

    def stirred(self, duty: Duty, now_s: float) -> tuple[Instance, ...]:
        """The alerts of a place that need evaluation; one that turns bad for the first time wakes up."""
        stirring = self.evidence.stirring(duty, now_s)
        if not duty.awake:
            for name, rule in stirring:
                if self._turns(duty, rule, now_s):
                    self.roster.wake(duty, name)
            return duty.awake
        names = {one.alertname for one in duty.awake}
        for name, rule in stirring:
            if name not in names and self._turns(duty, rule, now_s):
                self.roster.wake(duty, name)
        may = {name for name, _ in stirring}
        return tuple(
            one
            for one in duty.awake
            if one.standing.phase is not Phase.OK or one.alertname in may or one.source is Source.EXTERNAL
        )

    def _turns(self, duty: Duty, rule: Rule, now_s: float) -> bool:
        """Whether an alert that is asleep has to be woken: it is bad, or its rule cannot be read."""
        try:
            reading = self.evidence.read(rule, duty.component, duty.key, now_s)
        except Exception:
            return True
        return reading.outcome is Outcome.BAD

    def evaluate(self, instance: Instance, batch: Batch, now_s: float) -> Transition | None:
        """Read one alert's rule and take the step that follows; None when nothing happened."""
        before = instance.standing
        reading = self.read(instance, now_s)
        after, happened = step(before, reading, instance.pace, now_s)
        instance.reading = reading
        if reading.outcome is Outcome.BAD:
            instance.worst = reading
        if after is before:
            return None
        instance.standing = after
        if isinstance(instance.rule, NewErrorLogRule) and reading.outcome is Outcome.BAD:
            self._news(instance, batch, now_s, fired=happened is Step.FIRED)
        if happened is None:
            return None
        return self._happened(instance, before, happened, batch, now_s)

    def _news(self, instance: Instance, batch: Batch, now_s: float, *, fired: bool) -> None:
        """The first new kind is in the alert itself, further ones follow; then they are not new any more."""
        window = self.evidence.log_window(instance.component)
        if window.news and (fired or self.herald.news(instance, batch, now_s)):
            batch.log_kinds += [(instance.component, mark, at_s) for mark, at_s in window.told(now_s)]

    def _happened(
        self, instance: Instance, before: Standing, happened: Step, batch: Batch, now_s: float
    ) -> Transition:
        after = instance.standing
        self.roster.file(instance)
        batch.alerts.append(_saved(instance))
        text = instance.reading.text
        batch.happenings.append(
            Happening(
                at_s=now_s, fingerprint=instance.fingerprint, alertname=instance.alertname,
                what=happened.value, text=text,
            )
        )  # fmt: skip
        if happened is Step.FIRED:
            instance.held = instance.inhibited_by = instance.silenced_by = ""
        elif happened is Step.FLAPPING:
            self.herald.flapping(instance, batch, now_s)
        elif happened is Step.RESOLVED:
            reason = Ended.EXPIRED if external.expired(instance, now_s) else after.ended or Ended.RECOVERED
            self.herald.resolved(instance, reason, batch, now_s)
            batch.silences += self.quiet.resolved(instance, now_s)
        return self._transition(instance, before.phase, happened, text, now_s)

    def end(self, instance: Instance, reason: Ended, batch: Batch, now_s: float) -> Transition:
        """Close an alert that no evaluation can close any more."""
        before = instance.standing.phase
        instance.standing = closed(instance.standing, reason, now_s)
        batch.gone.append(instance.fingerprint)
        batch.happenings.append(
            Happening(
                at_s=now_s, fingerprint=instance.fingerprint, alertname=instance.alertname,
                what=Step.RESOLVED.value, text=reason.value,
            )
        )  # fmt: skip
        self.herald.resolved(instance, reason, batch, now_s)
        return self._transition(instance, before, Step.RESOLVED, reason.value, now_s)

    def _transition(
        self, instance: Instance, before: Phase, happened: Step, text: str, now_s: float
    ) -> Transition:
        return Transition(
            at_s=now_s,
            alertname=instance.alertname,
            component=instance.component,
            fingerprint=instance.fingerprint,
            episode=instance.episode,
            labels=instance.labels,
            severity=instance.rule.severity,
            before=before,
            after=instance.standing.phase,
            what=happened,
            text=text,
            value=instance.reading.value,
        )

    def read(self, instance: Instance, now_s: float) -> Reading:
        """What the evidence says of one alert now; never raises."""
        if instance.source is Source.EXTERNAL:
            if self.evidence.isolated and instance.alertname != AGENT_ISOLATED:
                return unknown(Unknown.ISOLATED, instance.reading.at_s, "the agent itself is cut off")
            return external.reading_of(instance, now_s)
        try:
            reading = self.evidence.read(
                instance.rule,
                instance.component,
                instance.key,
                now_s,
                on_since_s=instance.standing.active_at_s if instance.standing.firing else 0.0,
            )
        except Exception as error:
            instance.errors += 1
            if instance.errors == 1:
                logger.exception("rule.broken", extra={"rule": instance.alertname})
            if instance.errors >= _BROKEN_AFTER:
                self._broken(instance, error, now_s)
            return unknown(Unknown.EVAL_ERROR, now_s, f"the rule cannot be evaluated: {error!r}"[:300])
        instance.errors = 0
        return reading

    def _broken(self, instance: Instance, error: Exception, now_s: float) -> None:
        """A rule that cannot be evaluated is said once, whatever it would have said."""
        alert = ExternalAlert(
            labels={"alertname": "rule_broken", "rule": instance.alertname, "severity": "chat"},
            annotations={
                "summary": f"cannot evaluate the rule {instance.alertname}",
                "description": f"{type(error).__name__}: {error}: report it; it says nothing until then",
            },
        )
        self.say(alert, instance.labels["env"], now_s)

    def say(self, alert: ExternalAlert, env: str, now_s: float) -> None:
        """Confirm an alert about the agent itself; it comes and goes like any other."""
        made = external.instance_of(alert, env)
        if made.fingerprint not in self.roster.by_fingerprint:
            self.roster.add(made)
        external.confirm(self.roster.by_fingerprint[made.fingerprint], alert, now_s)


def _saved(instance: Instance) -> SavedAlert:
    reading = instance.worst if instance.standing.firing and instance.worst is not None else instance.reading
    return SavedAlert(
        fingerprint=instance.fingerprint,
        alertname=instance.alertname,
        labels=instance.labels,
        standing=instance.standing,
        text=reading.text,
    )
