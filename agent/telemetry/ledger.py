"""The conservation law: what was received was delivered, waits, was put aside, or was given up."""

from __future__ import annotations

from msgspec import Struct


class Account(Struct, frozen=True, kw_only=True):
    """One signal and destination, in items. `queued` is counted from the files, not derived from the rest."""

    received: int
    delivered: int
    queued: int
    dead: int
    evicted: int

    @property
    def missing(self) -> int:
        """What nobody can account for: 0, or telemetry was lost or counted twice."""
        return self.received - self.delivered - self.queued - self.dead - self.evicted
