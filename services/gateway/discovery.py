"""Which instances a service has: configured, listed as started by Fly's DNS, or announced."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
from prometheus_client import Gauge
from yarl import URL

from services.gateway.pool import InstancePool
from services.instrumentation.breaker import BreakerPolicy
from services.instrumentation.client import HttpClient
from services.instrumentation.kit import Instrumentation
from services.instrumentation.message import Message
from services.instrumentation.messaging import Broker
from services.instrumentation.registration import EVERY_S, SUBJECT, TEMPLATE, Announcement

if TYPE_CHECKING:
    import aiodns

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
        count: Gauge,
    ) -> None:
        self._client = client
        self._pool = pool
        self._policy = policy
        self._fixed = tuple(URL(url) for url in urls if not _is_internal(url))
        self._named = tuple(URL(url) for url in urls if _is_internal(url))
        self._servers = [name for name in kit.settings.options.get("DNS_SERVERS", "").split(",") if name]
        self._resolved: tuple[URL, ...] = ()
        self._announced: dict[str, _Seen] = {}
        self._count = count
        self.refresh()
        broker.subscribe(kit.settings.subject(SUBJECT, pool.name), self._heard, template=TEMPLATE)
        kit.in_background(f"instances of {pool.name}", self._run)

    def refresh(self) -> None:
        """Tell the pool who there is now; the series of those that went go with them."""
        urls = dict.fromkeys((*self._fixed, *self._resolved))
        urls |= dict.fromkeys(URL(seen.announcement.url) for seen in self._announced.values())
        known = {instance.upstream.url: instance.upstream for instance in self._pool.instances}
        self._pool.replace(
            [known.get(url) or self._client.upstream(self._pool.name, str(url), self._policy) for url in urls]
        )
        for url in known.keys() - urls.keys():
            self._client.forget(known[url])
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
        if not self._named:
            while True:
                self._forget()
                await asyncio.sleep(EVERY_S)
        # Loaded where it is needed: not on a developer's machine.
        import aiodns

        resolver = aiodns.DNSResolver(nameservers=self._servers or None, timeout=1.0, tries=2)
        try:
            while True:
                await self._resolve(resolver)
                self._forget()
                await asyncio.sleep(_LOOK_S)
        finally:
            await resolver.close()

    def _forget(self) -> None:
        """Instances that have not announced themselves lately are gone."""
        now = time.monotonic()
        for key in [key for key, seen in self._announced.items() if now - seen.at_s > _FORGOTTEN_S]:
            del self._announced[key]
        self.refresh()

    async def _resolve(self, resolver: aiodns.DNSResolver) -> None:
        import aiodns

        found: list[URL] = []
        try:
            for url in self._named:
                answer = await resolver.query_dns(url.host or "", "AAAA")
                # A query for AAAA may also list the CNAMEs on the way.
                addresses = [getattr(record.data, "addr", None) for record in answer.answer]
                found.extend(url.with_host(address) for address in addresses if address)
        except aiodns.error.DNSError as error:
            # The last answer is better than none.
            logger.info(
                "instances.not_resolved", extra={"upstream": self._pool.name, "error": str(error.args[:1])}
            )
            return
        self._resolved = tuple(found[:_MOST])


def _is_internal(url: str) -> bool:
    return (URL(url).host or "").endswith(".internal")
