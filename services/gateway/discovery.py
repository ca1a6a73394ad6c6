"""Which instances a service has: configured, listed as started by Fly's DNS, or announced."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Final

import msgspec
from yarl import URL

from services.gateway.pool import InstancePool
from services.instrumentation.breaker import BreakerPolicy
from services.instrumentation.client import HttpClient
from services.instrumentation.kit import Instrumentation
from services.instrumentation.message import Message
from services.instrumentation.messaging import Broker
from services.instrumentation.registration import EVERY_S, SUBJECT, TEMPLATE, Announcement

logger = logging.getLogger(__name__)

_LOOK_S: Final = 5.0
_FORGOTTEN_S: Final = 3 * EVERY_S + 0.5
_MOST: Final = 64


@dataclass(frozen=True, slots=True)
class _Seen:
    announcement: Announcement
    at_s: float


class Discovery:
    """Keeps one pool's instances. `<app>.internal` names list started machines only: asking wakes nobody."""

    def __init__(
        self,
        kit: Instrumentation,
        client: HttpClient,
        pool: InstancePool,
        *,
        urls: tuple[str, ...],
        broker: Broker,
        policy: BreakerPolicy,
    ) -> None:
        self._client = client
        self._pool = pool
        self._policy = policy
        self._fixed = tuple(URL(url) for url in urls if not _is_internal(url))
        self._named = tuple(URL(url) for url in urls if _is_internal(url))
        self._resolved: tuple[URL, ...] = ()
        self._announced: dict[str, _Seen] = {}
        self._count = kit.metrics.gauge(f"gateway_{pool.name}_instances", "Instances known.")
        self.refresh()
        broker.subscribe(kit.settings.subject(SUBJECT, pool.name), self._heard, template=TEMPLATE)
        kit.in_background(f"instances of {pool.name}", self._run)

    def refresh(self) -> None:
        """Tell the pool who there is now."""
        urls = dict.fromkeys((*self._fixed, *self._resolved))
        urls |= dict.fromkeys(URL(seen.announcement.url) for seen in self._announced.values())
        known = {instance.upstream.url: instance.upstream for instance in self._pool.instances}
        self._pool.replace(
            [known.get(url) or self._client.upstream(self._pool.name, str(url), self._policy) for url in urls]
        )
        self._count.set(len(urls))

    async def _heard(self, message: Message) -> None:
        announcement = msgspec.json.decode(message.data, type=Announcement)
        if announcement.url not in self._announced and len(self._announced) >= _MOST:
            return
        self._announced[announcement.url] = _Seen(announcement, time.monotonic())
        if URL(announcement.url) not in {instance.upstream.url for instance in self._pool.instances}:
            logger.info("instance.found", extra={"upstream": self._pool.name, "address": announcement.url})
            self.refresh()
        for instance in self._pool.instances:
            if instance.upstream.url == URL(announcement.url):
                # One that leaves says so before its readiness is asked for again.
                instance.ready = announcement.ready

    async def _run(self) -> None:
        while True:
            if self._named:
                await self._resolve()
            now = time.monotonic()
            gone = [key for key, seen in self._announced.items() if now - seen.at_s > _FORGOTTEN_S]
            for key in gone:
                del self._announced[key]
            if gone or self._named:
                self.refresh()
            await asyncio.sleep(_LOOK_S if self._named else EVERY_S)

    async def _resolve(self) -> None:
        import aiodns

        found: list[URL] = []
        resolver = aiodns.DNSResolver(timeout=1.0, tries=2)
        try:
            for url in self._named:
                answer = await resolver.query_dns(url.host or "", "AAAA")
                # A query for AAAA may also list the CNAMEs on the way.
                addresses = [getattr(record.data, "addr", None) for record in answer.answer]
                found.extend(url.with_host(address) for address in addresses if address)
            self._resolved = tuple(found[:_MOST])
        except aiodns.error.DNSError as error:
            # The last answer is better than none.
            logger.info(
                "instances.not_resolved", extra={"upstream": self._pool.name, "error": str(error.args[:1])}
            )
        finally:
            await resolver.close()


def _is_internal(url: str) -> bool:
    return (URL(url).host or "").endswith(".internal")
