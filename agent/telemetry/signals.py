"""The three OTLP signals, and the lanes in which they are kept."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final


class Signal(StrEnum):
    """What a request carries; the value is the path's last part."""

    TRACES = "traces"
    METRICS = "metrics"
    LOGS = "logs"


class Lane(IntEnum):
    """One queue on disk. The value is stored in each record; the order is the order of eviction."""

    TRACES = 0
    METRICS = 1
    LOGS = 2
    # Requests with at least one record of level ERROR or above: given up last.
    ERRORS = 3

    @property
    def signal(self) -> Signal:
        """What the lane's records are."""
        return _SIGNALS[self]


_SIGNALS: Final = {
    Lane.TRACES: Signal.TRACES,
    Lane.METRICS: Signal.METRICS,
    Lane.LOGS: Signal.LOGS,
    Lane.ERRORS: Signal.LOGS,
}
# The unit that the ledger counts, as partial_success names it.
ITEMS: Final = {Signal.TRACES: "spans", Signal.METRICS: "data_points", Signal.LOGS: "log_records"}


class Rejected(Exception):  # noqa: N818  # an answer to a client, not a fault of ours
    """A request answered with `status` and `text`; `retry_after_s` only where the client may retry."""

    def __init__(self, status: int, text: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.retry_after_s = retry_after_s
