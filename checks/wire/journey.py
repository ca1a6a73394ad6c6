"""What happened on the way to an answer, kept while it happens: a look cut off still tells its story."""

from __future__ import annotations

import math
import time
from typing import Final

from checks.finding import Evidence, Phase, PhaseTime

_EVIDENCE_CHARS: Final = 500
_MARGIN_S: Final = 0.03
_MARGIN_SHARE: Final = 0.05
_UNFINISHED: Final = {
    Phase.RESOLVE: "the name look-up did not end",
    Phase.CONNECT: "nothing accepted the connection",
    Phase.TLS: "the TLS handshake did not end",
    Phase.PROCESSING: "it accepted the request and sent no answer",
    Phase.TRANSFER: "the answer did not end",
}


class Journey:
    """The phases of one probe. A phase that never began or never ended has no time."""

    __slots__ = ("_times", "deadline_s", "evidence", "ip", "phase")

    def __init__(self, *, deadline_s: float = math.inf) -> None:
        self.deadline_s = deadline_s  # monotonic
        self.phase: Phase | None = None
        self.ip: str | None = None
        self._times: dict[Phase, float] = {}
        self.evidence: dict[str, str] = {}

    @classmethod
    def within(cls, timeout_s: float) -> Journey:
        """A journey of `timeout_s`, less a little: a caller with the same deadline gets its whole story."""
        return cls(deadline_s=time.monotonic() + timeout_s - min(_MARGIN_S, timeout_s * _MARGIN_SHARE))

    @property
    def unfinished(self) -> str:
        """What is going on right now, as the end of a sentence; empty between phases."""
        return f"{_UNFINISHED[self.phase]} ({self.phase} unfinished)" if self.phase is not None else ""

    def begin(self, phase: Phase) -> None:
        self.phase = phase

    def end(self, duration_s: float) -> None:
        """The phase begun last took `duration_s`; redirects add up."""
        phase = self.phase
        if phase is not None:
            taken_s = max(0.0, duration_s)
            times = self._times
            times[phase] = times[phase] + taken_s if phase in times else taken_s
            self.phase = None

    def note(self, name: str, value: str) -> None:
        """Keep a fact as evidence, capped."""
        self.evidence[name] = value[:_EVIDENCE_CHARS]

    @property
    def latency_s(self) -> float | None:
        """The time the target took: the sum of its phases; None when none ended."""
        return sum(self._times.values()) if self._times else None

    def phases(self) -> tuple[PhaseTime, ...]:
        times = self._times
        return tuple([PhaseTime(phase=phase, duration_s=times[phase]) for phase in times])

    def notes(self) -> tuple[Evidence, ...]:
        """What was noted on the way."""
        return tuple([Evidence(name=name, value=value) for name, value in self.evidence.items()])

    def facts(self) -> tuple[Evidence, ...]:
        """The address and what was noted."""
        where = (Evidence(name="ip", value=self.ip),) if self.ip is not None else ()
        return (*where, *self.notes())
