"""What one look found: a state, a closed reason, one sentence, and the evidence for it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct

from checks.reason import Reason


class State(StrEnum):
    """The six states. Unknown is not up, asleep is not down, starting is neither."""

    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"
    ASLEEP = "asleep"
    STARTING = "starting"
    UNKNOWN = "unknown"


# Worst first: the order in which components are listed and aggregated.
SEVERITY: Final = (State.DOWN, State.DEGRADED, State.UNKNOWN, State.STARTING, State.ASLEEP, State.UP)


class Phase(StrEnum):
    """Parts of an exchange, named as blackbox_exporter names them."""

    RESOLVE = "resolve"
    CONNECT = "connect"
    TLS = "tls"
    PROCESSING = "processing"
    TRANSFER = "transfer"


class PhaseTime(Struct, frozen=True, kw_only=True):
    """A phase that happened and ended; an unfinished one is named in the message instead."""

    phase: Phase
    duration_s: float


class Measure(Struct, frozen=True, kw_only=True):
    """One number seen, under the Prometheus name its check declares in the catalog.

    `labels` are the extra ones beside env, service, check and vantage; they are bounded.
    A number that could not be measured has no Measure: there is no 0 or -1 for "not known".
    """

    name: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


class Claim(Struct, frozen=True, kw_only=True):
    """What a target says of one of its own dependencies in its health document."""

    about: str
    state: State
    output: str = ""


class Evidence(Struct, frozen=True, kw_only=True):
    """One fact for the page and for `gaia explain`: capped, redacted, never a metric label."""

    name: str
    value: str


class Finding(Struct, frozen=True, kw_only=True):
    """What a probe found.

    `message` is one sentence with the number, the threshold and the next action where there are any.
    `hard` marks evidence that decides after one immediate confirmation (refused, 57P03, -ERR);
    soft evidence (a timeout, slowness, a 5xx) needs three fresh failures.
    `latency_s` is None when nothing was measured.
    """

    state: State
    reason: Reason
    message: str
    hard: bool = False
    latency_s: float | None = None
    phases: tuple[PhaseTime, ...] = ()
    measures: tuple[Measure, ...] = ()
    claims: tuple[Claim, ...] = ()
    evidence: tuple[Evidence, ...] = ()
