"""What a channel still has to say, and how it does: rows in memory, and figures for metrics and page."""

from __future__ import annotations

from msgspec import Struct

from alerts.batch import OutboxRow
from alerts.notice import Notice, NoticeKind


class LaneStatus(Struct, frozen=True, kw_only=True):
    """How a channel does. `oldest_s` is the age of its oldest unsent notice, 0 when there is none."""

    channel: str
    kind: str
    queued: int
    oldest_s: float
    sent: int
    failed: int
    dead: int
    breaker_open: bool
    last_sent_at_s: float
    last_duration_s: float
    last_error: str


class Waiting(Struct):
    """A row in memory; `since` and `due` are monotonic seconds, which no set clock moves."""

    row: OutboxRow
    since: float
    due: float

    @property
    def notice(self) -> Notice:
        return self.row.notice

    @property
    def over(self) -> bool:
        """Whether it tells of an end."""
        return self.row.notice.kind is NoticeKind.RESOLVE
