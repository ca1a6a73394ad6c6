"""Many at once become one episode: the first opens it, the next join it, and the last of them ends it."""

from __future__ import annotations

from typing import Final

import msgspec

from alerts.batch import Batch
from alerts.channel import called
from alerts.episodes import Episodes
from alerts.instance import Instance, episode
from alerts.machine import Ended
from alerts.notice import NoticeKind
from alerts.storm import storm_story
from alerts.story import Surroundings
from alerts.told import STORM

WINDOW_S: Final = 60.0
_UPDATE_S: Final = 300.0


def join(
    episodes: Episodes, instances: list[Instance], around: Surroundings, batch: Batch, *, note: str
) -> str:
    """Tell of these, all of one severity, as one; the episode that lists them."""
    severity = instances[0].rule.severity
    running = next(
        (one for one in episodes.told.values() if one.fingerprint == STORM and one.severity is severity), None
    )
    fingerprints = tuple(one.fingerprint for one in instances)
    if running is not None:
        episodes.keep(msgspec.structs.replace(running, listed=(*running.listed, *fingerprints)), batch)
        return running.episode
    name = episode(f"{STORM}-{around.plan.env}-{severity}", around.now_s)
    beside = [
        one
        for listed in around.active.values()
        for one in listed
        if one.rule.severity is severity
        and one.standing.firing
        and around.now_s - one.standing.fired_at_s <= WINDOW_S
    ]
    story = storm_story(name, instances, NoticeKind.TRIGGER, around, beside=beside, note=note)
    episodes.open(story, STORM, called(episodes.channels, severity), batch, listed=fingerprints)
    return name


def follow(episodes: Episodes, around: Surroundings, batch: Batch) -> None:
    """Say now and then how many are left, and once that it is over."""
    for storm in [one for one in episodes.told.values() if one.fingerprint == STORM]:
        listed = set(storm.listed)
        still = [
            one
            for instances in around.active.values()
            for one in instances
            if one.fingerprint in listed and one.standing.firing
        ]
        if not still:
            story = storm_story(storm.episode, [], NoticeKind.RESOLVE, around, begun=storm)
            episodes.close(storm, story, Ended.RECOVERED, batch)
        elif around.now_s - storm.updated_at_s >= _UPDATE_S:
            story = storm_story(storm.episode, still, NoticeKind.UPDATE, around, begun=storm)
            episodes.again(storm, story, storm.channels, batch)
