"""Whether a database that may sleep is looked at now: only while somebody could use it, and somebody does.

A connection wakes it or keeps it awake, so it is asked only while an app that needs it is started; and after
three looks that met no other client it is left alone until that changes.
"""

from __future__ import annotations

from typing import Final

from checks.catalog import ProbeKit
from checks.finding import Finding, State
from checks.machines import names
from checks.postgres.vitals import Vitals
from checks.reason import Reason
from checks.units import Duration

_FRESH_S: Final = 90.0
_IDLE_LOOKS: Final = 3
_AGAIN_AFTER_S: Final = 600.0


class Gate:
    """Decides before each look. `apps`: the Fly.io apps that use the database; none: always open."""

    def __init__(
        self,
        apps: tuple[str, ...],
        kit: ProbeKit,
        *,
        shown: str,
        nameserver: tuple[str, int],
        within_s: float,
    ) -> None:
        self._apps = apps
        self._kit = kit
        self._shown = shown
        self._nameserver = nameserver
        self._within_s = within_s
        self._idle = 0
        self._last_s = 0.0
        self._started: frozenset[str] = frozenset()

    async def closed(self) -> Finding | None:
        """The finding to give instead of looking; None to look."""
        if not self._apps:
            return None
        started: set[str] = set()
        for app in self._apps:
            known = await self._of(app)
            if known is None:
                words = (
                    f"nobody says whether a machine of {app} is started, so {self._shown} is not asked: "
                    "that could wake it; see the private DNS, or set agent.fly_token"
                )
                return Finding(state=State.UNKNOWN, reason=Reason.FLY_CONTROL_PLANE, message=words)
            started |= known
        changed, self._started = started != self._started, frozenset(started)
        if not started:
            words = (
                f"no machine of {', '.join(self._apps)} is started, so nobody needs {self._shown}: "
                "it is not asked, which would wake it"
            )
            return Finding(state=State.ASLEEP, reason=Reason.ASLEEP, message=words)
        quiet_s = self._kit.clock.monotonic_s() - self._last_s
        if changed or self._idle < _IDLE_LOOKS or quiet_s >= _AGAIN_AFTER_S:
            return None
        words = (
            f"{self._shown} answered {quiet_s:.0f} s ago and had no client but the agent, {self._idle} "
            "times in a row: it is left alone so that it can sleep, until an app starts or for "
            f"{Duration(_AGAIN_AFTER_S)}"
        )
        return Finding(state=State.ASLEEP, reason=Reason.ASLEEP, message=words)

    def looked(self, vitals: Vitals) -> None:
        """What a look found; `vitals` counts the agent itself among the clients."""
        self._last_s = self._kit.clock.monotonic_s()
        self._idle = self._idle + 1 if vitals.used <= 1 else 0

    async def _of(self, app: str) -> frozenset[str] | None:
        """The app's started machines: from the machines check beside us, else from the private DNS."""
        listed = self._kit.apps.listed(app)
        if listed is not None and self._kit.clock.monotonic_s() - listed.at_s <= _FRESH_S:
            return frozenset(machine.id for machine in listed.machines if machine.state == "started")
        server, port = self._nameserver
        try:
            roll = await names.roll(app, server=server, port=port, within_s=self._within_s)
        except names.NamesUnknownError:
            return None
        return roll.started
