"""The book of open episodes: who was told what, and the notices that open, follow up and end them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
from msgspec import Struct

from alerts.batch import Batch, Ending
from alerts.channel import Channel
from alerts.machine import Ended
from alerts.notice import Notice
from alerts.told import STORM, Told, timeless_key
from alerts.words import Story, render


class Episodes(Struct, kw_only=True):
    """`told` by episode, `told_of` by fingerprint; `ended` is when a component's last one ended.

    Changed only through the herald, and written with the state change that caused it.
    """

    channels: tuple[Channel, ...]
    told: dict[str, Told]
    told_of: dict[str, Told]
    ended: dict[str, float]
    timeless: bool = False

    @classmethod
    def of(cls, channels: tuple[Channel, ...], kept: Iterable[Told], *, timeless: bool = False) -> Episodes:
        """What the last process told of: what is open, and what ended lately.

        `timeless`: there was none that is known of, so the next may not know of this one; see `sweep`.
        """
        told: dict[str, Told] = {}
        ended: dict[str, float] = {}
        for one in kept:
            if one.resolved_at_s is None:
                told[one.episode] = one
            elif one.fingerprint != STORM:
                ended[one.component] = max(one.resolved_at_s, ended.get(one.component, 0.0))
        return cls(
            channels=channels,
            told=told,
            told_of={one.fingerprint: one for one in told.values() if one.fingerprint != STORM},
            ended=ended,
            timeless=timeless,
        )

    def open(
        self,
        story: Story,
        fingerprint: str,
        targets: tuple[Channel, ...],
        batch: Batch,
        *,
        listed: tuple[str, ...] = (),
    ) -> None:
        """Tell of it for the first time."""
        called = tuple(dict.fromkeys(channel.receiver for channel in targets))
        key = timeless_key(story.episode) if self.timeless else ""
        notice_for = _rendered(msgspec.structs.replace(story, called=called, key=key))
        notice = notice_for(None)
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
            what=story.what,
            fired_at_s=story.fired_at_s,
            told_at_s=story.at_s,
            channels=tuple(channel.name for channel in targets),
            listed=listed,
            updated_at_s=story.at_s,
            key=key,
        )
        self.keep(told, batch)
        batch.outbox.extend((channel.name, 0, notice_for(channel.settings.timezone)) for channel in targets)

    def again(self, told: Told, story: Story, names: Iterable[str], batch: Batch) -> None:
        """Say more about it to these channels."""
        seq = told.seq + 1
        self.keep(msgspec.structs.replace(told, seq=seq, updated_at_s=story.at_s), batch)
        notice_for = _rendered(msgspec.structs.replace(story, key=told.key))
        batch.outbox.extend((name, seq, notice_for(self._zone(name))) for name in names)

    def widen(self, told: Told, story: Story, names: tuple[str, ...], batch: Batch) -> None:
        """Tell more channels of it, as if for the first time."""
        notice_for = _rendered(msgspec.structs.replace(story, key=told.key))
        new = [name for name in names if name not in told.channels]
        batch.outbox.extend((name, 0, notice_for(self._zone(name))) for name in new)
        self.keep(msgspec.structs.replace(told, channels=(*told.channels, *new)), batch)

    def take(self, episode: str, author: str, batch: Batch, now_s: float, lasts_s: float) -> Told | None:
        """Somebody has taken it for a while; None when it is not open."""
        told = self.told.get(episode)
        if told is not None:
            until_s = now_s + lasts_s
            told = msgspec.structs.replace(told, acked_by=author, acked_at_s=now_s, acked_until_s=until_s)
            self.keep(told, batch)
        return told

    def close(self, told: Told, story: Story, reason: Ended, batch: Batch) -> None:
        """Tell its end to whoever was told of it, or may have been."""
        del self.told[told.episode]
        if told.fingerprint != STORM:
            self.told_of.pop(told.fingerprint, None)
            self.ended[told.component] = story.at_s
        batch.episodes.append(msgspec.structs.replace(told, resolved_at_s=story.at_s, ended=reason.value))
        spared = frozenset(channel.name for channel in self.channels if not channel.settings.send_resolved)
        notice_for = _rendered(msgspec.structs.replace(story, key=told.key))
        zones = {channel.name: channel.settings.timezone for channel in self.channels}
        local = {name: notice_for(zone) for name, zone in zones.items() if zone}
        ending = Ending(notice=notice_for(None), channels=told.channels, spared=spared, local=local)
        batch.endings.append(ending)

    def keep(self, told: Told, batch: Batch) -> None:
        """Write down how it stands."""
        self.told[told.episode] = told
        if told.fingerprint != STORM:
            self.told_of[told.fingerprint] = told
        batch.episodes.append(told)

    def _zone(self, name: str) -> str | None:
        return next((one.settings.timezone for one in self.channels if one.name == name), None)


def _rendered(story: Story) -> Callable[[str | None], Notice]:
    """The story's notice for a time zone, each rendered once."""
    made: dict[str | None, Notice] = {}

    def notice_for(zone: str | None) -> Notice:
        if zone not in made:
            made[zone] = render(story, zone)
        return made[zone]

    return notice_for
