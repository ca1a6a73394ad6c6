"""Looks at the places outside when somebody needs to know whether it is the agent that is cut off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import msgspec

from alerts.canary import Canary
from checks.catalog import ProbeKit, kind
from checks.check import Check
from checks.finding import State
from checks.observation import observe
from checks.target import Kind, Target, TargetKey
from checks.units import Duration

logger = logging.getLogger(__name__)

_WITHIN: Final = Duration(2)


class CanaryLooks:
    """All canaries of one environment at once, on demand; `told` gets whether any of them answered."""

    def __init__(
        self,
        env: str,
        kit: ProbeKit,
        canaries: Callable[[], tuple[Canary, ...]],
        told: Callable[[bool], None],
    ) -> None:
        self._env = env
        self._kit = kit
        self._canaries = canaries
        self._told = told
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Look now; while a look is under way its answer is the answer."""
        self._asked.set()

    async def run(self) -> None:
        """Look whenever asked, until cancelled."""
        while True:
            await self._asked.wait()
            reachable = await self._any_answers()
            self._asked.clear()
            self._told(reachable)

    async def _any_answers(self) -> bool:
        """Whether one answers, without waiting for those that do not."""
        looks = [asyncio.create_task(self._answers(canary)) for canary in self._canaries()]
        try:
            for look in asyncio.as_completed(looks):
                if await look:
                    return True
            return False
        finally:
            for task in looks:
                task.cancel()
            await asyncio.gather(*looks, return_exceptions=True)

    async def _answers(self, canary: Canary) -> bool:
        target = Target(
            key=TargetKey(env=self._env, service="canary", check=canary.kind, vantage="agent"),
            kind=Kind.AGENT,
            address=str(canary),
        )
        check = _check(canary, target, self._kit)
        seen = await observe(check, target, deadline_s=float(_WITHIN), clock=self._kit.clock)
        await check.close()
        answered = seen.finding.state in (State.UP, State.DEGRADED)
        if not answered:
            logger.info("canary.silent", extra={"target": str(canary), "error": seen.finding.message})
        return answered


def _check(canary: Canary, target: Target, kit: ProbeKit) -> Check:
    chosen = kind(canary.kind)
    place = f"[{canary.host}]" if ":" in canary.host else canary.host
    options: dict[str, object] = {"timeout": _WITHIN, "address": f"{place}:{canary.port}"}
    if canary.kind == "dns":
        # Any answer says that the way there and back is open, whatever it says of the name.
        codes = ("NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED", "FORMERR", "NOTIMP")
        options = {
            "timeout": _WITHIN, "server": canary.host, "port": canary.port, "name": canary.name,
            "rcode": codes, "min_answers": 0,
        }  # fmt: skip
    return chosen.build(target, msgspec.convert(options, chosen.options), kit)
