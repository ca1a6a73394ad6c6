"""The fault switch: slow, failing or deaf on purpose. Off, loopback only, never in production."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
from enum import StrEnum
from typing import Final

import msgspec
from aiohttp import web

from services.instrumentation.access import was_forwarded
from services.instrumentation.problem import ProblemError

logger = logging.getLogger(__name__)

PATH: Final = "/_fault"


class FaultMode(StrEnum):
    NONE = "none"
    SLOW = "slow"
    ERROR = "error"
    DEAF = "deaf"


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What goes wrong: `ratio` of the requests, `delay_s` when slow; `health` includes the health endpoints.

    A deaf instance accepts and never answers anything, its health endpoints included.
    """

    mode: FaultMode = FaultMode.NONE
    ratio: float = 1.0
    delay_s: float = 3.0
    health: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise ValueError("ratio must be between 0 and 1")
        if not 0 <= self.delay_s <= 3600:
            raise ValueError("delay_s must be between 0 and 3600")


class FaultSwitch:
    """Holds the fault in force and applies it to requests."""

    def __init__(self) -> None:
        self._fault = Fault()
        self._changed = asyncio.Event()

    async def handle(self, request: web.Request) -> web.Response:
        """`POST /_fault` with a Fault sets it, `GET /_fault` shows it. Loopback peers only.

        Not a proxy on this machine that passes on what others sent, nor a page in a browser here.
        """
        here = ipaddress.ip_address(request.remote or "0.0.0.0").is_loopback
        if not here or was_forwarded(request) or "Origin" in request.headers:
            raise ProblemError(403, "the fault switch listens on loopback only")
        if request.method == "POST":
            try:
                self._fault = msgspec.json.decode(await request.read(), type=Fault)
            except msgspec.DecodeError as error:
                raise ProblemError(400, f"not a fault: {error}") from error
            # Whoever is held deaf by the old fault is let go.
            self._changed.set()
            self._changed = asyncio.Event()
            logger.warning("fault.set", extra={"fault": msgspec.to_builtins(self._fault)})
        return web.Response(body=msgspec.json.encode(self._fault), content_type="application/json")

    async def release(self) -> None:
        """End the fault: who drains may not wait for the deaf."""
        self._fault = Fault()
        self._changed.set()

    async def apply(self, *, health: bool) -> None:
        """Suffer the fault in force. Raises ProblemError 500 for an injected error."""
        fault = self._fault
        if fault.mode is FaultMode.NONE:
            return
        if fault.mode is FaultMode.DEAF:
            await self._changed.wait()
            return
        if (health and not fault.health) or random.random() >= fault.ratio:
            return
        if fault.mode is FaultMode.SLOW:
            await asyncio.sleep(fault.delay_s)
            return
        raise ProblemError(500, "a fault was injected", reason="fault_injected")
