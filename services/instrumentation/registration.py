"""A service makes itself known on NATS: `$SRV.PING` for tools, a heartbeat for the gateway."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import msgspec

from services.instrumentation.kit import Instrumentation
from services.instrumentation.messaging import Broker
from services.instrumentation.problem import UnavailableError

if TYPE_CHECKING:
    from services.instrumentation.nats_link import Link

logger = logging.getLogger(__name__)

SUBJECT: Final = "instances"
TEMPLATE: Final = "gaia.{env}.instances.{service}"
EVERY_S: Final = 2.0


class Announcement(msgspec.Struct, frozen=True):
    """One instance, where it listens, and whether it wants traffic."""

    service: str
    instance: str
    url: str
    ready: bool


class Registration:
    """Announces this instance every two seconds, and at once when it comes, falters or leaves."""

    def __init__(self, kit: Instrumentation, broker: Broker) -> None:
        settings = kit.settings
        self._kit = kit
        self._broker = broker
        self._subject = settings.subject(SUBJECT, settings.service)
        broker.on_connect(self._register)
        kit.in_background("registration", self._run)
        kit.on_drain(self.announce)

    async def announce(self) -> None:
        settings, port = self._kit.settings, self._kit.port
        if port is None:
            return
        url = settings.advertised_url(port)
        ready = self._kit.health.not_ready() is None
        announcement = Announcement(settings.service, settings.instance_id, url, ready)
        try:
            await self._broker.publish(self._subject, msgspec.json.encode(announcement), template=TEMPLATE)
        except UnavailableError:
            logger.debug("registration.waiting")

    async def _run(self) -> None:
        told: bool | None = None
        while True:
            for _ in range(int(EVERY_S / 0.1)):
                ready = self._kit.health.not_ready() is None
                if ready is not told and self._broker.connected and self._kit.port is not None:
                    break
                await asyncio.sleep(0.1)
            if self._broker.connected and self._kit.port is not None:
                told = self._kit.health.not_ready() is None
                await self.announce()

    async def _register(self, link: Link) -> None:
        settings = self._kit.settings
        await link.make_known(
            f"gaia-{settings.service}",
            version=settings.version,
            metadata={"environment": settings.environment.value, "instance": settings.instance_id},
            subject=settings.subject("health", settings.service),
            answer=self._answer,
        )

    def _answer(self) -> bytes:
        status, causes = self._kit.health.overall()
        return msgspec.json.encode({"status": status.value, "output": ", ".join(causes)})
