"""An episode that somebody was told about, from its first notice to its last."""

from __future__ import annotations

import msgspec

from alerts.rule import Severity

STORM = "storm"


def timeless_key(episode: str) -> str:
    """The key under which any agent without memory tells an alert: its episode but for the time."""
    return episode.partition(":")[0]


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What was told of one episode, to which channels. `fingerprint` is `storm` for a digest of many.

    `listed` are the fingerprints of alerts told only as part of this one; `key` is the provider's key where
    it is not the episode. Times are wall seconds.
    """

    episode: str
    fingerprint: str
    env: str
    alertname: str
    component: str
    severity: Severity
    labels: dict[str, str]
    title: str
    text: str
    fired_at_s: float
    told_at_s: float
    channels: tuple[str, ...]
    what: str = ""
    seq: int = 0
    listed: tuple[str, ...] = ()
    updated_at_s: float = 0.0
    reminded: dict[str, float] = {}
    escalated: int = 0
    acked_by: str = ""
    acked_at_s: float = 0.0
    acked_until_s: float = 0.0
    silenced: bool = False
    resolved_at_s: float | None = None
    ended: str | None = None
    key: str = ""

    def acked(self, now_s: float) -> bool:
        """Whether somebody has taken it; stops reminders and escalation."""
        return now_s < self.acked_until_s
