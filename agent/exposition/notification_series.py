"""The series of what was told to people, by channel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from agent.exposition.document import Document
from agent.exposition.family import Line, Shape, label_text
from alerts.waiting import LaneStatus

_SENT: Final = "gaia_notification_sent_total"
_RESULTS: Final = Shape(
    _SENT,
    tuple(Line(labels=(("result", result),)) for result in ("sent", "retried", "failed")),
)
_PENDING: Final = "gaia_notification_pending"
_OLDEST: Final = "gaia_notification_oldest_seconds"
_DURATION: Final = "gaia_notification_duration_seconds"
_TAKEN: Final = "gaia_notification_last_success_timestamp_seconds"
_BREAKER: Final = "gaia_notification_breaker_open"
_ONE: Final = {name: Shape(name) for name in (_PENDING, _OLDEST, _DURATION, _TAKEN, _BREAKER)}


class NotificationSeries:
    """Brings them up to date before a scrape, on the event loop."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._owners: frozenset[str] = frozenset()

    def show(self, lanes: Iterable[LaneStatus]) -> None:
        """Make these the channels, and no others."""
        owners = set()
        for lane in lanes:
            owner = label_text((("receiver", lane.channel),))
            owners.add(owner)
            self._document.put(_SENT, owner, _RESULTS, (lane.sent, lane.failed, lane.dead))
            self._document.put(_PENDING, owner, _ONE[_PENDING], (lane.queued,))
            self._document.put(_OLDEST, owner, _ONE[_OLDEST], (lane.oldest_s,))
            self._document.put(_BREAKER, owner, _ONE[_BREAKER], (int(lane.breaker_open),))
            if lane.last_sent_at_s:
                self._document.put(_TAKEN, owner, _ONE[_TAKEN], (lane.last_sent_at_s,))
                self._document.put(_DURATION, owner, _ONE[_DURATION], (lane.last_duration_s,))
        for owner in self._owners - owners:
            self._document.forget(owner)
        self._owners = frozenset(owners)
