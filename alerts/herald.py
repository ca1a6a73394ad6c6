"""Decides which firing alerts are told, to whom, and which are listed under a cause: one call per cause.

Notices are rendered here and put into the batch that also carries the state change, so that both are on
disk before anything is sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from msgspec import Struct

from alerts.batch import Batch, Happening
from alerts.channel import Channel, called, channels
from alerts.cover import RANK, Hold, Inhibit, Scene, by_urgency, decide
from alerts.instance import Instance, episode
from alerts.machine import Ended, Phase
from alerts.notice import Notice, NoticeKind
from alerts.plan import Graph, JudgePlan
from alerts.rule import Severity
from alerts.storm import shares_a_root, storm_story
from alerts.story import Change, Surroundings, story_of
from alerts.told import STORM, Told
from alerts.watch import Watch
from alerts.words import Story, render

_STORM_OVER: Final = 5
# When nearly nothing answers, they have something in common.
_STORM_OVER_ALL: Final = 2
_TOGETHER: Final = "many at once are told together"
_STORM_WINDOW_S: Final = 60.0
_STORM_UPDATE_S: Final = 300.0
_ACK_LASTS_S: Final = 4 * 3600.0
_CHANGES_KEPT: Final = 64


class Herald(Struct):
    """Open episodes and who was called. Changed only by the judge, never by a channel.

    The judge sets `gather` while nearly nothing answers: what is wrong is then told at once, not one by one;
    and `doubt`, which says what cannot be ruled out then.
    """

    plan: JudgePlan
    graph: Graph
    active: Mapping[str, list[Instance]]
    watches: Mapping[str, list[Watch]]
    channels: tuple[Channel, ...]
    told: dict[str, Told]
    told_of: dict[str, Told]
    ended: dict[str, float]
    changes: deque[Change]
    suspects: tuple[str, ...]
    _recent: dict[Severity, deque[float]]
    gather: bool = False
    doubt: str = ""

    @classmethod
    def of(
        cls,
        plan: JudgePlan,
        *,
        active: Mapping[str, list[Instance]],
        watches: Mapping[str, list[Watch]],
        episodes: Iterable[Told] = (),
    ) -> Herald:
        """A herald for a plan, with what the last process told of: what is open, and what ended lately.

        `active` (alerts that are not OK) and `watches`, both by component, are the judge's own and live.
        """
        told: dict[str, Told] = {}
        ended: dict[str, float] = {}
        for one in episodes:
            if one.resolved_at_s is None:
                told[one.episode] = one
            elif one.fingerprint != STORM:
                ended[one.component] = max(one.resolved_at_s, ended.get(one.component, 0.0))
        return cls(
            plan=plan,
            graph=Graph(plan.dependencies),
            active=active,
            watches=watches,
            channels=channels(plan.receivers, plan.env),
            told=told,
            told_of={one.fingerprint: one for one in told.values() if one.fingerprint != STORM},
            ended=ended,
            changes=deque(maxlen=_CHANGES_KEPT),
            suspects=(),
            _recent={severity: deque() for severity in Severity},
        )

    def replan(self, plan: JudgePlan) -> None:
        """Take over a new plan, keeping every open episode."""
        self.plan = plan
        self.graph = Graph(plan.dependencies)
        self.channels = channels(plan.receivers, plan.env)

    def settle(
        self, on: list[Instance], batch: Batch, now_s: float, *, whole: bool = True, blind: str = ""
    ) -> None:
        """Decide about those of the firing alerts `on` that nobody was told of.

        `whole`: these are all there are; then many at once become one, and open episodes are followed up.
        `blind` says why nothing may be told now, empty when it may.
        """
        scene = Scene(
            graph=self.graph,
            by_component=self.active,
            watches=self.watches,
            told=self.told,
            told_of=self.told_of,
            ended=self.ended,
            settle_s=self.plan.settle_s,
            now_s=now_s,
            blind=blind,
        )
        waiting = [
            one
            for one in on
            if one.standing.phase is Phase.FIRING
            and one.rule.severity is not Severity.LOG
            and one.fingerprint not in self.told_of
            and not one.silenced_by
            # After a restart or a gap it is verified first.
            and not one.standing.verify
        ]
        suspects: dict[str, None] = {}
        ready: list[Instance] = []
        for instance in by_urgency(waiting, self.graph.depth):
            self._place(instance, scene, ready, suspects, batch)
        self.suspects = tuple(suspects)
        if self.gather and not whole:
            for instance in ready:
                instance.held = _TOGETHER
        elif ready:
            self._tell_all(ready, batch, now_s, whole=whole)
        if whole and not blind:
            self._update_storms(batch, now_s)
            self._follow_up(batch, now_s)

    def _place(
        self,
        instance: Instance,
        scene: Scene,
        ready: list[Instance],
        suspects: dict[str, None],
        batch: Batch,
    ) -> None:
        decision = decide(instance, scene)
        # A cause of this same pass covers its dependents before it is written down.
        if any(_covers(cause, instance, self.graph) for cause in ready):
            instance.held = "its cause is told first"
            return
        if isinstance(decision, Inhibit):
            if instance.inhibited_by != decision.episode:
                cause = self.told[decision.episode]
                text = f"listed under {cause.alertname} of {cause.component}"
                batch.happenings.append(_happening(instance, "inhibited", text, scene.now_s))
            instance.inhibited_by, instance.held = decision.episode, ""
        elif isinstance(decision, Hold):
            if instance.held != decision.why:
                batch.happenings.append(_happening(instance, "held", decision.why, scene.now_s))
            instance.inhibited_by, instance.held = "", decision.why
            suspects.update(dict.fromkeys(decision.suspects))
        else:
            instance.inhibited_by = instance.held = ""
            ready.append(instance)

    def _tell_all(self, ready: list[Instance], batch: Batch, now_s: float, *, whole: bool) -> None:
        for severity in (Severity.PAGE, Severity.CHAT):
            mine = [one for one in ready if one.rule.severity is severity]
            recent = self._recent[severity]
            while recent and now_s - recent[0] > _STORM_WINDOW_S:
                recent.popleft()
            if not self._at_once(mine, len(recent), now_s):
                for instance in mine:
                    self._tell(instance, batch, now_s)
            elif whole and mine:
                self._storm(mine, severity, batch, now_s)
            else:
                # The next tick, within a second, says how many there are.
                for instance in mine:
                    instance.held = _TOGETHER
                continue
            recent.extend([now_s] * len(mine))

    def _at_once(self, mine: list[Instance], recently: int, now_s: float) -> bool:
        """Whether these are one thing to be told rather than many."""
        over = _STORM_OVER_ALL if self.gather else _STORM_OVER
        return recently + len(mine) > over or shares_a_root(mine, self._around(now_s))

    def _tell(self, instance: Instance, batch: Batch, now_s: float) -> None:
        story = story_of(instance, NoticeKind.TRIGGER, self._around(now_s))
        targets = called(self.channels, instance.rule.severity, instance.rule.receivers)
        self._open(story, instance.fingerprint, targets, batch, now_s)
        who = ", ".join(channel.name for channel in targets) or "nobody: no receiver takes it"
        batch.happenings.append(_happening(instance, "told", who, now_s))

    def _around(self, now_s: float) -> Surroundings:
        return Surroundings(
            plan=self.plan,
            graph=self.graph,
            active=self.active,
            watches=self.watches,
            changes=tuple(self.changes),
            now_s=now_s,
        )

    def _open(
        self,
        story: Story,
        fingerprint: str,
        targets: tuple[Channel, ...],
        batch: Batch,
        now_s: float,
        listed: tuple[str, ...] = (),
    ) -> None:
        notice = render(story)
        told = Told(
            episode=story.episode,
            fingerprint=fingerprint,
            env=story.env,
            alertname=story.alertname,
            component=story.component,
            severity=story.severity,
            labels=story.labels,
            title=notice.title,
            text=notice.text,
            fired_at_s=story.fired_at_s,
            told_at_s=now_s,
            channels=tuple(channel.name for channel in targets),
            listed=listed,
            updated_at_s=now_s,
        )
        self._keep(told, batch)
        batch.outbox.extend((name, 0, notice) for name in told.channels)

    def _storm(self, instances: list[Instance], severity: Severity, batch: Batch, now_s: float) -> None:
        """Many at once become one; the next ones join it."""
        running = next(
            (one for one in self.told.values() if one.fingerprint == STORM and one.severity is severity), None
        )
        fingerprints = tuple(one.fingerprint for one in instances)
        if running is None:
            name = episode(f"{STORM}-{self.plan.env}-{severity}", now_s)
            beside = [
                one
                for listed in self.active.values()
                for one in listed
                if one.rule.severity is severity
                and one.standing.firing
                and now_s - one.standing.fired_at_s <= _STORM_WINDOW_S
            ]
            story = storm_story(
                name,
                instances,
                NoticeKind.TRIGGER,
                self._around(now_s),
                beside=beside,
                note=self.doubt if self.gather else "",
            )
            self._open(story, STORM, called(self.channels, severity), batch, now_s, listed=fingerprints)
        else:
            name = running.episode
            self._keep(msgspec.structs.replace(running, listed=(*running.listed, *fingerprints)), batch)
        for instance in instances:
            instance.inhibited_by = name
            batch.happenings.append(_happening(instance, "inhibited", "listed in a digest of many", now_s))

    def _update_storms(self, batch: Batch, now_s: float) -> None:
        for storm in [one for one in self.told.values() if one.fingerprint == STORM]:
            listed = set(storm.listed)
            still = [
                one
                for instances in self.active.values()
                for one in instances
                if one.fingerprint in listed and one.standing.firing
            ]
            if not still:
                story = storm_story(storm.episode, [], NoticeKind.RESOLVE, self._around(now_s), begun=storm)
                self._close(storm, story, Ended.RECOVERED, batch, now_s)
            elif now_s - storm.updated_at_s >= _STORM_UPDATE_S:
                story = storm_story(storm.episode, still, NoticeKind.UPDATE, self._around(now_s), begun=storm)
                self._again(storm, story, storm.channels, batch, now_s)

    def resolved(self, instance: Instance, reason: Ended, batch: Batch, now_s: float) -> None:
        """Close the alert's episode on exactly the channels that were told, or may have been."""
        instance.inhibited_by = instance.held = ""
        told = self.told_of.get(instance.fingerprint)
        if told is None:
            return
        story = story_of(instance, NoticeKind.RESOLVE, self._around(now_s), ended=reason, told=told)
        self._close(told, story, reason, batch, now_s)

    def flapping(self, instance: Instance, batch: Batch, now_s: float) -> None:
        """Say once that an alert comes and goes; its episode then stays open until it is stable."""
        told = self.told_of.get(instance.fingerprint)
        if told is None:
            return
        story = story_of(
            instance,
            NoticeKind.UPDATE,
            self._around(now_s),
            note="comes and goes: held open until stable for 30 min",
            told=told,
        )
        self._again(told, story, told.channels, batch, now_s)

    def ack(
        self, episode_: str, author: str, batch: Batch, now_s: float, lasts_s: float = _ACK_LASTS_S
    ) -> bool:
        """Somebody has taken it: no reminder and no escalation until the ack expires."""
        told = self.told.get(episode_)
        if told is None:
            return False
        taken = msgspec.structs.replace(
            told, acked_by=author, acked_at_s=now_s, acked_until_s=now_s + lasts_s
        )
        self._keep(taken, batch)
        batch.happenings.append(
            Happening(
                at_s=now_s, fingerprint=told.fingerprint, alertname=told.alertname, what="acked", text=author
            )
        )
        return True

    def _follow_up(self, batch: Batch, now_s: float) -> None:
        """Reminders and escalation, for what nobody has taken."""
        for told in list(self.told.values()):
            if told.acked(now_s):
                continue
            due = [
                channel
                for channel in self.channels
                if channel.name in told.channels and self._reminder_due(told, channel, now_s)
            ]
            if due:
                self._remind(told, due, batch, now_s)
            self._escalate(self.told[told.episode], batch, now_s)

    def _reminder_due(self, told: Told, channel: Channel, now_s: float) -> bool:
        settings = channel.settings
        every_s = settings.repeat_page if told.severity is Severity.PAGE else settings.repeat_chat
        return every_s > 0 and now_s - told.reminded.get(channel.name, told.told_at_s) >= every_s

    def _remind(self, told: Told, due: list[Channel], batch: Batch, now_s: float) -> None:
        names = tuple(channel.name for channel in due)
        reminded = told.reminded | dict.fromkeys(names, now_s)
        self._again(
            msgspec.structs.replace(told, reminded=reminded),
            _retold(told, NoticeKind.REMINDER, self.plan, now_s, "nobody has acknowledged it"),
            names,
            batch,
            now_s,
        )

    def _escalate(self, told: Told, batch: Batch, now_s: float) -> None:
        steps = self.plan.escalation
        if told.severity is not Severity.PAGE or told.escalated >= len(steps):
            return
        step = steps[told.escalated]
        if now_s - told.told_at_s < step.after:
            return
        names = tuple(one.name for one in self.channels if one.receiver == step.receiver)
        notice = render(_retold(told, NoticeKind.TRIGGER, self.plan, now_s, "nobody has acknowledged it"))
        batch.outbox.extend((name, 0, notice) for name in names if name not in told.channels)
        self._keep(
            msgspec.structs.replace(
                told,
                escalated=told.escalated + 1,
                channels=tuple(dict.fromkeys((*told.channels, *names))),
            ),
            batch,
        )

    def _again(self, told: Told, story: Story, names: tuple[str, ...], batch: Batch, now_s: float) -> None:
        seq = told.seq + 1
        self._keep(msgspec.structs.replace(told, seq=seq, updated_at_s=now_s), batch)
        notice = render(story)
        batch.outbox.extend((name, seq, notice) for name in names)

    def _close(self, told: Told, story: Story, reason: Ended, batch: Batch, now_s: float) -> None:
        del self.told[told.episode]
        if told.fingerprint != STORM:
            self.told_of.pop(told.fingerprint, None)
            self.ended[told.component] = now_s
        batch.episodes.append(msgspec.structs.replace(told, resolved_at_s=now_s, ended=reason.value))
        notice: Notice = render(story)
        wants = {channel.name for channel in self.channels if not channel.settings.send_resolved}
        batch.outbox.extend((name, 0, notice) for name in told.channels if name not in wants)

    def _keep(self, told: Told, batch: Batch) -> None:
        self.told[told.episode] = told
        if told.fingerprint != STORM:
            self.told_of[told.fingerprint] = told
        batch.episodes.append(told)


def _covers(cause: Instance, instance: Instance, graph: Graph) -> bool:
    near = cause.component == instance.component or cause.component in graph.causes(instance.component)
    return near and bool(cause.component) and RANK[cause.rule.severity] >= RANK[instance.rule.severity]


def _happening(instance: Instance, what: str, text: str, now_s: float) -> Happening:
    return Happening(
        at_s=now_s,
        fingerprint=instance.fingerprint,
        alertname=instance.alertname,
        what=what,
        text=text,
    )


def _retold(told: Told, kind: NoticeKind, plan: JudgePlan, now_s: float, note: str) -> Story:
    """The first notice's words again, with how long it has been."""
    return Story(
        kind=kind,
        episode=told.episode,
        env=told.env,
        alias=plan.alias,
        alertname=told.alertname,
        component=told.component,
        severity=told.severity,
        labels=told.labels,
        what="needs somebody",
        evidence=told.text.split("\n", 1)[0],
        at_s=now_s,
        fired_at_s=told.fired_at_s,
        since_s=told.fired_at_s,
        external_url=plan.external_url,
        note=note,
    )
