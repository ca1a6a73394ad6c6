"""Decides which firing alerts are told, to whom, and which are listed under a cause: one call per cause.

Notices are rendered here and put into the batch that also carries the state change, so that both are on
disk before anything is sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

import msgspec
from msgspec import Struct

from alerts.batch import Batch, Happening
from alerts.channel import called, channels
from alerts.cover import Hold, Inhibit, Scene, by_urgency, covered, decide
from alerts.episodes import Episodes
from alerts.examples import Examples
from alerts.follow_up import FollowUp, by_fingerprint
from alerts.instance import Instance
from alerts.machine import Ended, Phase
from alerts.news import NewsRate
from alerts.notice import NoticeKind
from alerts.plan import Graph, JudgePlan
from alerts.rule import NewErrorLogRule, Severity
from alerts.storm import shares_a_root
from alerts.storms import WINDOW_S, follow, join
from alerts.story import Change, Surroundings, retold, story_of
from alerts.told import STORM, Told
from alerts.watch import Watch
from alerts.words import Story

_STORM_OVER: Final = 5
# When nearly nothing answers, they have something in common.
_STORM_OVER_ALL: Final = 2
_TOGETHER: Final = "many at once are told together"
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
    logged: Callable[[str, float], tuple[str, ...]]
    episodes: Episodes
    examples: Examples
    changes: deque[Change]
    suspects: tuple[str, ...]
    _recent: dict[Severity, deque[float]]
    _hushed: set[str]
    gather: bool = False
    doubt: str = ""
    _news: NewsRate = msgspec.field(default_factory=NewsRate)

    @classmethod
    def of(
        cls,
        plan: JudgePlan,
        *,
        active: Mapping[str, list[Instance]],
        watches: Mapping[str, list[Watch]],
        logged: Callable[[str, float], tuple[str, ...]],
        examples: Examples,
        episodes: Iterable[Told] = (),
        timeless: bool = False,
    ) -> Herald:
        """A herald for a plan, with what the last process told of: what is open, and what ended lately.

        `active` (alerts that are not OK) and `watches`, both by component, are the judge's own and live;
        `logged` says what a component logged lately.
        """
        return cls(
            plan=plan,
            graph=Graph(plan.dependencies),
            active=active,
            watches=watches,
            logged=logged,
            episodes=Episodes.of(channels(plan.receivers, plan.env), episodes, timeless=timeless),
            examples=examples,
            changes=deque(maxlen=_CHANGES_KEPT),
            suspects=(),
            _recent={severity: deque() for severity in Severity},
            _hushed=set(),
        )

    @property
    def told(self) -> dict[str, Told]:
        """Open episodes."""
        return self.episodes.told

    @property
    def told_of(self) -> dict[str, Told]:
        """Open episodes by the fingerprint of their alert."""
        return self.episodes.told_of

    def replan(self, plan: JudgePlan) -> None:
        """Take over a new plan, keeping every open episode."""
        self.plan = plan
        self.graph = Graph(plan.dependencies)
        self.episodes.channels = channels(plan.receivers, plan.env)

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
            ended=self.episodes.ended,
            settle_s=self.plan.settle_s,
            now_s=now_s,
            blind=blind,
        )
        # What a digest lists stays listed while it is open: nothing is decided of it again each second.
        digests = {told.episode for told in self.told.values() if told.fingerprint == STORM}
        waiting = [
            one
            for one in on
            if one.standing.phase is Phase.FIRING
            and one.rule.severity is not Severity.LOG
            and one.fingerprint not in self.told_of
            and one.inhibited_by not in digests
            and not one.silenced_by
            # After a restart or a gap it is verified first.
            and not one.standing.verify
        ]
        self._hushed.update(one.fingerprint for one in on if one.silenced_by and one.standing.firing)
        suspects: dict[str, None] = {}
        ready: list[Instance] = []
        ready_at: dict[str, list[Instance]] = {}
        for instance in by_urgency(waiting, self.graph.depth):
            # A cause of this same pass covers its dependents before it is written down.
            if covered(instance, ready_at, self.graph):
                instance.held = "its cause is told first"
            elif self._place(instance, scene, suspects, batch):
                ready.append(instance)
                ready_at.setdefault(instance.component, []).append(instance)
        self.suspects = tuple(suspects)
        if self.gather and not whole:
            for instance in ready:
                instance.held = _TOGETHER
        elif ready:
            self._tell_all(ready, batch, now_s, whole=whole)
        if whole and not blind:
            follow(self.episodes, self._around(now_s), batch)
            FollowUp(
                plan=self.plan,
                episodes=self.episodes,
                instances=by_fingerprint(self.active.values()) if self.told else {},
                retell=partial(self._retold, now_s=now_s),
                now_s=now_s,
            ).run(batch)

    def _place(
        self,
        instance: Instance,
        scene: Scene,
        suspects: dict[str, None],
        batch: Batch,
    ) -> bool:
        """Decide about one alert; whether it is to be told now."""
        decision = decide(instance, scene)
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
            return True
        return False

    def _tell_all(self, ready: list[Instance], batch: Batch, now_s: float, *, whole: bool) -> None:
        for severity in (Severity.PAGE, Severity.CHAT):
            mine = [one for one in ready if one.rule.severity is severity]
            recent = self._recent[severity]
            while recent and now_s - recent[0] > WINDOW_S:
                recent.popleft()
            if not self._at_once(mine, len(recent), now_s):
                for instance in mine:
                    self._tell(instance, batch, now_s)
            elif whole and mine:
                name = join(
                    self.episodes, mine, self._around(now_s), batch, note=self.doubt if self.gather else ""
                )
                for instance in mine:
                    instance.inhibited_by = name
                    said = "listed in a digest of many"
                    batch.happenings.append(_happening(instance, "inhibited", said, now_s))
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
        if isinstance(instance.rule, NewErrorLogRule):
            self._news.told(now_s)
        note = "its silence has ended" if instance.fingerprint in self._hushed else ""
        self._hushed.discard(instance.fingerprint)
        story = story_of(instance, NoticeKind.TRIGGER, self._around(now_s), note=note)
        targets = called(self.episodes.channels, instance.rule.severity, instance.rule.receivers)
        self.episodes.open(story, instance.fingerprint, targets, batch)
        who = ", ".join(channel.name for channel in targets) or "nobody: no receiver takes it"
        batch.happenings.append(_happening(instance, "told", who, now_s))

    def _around(self, now_s: float) -> Surroundings:
        return Surroundings(
            plan=self.plan,
            graph=self.graph,
            active=self.active,
            watches=self.watches,
            logged=self.logged,
            examples=self.examples,
            changes=tuple(self.changes),
            now_s=now_s,
        )

    def resolved(self, instance: Instance, reason: Ended, batch: Batch, now_s: float) -> None:
        """Close the alert's episode on exactly the channels that were told, or may have been."""
        instance.inhibited_by = instance.held = ""
        self._hushed.discard(instance.fingerprint)
        told = self.told_of.get(instance.fingerprint)
        if told is None:
            return
        story = story_of(instance, NoticeKind.RESOLVE, self._around(now_s), ended=reason, told=told)
        self.episodes.close(told, story, reason, batch)

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
        self.episodes.again(told, story, told.channels, batch)

    def news(self, instance: Instance, batch: Batch, now_s: float) -> bool:
        """Tell what is new of an alert that is on already; False when it has to wait for more of its sort."""
        told = self.told_of.get(instance.fingerprint)
        batch.happenings.append(_happening(instance, "news", instance.reading.text, now_s))
        if told is None:
            return True
        if not self._news.may_go(now_s):
            batch.happenings.pop()
            return False
        story = story_of(instance, NoticeKind.UPDATE, self._around(now_s), told=told)
        self.episodes.again(told, story, told.channels, batch)
        return True

    def ack(
        self, episode_: str, author: str, batch: Batch, now_s: float, lasts_s: float = _ACK_LASTS_S
    ) -> bool:
        """Somebody has taken it: no reminder and no escalation until the ack expires."""
        told = self.episodes.take(episode_, author, batch, now_s, lasts_s)
        if told is None:
            return False
        batch.happenings.append(
            Happening(
                at_s=now_s, fingerprint=told.fingerprint, alertname=told.alertname, what="acked", text=author
            )
        )
        return True

    def _retold(self, told: Told, kind: NoticeKind, note: str, *, now_s: float) -> Story:
        """What is open as it is now, or in its first words when its alert cannot be seen."""
        for instance in self.active.get(told.component, ()):
            if instance.fingerprint == told.fingerprint:
                return story_of(instance, kind, self._around(now_s), told=told, note=note)
        return retold(told, kind, self.plan, now_s, note)


def _happening(instance: Instance, what: str, text: str, now_s: float) -> Happening:
    return Happening(
        at_s=now_s,
        fingerprint=instance.fingerprint,
        alertname=instance.alertname,
        what=what,
        text=text,
    )
