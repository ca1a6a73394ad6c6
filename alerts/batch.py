"""What the judge remembers on disk: the rows of its journal, and one evaluation's changes to them."""

from __future__ import annotations

from msgspec import Struct, field

from alerts.machine import Standing
from alerts.notice import Notice
from alerts.silence import Silence
from alerts.told import Told


class SavedAlert(Struct, frozen=True, kw_only=True):
    """One alert as it was when its state last changed."""

    fingerprint: str
    alertname: str
    labels: dict[str, str]
    standing: Standing
    text: str


class Happening(Struct, frozen=True, kw_only=True):
    """One thing that happened to an alert, for `gaia explain`."""

    at_s: float
    fingerprint: str
    alertname: str
    what: str
    text: str


class OutboxRow(Struct, frozen=True, kw_only=True):
    """A notice on its way to one channel."""

    id: int
    channel: str
    notice: Notice
    seq: int
    created_at_s: float
    attempts: int = 0
    next_at_s: float = 0.0
    state: str = "queued"
    last_error: str = ""
    http_status: int | None = None
    ended_at_s: float | None = None


class Ending(Struct, frozen=True, kw_only=True):
    """An episode is over: `notice` goes to `channels` and to whoever else got, or may have got, its trigger.

    `spared` are channels that want no ends; `local` has the words for channels with a time zone of their own.
    """

    notice: Notice
    channels: tuple[str, ...]
    spared: frozenset[str] = frozenset()
    local: dict[str, Notice] = {}


class Batch(Struct, kw_only=True):
    """What one evaluation changes; written as one transaction. `outbox` is (channel, seq, notice).

    `log_kinds` is (service, fingerprint, last seen) of ERROR log events.
    """

    alerts: list[SavedAlert] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    episodes: list[Told] = field(default_factory=list)
    outbox: list[tuple[str, int, Notice]] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)
    silences: list[Silence] = field(default_factory=list)
    happenings: list[Happening] = field(default_factory=list)
    log_kinds: list[tuple[str, str, float]] = field(default_factory=list)
    alive_at_s: float = 0.0

    def __bool__(self) -> bool:
        return bool(
            self.alerts
            or self.gone
            or self.episodes
            or self.outbox
            or self.endings
            or self.silences
            or self.happenings
            or self.log_kinds
        )
