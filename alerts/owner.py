"""Who calls for what a receiver left to Alertmanager: it, or we when no Alertmanager takes a push. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from alerts.batch import OutboxRow
from alerts.notice import NoticeKind

TAKES_OVER_AFTER_S: Final = 60.0
# What is kept of a notice that Alertmanager calls for.
LEFT: Final = "left to Alertmanager"


class Fate(StrEnum):
    """`ours`: send it. `theirs`: Alertmanager has it and calls. `open`: not known yet, look again."""

    OURS = "ours"
    THEIRS = "theirs"
    OPEN = "open"


def fate(row: OutboxRow, told: Iterable[OutboxRow], pushed: frozenset[str], *, alone_s: float) -> Fate:
    """What becomes of a notice for a receiver whose owner is Alertmanager.

    `told` are all rows of its episode, `pushed` the channels that are Alertmanagers, `alone_s` how long no
    Alertmanager has accepted anything, or not this one. What we called for ourselves we also end ourselves.
    """
    if row.notice.kind in (NoticeKind.TEST, NoticeKind.REPORT) or not pushed:
        return Fate.OURS
    rows = tuple(told)
    triggers = [one for one in rows if one.notice.kind is NoticeKind.TRIGGER]
    if row.notice.kind is not NoticeKind.TRIGGER:
        mine = [one for one in triggers if one.channel == row.channel]
        return Fate.OURS if any(one.state == "sent" or one.attempts for one in mine) else Fate.THEIRS
    if row.attempts:
        return Fate.OURS
    theirs = [one for one in triggers if one.channel in pushed]
    if any(one.state == "sent" for one in theirs):
        return Fate.THEIRS
    refused = all(one.state == "dead" for one in theirs)
    return Fate.OURS if refused or alone_s >= TAKES_OVER_AFTER_S else Fate.OPEN
