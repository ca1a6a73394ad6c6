"""What is said again while an episode lasts: reminders, escalation, and that a silence has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec
from msgspec import Struct

from alerts.batch import Batch, Happening
from alerts.channel import Channel
from alerts.episodes import Episodes
from alerts.instance import Instance
from alerts.notice import NoticeKind
from alerts.plan import JudgePlan
from alerts.rule import Severity
from alerts.told import STORM, Told
from alerts.words import Story, span

Retell = Callable[[Told, NoticeKind, str], Story]

UNTAKEN: Final = "nobody has taken it"


class FollowUp(Struct, frozen=True, kw_only=True):
    """One pass over the open episodes. `retell` makes the story of an episode at this moment."""

    plan: JudgePlan
    episodes: Episodes
    instances: dict[str, Instance]
    retell: Retell
    now_s: float

    def run(self, batch: Batch) -> None:
        """Say what is due, for what nobody has taken and nobody silenced."""
        for told in list(self.episodes.told.values()):
            silenced = self._silenced(told)
            if silenced:
                if not told.silenced:
                    self.episodes.keep(msgspec.structs.replace(told, silenced=True), batch)
                    batch.happenings.append(
                        Happening(
                            at_s=self.now_s, fingerprint=told.fingerprint, alertname=told.alertname,
                            what="silenced", text=silenced,
                        )
                    )  # fmt: skip
                continue
            if told.silenced:
                self._loud_again(msgspec.structs.replace(told, silenced=False), batch)
            elif not told.acked(self.now_s):
                self._remind(told, batch)
                self._escalate(self.episodes.told[told.episode], batch)

    def _silenced(self, told: Told) -> str:
        """By what, when all of it is; empty when any of it is not."""
        fingerprints = told.listed if told.fingerprint == STORM else (told.fingerprint,)
        on = [
            one
            for name in fingerprints
            if (one := self.instances.get(name)) is not None and one.standing.firing
        ]
        return on[0].silenced_by if on and all(one.silenced_by for one in on) else ""

    def _loud_again(self, told: Told, batch: Batch) -> None:
        story = self.retell(told, NoticeKind.REMINDER, "its silence has ended")
        reminded = told.reminded | dict.fromkeys(told.channels, self.now_s)
        told = msgspec.structs.replace(told, reminded=reminded)
        self.episodes.again(told, story, told.channels, batch)

    def _remind(self, told: Told, batch: Batch) -> None:
        names = tuple(one.name for one in self.episodes.channels if self._due(told, one))
        if not names:
            return
        note = f"{told.acked_by}'s acknowledgement has ended" if told.acked_by else UNTAKEN
        reminded = told.reminded | dict.fromkeys(names, self.now_s)
        story = self.retell(told, NoticeKind.REMINDER, note)
        self.episodes.again(msgspec.structs.replace(told, reminded=reminded), story, names, batch)

    def _due(self, told: Told, channel: Channel) -> bool:
        settings = channel.settings
        every_s = settings.repeat_page if told.severity is Severity.PAGE else settings.repeat_chat
        last_s = told.reminded.get(channel.name, told.told_at_s)
        return channel.name in told.channels and 0 < every_s <= self.now_s - last_s

    def _escalate(self, told: Told, batch: Batch) -> None:
        steps = self.plan.escalation
        if told.severity is not Severity.PAGE or told.escalated >= len(steps):
            return
        step = steps[told.escalated]
        if self.now_s - told.told_at_s < step.after:
            return
        names = tuple(one.name for one in self.episodes.channels if one.receiver == step.receiver)
        story = self.retell(told, NoticeKind.TRIGGER, f"{UNTAKEN} for {span(step.after)}")
        escalated = msgspec.structs.replace(told, escalated=told.escalated + 1)
        self.episodes.widen(escalated, story, names, batch)


def by_fingerprint(active: Iterable[list[Instance]]) -> dict[str, Instance]:
    """The alerts that are not OK, by fingerprint."""
    return {one.fingerprint: one for instances in active for one in instances}
