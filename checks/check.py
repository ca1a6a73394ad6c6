"""The seam for everything that can be seen: a check, and the sentinel it may bring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from checks.finding import Finding


class Check(Protocol):
    """One configured look at one target: frozen options and a probe."""

    async def probe(self) -> Finding:
        """Look once and say what was found.

        Expected bad news is a Finding. A probe may raise OSError and TimeoutError, which `observe` maps;
        any other exception is a defect of ours and becomes `unknown/agent`. The caller owns the deadline
        and may cancel at any await; nothing may be left open then, save a connection kept for the next look.
        """
        ...

    async def close(self) -> None:
        """Release whatever is held between looks. Called once, after the last probe."""
        ...


class Sentinel(Protocol):
    """A held-open connection that turns a death into a look.

    It never judges: end of file is suspicion, the confirming probe decides.
    """

    async def watch(self, suspect: Callable[[str], None]) -> None:
        """Hold the connection and call `suspect(why)` at once when it ends or its heartbeat stops.

        Runs until cancelled; reconnects by itself with backoff; never raises OSError.
        """
        ...
