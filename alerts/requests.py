"""What the traffic says, as it arrives: cumulative request counters and ERROR log events."""

from __future__ import annotations

from msgspec import Struct


class RequestSample(Struct, frozen=True, kw_only=True):
    """Cumulative counters of one source (one scraped instance, or a push stream) at wall second `at_s`.

    `incarnation` changes when the source restarted: its counters then start from 0 again.
    `errors` are answers of 5xx. `buckets` are (upper edge in seconds, cumulative count), +Inf last.
    `born_s`, when known, is the wall second the source started: one born since we began to
    sample its service counts from 0.
    """

    env: str
    service: str
    source: str
    at_s: float
    incarnation: str
    total: int
    errors: int
    buckets: tuple[tuple[float, int], ...] = ()
    born_s: float | None = None


class RequestExample(Struct, frozen=True, kw_only=True):
    """One request that failed or was slow, to look at. `status` is empty where the protocol has none."""

    env: str
    service: str
    at_s: float
    trace_id: str
    method: str
    route: str
    status: str
    duration_s: float
    failed: bool


class ErrorLog(Struct, frozen=True, kw_only=True):
    """ERROR log events of one service with one fingerprint, counted since the last such value.

    `fingerprint` is service, logger, exception type and top frame, or the masked message. `sample` is one
    redacted line. The agent's own lines never become one of these.
    """

    env: str
    service: str
    at_s: float
    fingerprint: str
    sample: str
    count: int = 1
    trace_id: str = ""
    fatal: bool = False
