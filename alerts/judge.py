"""Evaluates every rule on what was seen, remembers where each alert stands, and has the herald tell.

Synchronous and single-threaded; the journal is its only I/O. One evaluation's state changes and notices are
one transaction. `observe` costs microseconds; `tick` spreads a full round over the check interval.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final

import msgspec

from alerts import external
from alerts.batch import Batch, SavedAlert
from alerts.cover import AGENT_ISOLATED
from alerts.duty import Duty
from alerts.evaluation import Evaluation
from alerts.evidence import Evidence
from alerts.examples import Example, Examples
from alerts.external import ExternalAlert
from alerts.herald import Herald
from alerts.instance import (
    Instance,
    Source,
)
from alerts.isolation import Isolation, Reach
from alerts.journal import Journal
from alerts.machine import Ended, Phase, Standing, resumed
from alerts.plan import JudgePlan
from alerts.quiet import Quiet
from alerts.reading import Outcome, Reading, Unknown, unknown
from alerts.requests import ErrorLog, RequestExample, RequestSample
from alerts.roster import Roster
from alerts.silence import Silence
from alerts.story import Change
from alerts.sweep import Sweep
from alerts.view import AlertView, Transition, view_of
from checks.observation import Observation
from checks.target import TargetKey
from checks.verdict import Verdict

logger = logging.getLogger(__name__)

_LATELY: Final = 200
_LOOKS_AT_ONCE: Final = 50
_ALIVE_EVERY_S: Final = 30.0
_PRUNE_EVERY_S: Final = 3600.0


class Judge:
    """One environment's judgement. Not thread-safe: everything happens on the event loop."""

    def __init__(self, plan: JudgePlan, journal: Journal, *, now_s: float) -> None:
        self._plan = plan
        self._journal = journal
        self._evidence = Evidence(plan, now_s)
        self._roster = Roster(plan)
        self._quiet = Quiet(journal.silences(), self._roster.active)
        self._unreported: tuple[Transition, ...] = ()
        self._left: dict[Duty, None] = {}
        self._at_once = 0
        self._last_tick_s = 0.0
        # What the wall clock showed last; it may be set back before the first tick.
        self._clock_s = now_s
        self._alive_s = now_s
        self._pruned_s = now_s
        self._isolation = Isolation(plan.targets, plan.canaries, plan.interval_s)
        self._examples = Examples(self._evidence.by_component)
        self._herald = Herald.of(
            plan,
            examples=self._examples,
            active=self._roster.active,
            watches=self._evidence.by_component,
            logged=self._evidence.logged_lately,
            episodes=(*journal.episodes(only_open=True), *journal.episodes(limit=_LATELY)),
            timeless=journal.fresh,
        )
        self._evaluation = Evaluation(
            evidence=self._evidence, roster=self._roster, herald=self._herald, quiet=self._quiet
        )
        self._sweep = Sweep(plan, self._evidence, self._roster.order, now_s) if journal.unswept else None
        for service, mark, at_s in journal.log_kinds():
            self._evidence.remember(service, mark, at_s)
        self._resume(now_s)

    # What comes in.

    def observe(self, observation: Observation, verdict: Verdict) -> None:
        """Take in one look and the verdict it led to. Judges nothing yet: `look` and `tick` do."""
        self._evidence.look(observation, verdict)
        self._isolation.saw(observation.target, verdict, observation.finding.reason)

    def example(self, example: RequestExample) -> None:
        """Take in a request that failed or was slow: alerts about it name it."""
        self._examples.request(example)

    def requests(self, sample: RequestSample) -> None:
        """Take in the counters of one source."""
        self._evidence.requests(sample)

    def logged(self, event: ErrorLog) -> None:
        """Take in ERROR log events."""
        self._evidence.logged(event)
        self._examples.logged(event)

    def changed(self, change: Change) -> None:
        """Something was done to the platform; pages within 15 minutes mention it."""
        self._herald.changes.append(change)

    def asks(self, now_s: float) -> bool:
        """Whether the canaries should be looked at now: nearly nothing answers, and it may be us."""
        isolation = self._isolation
        seen_again = isolation.reach is Reach.RETURNING and all(
            watch.latest is None or (watch.latest.at_s > isolation.back_s and not watch.verdict.in_doubt)
            for watch in self._evidence.watches.values()
        )
        due = isolation.weigh(now_s, seen_again=seen_again)
        self._weighed(now_s)
        return due

    def canary(self, *, reachable: bool, now_s: float) -> tuple[Transition, ...]:
        """Whether any place outside answered. If none did, and nearly nothing else does, it is us."""
        self._isolation.answered(reachable=reachable, now_s=now_s)
        self._weighed(now_s)
        return self.tick(now_s)

    def receive(self, alerts: Iterable[ExternalAlert], now_s: float) -> None:
        """Take in alerts that others judged, as Alertmanager would; the next tick returns what changed."""
        touched: list[Instance] = []
        for alert in alerts:
            fresh = external.instance_of(alert, self._plan.env)
            instance = self._roster.by_fingerprint.get(fresh.fingerprint)
            if instance is None or instance.source is not Source.EXTERNAL:
                if 0 < alert.ends_at_s <= now_s or instance is not None or self._roster.knows(fresh):
                    continue
                instance = fresh
                self._roster.add(instance)
            external.confirm(instance, alert, now_s)
            touched.append(instance)
        self._unreported += self._round((), touched, now_s)

    # Judging.

    def look(self, key: TargetKey, now_s: float) -> tuple[Transition, ...]:
        """Evaluate only what hangs on one target: called right after its verdict changed.

        When very many change within a second, the next tick judges the rest, all in one transaction.
        """
        duty = self._roster.by_key.get(key)
        if duty is None:
            return ()
        self._at_once += 1
        if self._at_once > _LOOKS_AT_ONCE:
            self._left[duty] = None
            return ()
        return self._round((duty,), (), now_s, only=True)

    def tick(self, now_s: float) -> tuple[Transition, ...]:
        """Evaluate everything due. Call it about once a second; a full round takes one interval."""
        if now_s < self._clock_s:
            self._stepped_back(self._clock_s - now_s, now_s)
        self._clock_s = now_s
        due, active = self._roster.due(self._last_tick_s, now_s)
        transitions = (*self._unreported, *self._round(dict.fromkeys((*self._left, *due)), active, now_s))
        self._unreported = ()
        self._left.clear()
        self._at_once = 0
        self._last_tick_s = now_s
        if self._roster.active and now_s - self._alive_s >= _ALIVE_EVERY_S:
            self._alive_s = now_s
            self._journal.commit(Batch(alive_at_s=now_s), now_s)
        if now_s - self._pruned_s >= _PRUNE_EVERY_S:
            self._pruned_s = now_s
            self._journal.prune(now_s)
            self._roster.rest(now_s)
        return transitions

    def agent_gap(self, now_s: float) -> None:
        """The agent itself did not run for a while: trust nothing until looked at twice."""
        for instances in self._roster.active.values():
            for instance in instances:
                instance.standing = msgspec.structs.replace(
                    instance.standing,
                    verify=2,
                    paused_s=instance.standing.paused_s
                    + max(0.0, now_s - (instance.standing.last_eval_s or now_s)),
                    last_eval_s=now_s,
                )

    # What can be seen.

    def instances(self, now_s: float | None = None, *, of: str = "") -> tuple[AlertView, ...]:
        """Every alert there is, firing or not; with `of` at least those of that name or component."""
        at_s = self._last_tick_s if now_s is None else now_s
        return tuple(
            view_of(one, self._herald.told_of.get(one.fingerprint), at_s, self._example(one, at_s))
            for one in self._roster.all(of)
            if self._shown(one, at_s)
        )

    def _example(self, instance: Instance, now_s: float) -> Example | None:
        return None if instance.standing.phase is Phase.OK else self._examples.of(instance, now_s)

    def _shown(self, instance: Instance, now_s: float) -> bool:
        """Whether there is anything to say of an alert; what is well is read for the asking."""
        if instance.standing.phase is not Phase.OK:
            return True
        if not self._evidence.shows(instance.rule, instance.key):
            return False
        instance.reading = self._evaluation.read(instance, now_s)
        return True

    def active(self) -> tuple[AlertView, ...]:
        """The alerts that are not OK."""
        told = self._herald.told_of
        return tuple(
            view_of(
                one,
                told.get(one.fingerprint),
                self._last_tick_s,
                self._example(one, self._last_tick_s),
            )
            for instances in self._roster.active.values()
            for one in instances
        )

    def suspects(self) -> tuple[TargetKey, ...]:
        """Targets to look at now: a held page waits to know whether they are its cause."""
        return tuple(
            watch.target.key
            for component in self._herald.suspects
            for watch in self._evidence.by_component.get(component, ())
        )

    @property
    def plan(self) -> JudgePlan:
        """The plan in force."""
        return self._plan

    @property
    def last_tick_s(self) -> float:
        """When the rules were last evaluated (wall seconds)."""
        return self._last_tick_s

    @property
    def isolation(self) -> Isolation:
        """Whether the agent itself is cut off."""
        return self._isolation

    # People.

    def ack(self, name: str, author: str, now_s: float, *, lasts_s: float = 4 * 3600.0) -> tuple[str, ...]:
        """Acknowledge an episode, a fingerprint or every told alert of a rule or component; the episodes."""
        batch = Batch()
        chosen = [
            told.episode
            for told in self._herald.told.values()
            if name in (told.episode, told.fingerprint, told.alertname, told.component)
        ]
        for one in chosen:
            self._herald.ack(one, author, batch, now_s, lasts_s)
        if batch:
            self._journal.commit(batch, now_s)
        return tuple(chosen)

    def silence(self, silence: Silence, now_s: float) -> Silence:
        """Put a silence in force. Raises ValueError when it has no end, author, comment or matcher."""
        self._quiet.add(silence, now_s)
        self._journal.commit(Batch(silences=[silence]), now_s)
        return silence

    def expire(self, silence_id: str, now_s: float) -> bool:
        """End a silence now; False when there is none in force."""
        ended = self._quiet.expire(silence_id, now_s)
        if ended is None:
            return False
        self._journal.commit(Batch(silences=[ended]), now_s)
        return True

    def silences(self) -> tuple[Silence, ...]:
        """Every silence remembered, ended ones of the last days included."""
        return self._quiet.all()

    def reload(self, plan: JudgePlan, now_s: float) -> tuple[Transition, ...]:
        """Take over a new plan. States stay by identity; what is gone resolves and says why."""
        before = dict(self._roster.by_fingerprint)
        self._plan = plan
        self._evidence.replan(plan)
        self._isolation.replan(plan.targets, plan.canaries, plan.interval_s)
        self._roster.arrange(plan)
        self._herald.replan(plan)
        if self._sweep is not None:
            self._sweep.replan(plan, self._roster.order)
        batch = Batch()
        transitions: list[Transition] = []
        for old in before.values():
            kept = self._roster.again(old)
            if kept is not None:
                kept.standing, kept.reading, kept.worst = old.standing, old.reading, old.worst
                kept.held, kept.inhibited_by, kept.silenced_by = old.held, old.inhibited_by, old.silenced_by
                self._roster.file(kept)
            elif old.standing.phase is not Phase.OK:
                reason = Ended.TARGET_REMOVED if old.alertname in plan.rules else Ended.RULE_REMOVED
                transitions.append(self._evaluation.end(old, reason, batch, now_s))
        self._herald.settle(self._roster.on(), batch, now_s, blind=self._blind())
        if batch:
            self._journal.commit(batch, now_s)
        return tuple(transitions)

    # Below: how.

    def _resume(self, now_s: float) -> None:
        """Go on where the last process ended: no second wait, no second page."""
        alive_s = self._journal.alive_at_s()
        batch = Batch()
        for saved in self._journal.alerts():
            told = self._herald.told_of.get(saved.fingerprint)
            instance = self._roster.reborn(saved, told)
            last_s = max(saved.standing.last_eval_s, alive_s)
            standing = resumed(msgspec.structs.replace(saved.standing, last_eval_s=last_s), now_s)
            if instance is None:
                self._orphan(saved, batch, now_s)
            elif standing is None:
                instance.standing = Standing(changes=saved.standing.changes)
            else:
                instance.standing = standing
                instance.ends_at_s = now_s + external.lasts_after_restart_s(instance)
                instance.reading = unknown(
                    Unknown.AGENT_GAP,
                    saved.standing.seen_at_s,
                    f"{saved.text} (before the restart, verifying)",
                )
                instance.worst = Reading(outcome=Outcome.BAD, at_s=saved.standing.seen_at_s, text=saved.text)
                self._roster.file(instance)
        self._roster.rest(now_s)
        if batch:
            self._journal.commit(batch, now_s)

    def _orphan(self, saved: SavedAlert, batch: Batch, now_s: float) -> None:
        """Its rule or target went while we were away: whoever was called is told that it is over."""
        batch.gone.append(saved.fingerprint)
        told = self._herald.told_of.get(saved.fingerprint)
        if told is None:
            return
        reason = Ended.TARGET_REMOVED if saved.alertname in self._plan.rules else Ended.RULE_REMOVED
        ghost = external.instance_of(ExternalAlert(labels=saved.labels), self._plan.env)
        ghost.fingerprint, ghost.component = saved.fingerprint, told.component
        ghost.reading = Reading(outcome=Outcome.GOOD, at_s=now_s, text=saved.text)
        self._herald.resolved(ghost, reason, batch, now_s)

    def _stepped_back(self, by_s: float, now_s: float) -> None:
        """The wall clock was set back: what was seen, and until when others confirm, is that much earlier."""
        self._evidence.stepped_back(by_s, now_s)
        # Also of what has ended: else it would be on again until that second comes a second time.
        for instance in self._roster.by_fingerprint.values():
            if instance.source is Source.EXTERNAL and instance.ends_at_s > 0:
                instance.ends_at_s -= by_s

    def _round(
        self, due: Iterable[Duty], alerts: Iterable[Instance], now_s: float, *, only: bool = False
    ) -> tuple[Transition, ...]:
        """Evaluate, decide, write. `only`: decide about these alone, the next tick decides about the rest."""
        batch = Batch()
        judged = [*alerts]
        for duty in due:
            judged += self._evaluation.stirred(duty, now_s)
        transitions = [
            transition
            for instance in judged
            if (transition := self._evaluation.evaluate(instance, batch, now_s)) is not None
        ]
        if self._roster.active or self._herald.told:
            on = [one for one in judged if one.standing.firing] if only else self._roster.on()
            self._quiet.mark(on, self._plan.maintenance, self._herald.graph, now_s)
            self._herald.settle(on, batch, now_s, whole=not only, blind=self._blind())
        batch.log_kinds += self._evidence.log_kinds(now_s)
        if not only:
            self._swept(batch, now_s)
        if batch:
            self._journal.commit(batch, now_s)
        return tuple(transitions)

    def _swept(self, batch: Batch, now_s: float) -> None:
        """A little of the sweep that follows a start without memory."""
        if self._sweep is None or self._isolation.holds:
            return
        if self._sweep.over:
            # What it said last is on disk by now.
            self._sweep = None
            self._journal.swept()
            return
        episodes = self._herald.episodes
        self._sweep.step(episodes.channels, episodes.told_of, batch, now_s)

    def _blind(self) -> str:
        if not self._isolation.holds:
            return ""
        return self._isolation.said() or "nearly nothing answers: the canaries are asked whether it is us"

    def _weighed(self, now_s: float) -> None:
        """Put into force what is known of the agent's own reach, and say it while it is cut off."""
        isolation = self._isolation
        self._herald.gather, self._herald.doubt = isolation.everything, isolation.lacks()
        was, self._evidence.isolated = self._evidence.isolated, isolation.blind
        if isolation.blind:
            words = {"summary": "is cut off", "description": isolation.said()}
            labels = {"alertname": AGENT_ISOLATED, "severity": "chat"}
            self._evaluation.say(ExternalAlert(labels=labels, annotations=words), self._plan.env, now_s)
        elif was:
            logger.warning("agent.rejoined", extra={"duration_s": round(now_s - isolation.cut_off_s, 1)})
            self._rejoined(now_s)

    def _rejoined(self, now_s: float) -> None:
        """Others could not confirm their alerts while we were cut off; ours about it is over."""
        for instance in self._roster.on():
            if instance.source is not Source.EXTERNAL:
                continue
            if instance.alertname == AGENT_ISOLATED:
                external.end(instance)
            elif instance.ends_at_s > 0:
                instance.ends_at_s = max(instance.ends_at_s, now_s + external.LASTS_S)
