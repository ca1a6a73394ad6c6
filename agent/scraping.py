"""Reads every service's own `/metrics` on the same grid as the looks, without ever delaying one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from agent.platform.model import Service
from agent.platform.scope import Scope
from agent.scheduler import Due, Scheduler
from agent.telemetry.scrape import Scraped, Scraper
from checks.clock import Clock

logger = logging.getLogger(__name__)

Key = tuple[str, str, str]


class Scraping:
    """Owns the scrapers of one environment after another; `took` gets each result on the event loop."""

    def __init__(self, clock: Clock, took: Callable[[Scraper, Scraped], None]) -> None:
        self._clock = clock
        self._took = took
        self._scrapers: dict[Key, Scraper] = {}
        self._deadlines_s: dict[Key, float] = {}
        self._urls: dict[Key, str] = {}
        self._busy: set[Key] = set()
        self._failing: dict[Key, str] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._scheduler: Scheduler[Key] = Scheduler(clock, self._due)

    async def run(self, scopes: tuple[Scope, ...]) -> None:
        """Scrape until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                self.place(scopes)
                await asyncio.get_running_loop().create_future()
        finally:
            self._scheduler.stop()

    def place(self, scopes: tuple[Scope, ...]) -> None:
        """Take over a new configuration; a source whose address stays keeps its memory of restarts."""
        wanted = {
            (scope.environment_name, service.name, source): (url, service)
            for scope in scopes
            for service in scope.services.values()
            for source, url in _sources(service).items()
        }
        for key in self._scrapers.keys() - wanted.keys():
            del self._scrapers[key], self._urls[key]
            self._failing.pop(key, None)
        for key, (url, service) in wanted.items():
            env, name, source = key
            self._deadlines_s[key] = service.timeout
            if self._urls.get(key) != url:
                self._urls[key] = url
                self._scrapers[key] = Scraper(
                    env=env, service=name, source=source, url=url, clock=self._clock
                )
        self._scheduler.place({key: service.interval for key, (_, service) in wanted.items()})

    @property
    def failing(self) -> Mapping[Key, str]:
        """The sources that could not be read last time, and why."""
        return self._failing

    def _due(self, due: Due[Key]) -> None:
        if due.key not in self._busy and self._tasks is not None:
            self._busy.add(due.key)
            self._tasks.create_task(self._scrape(due.key))

    async def _scrape(self, key: Key) -> None:
        scraper = self._scrapers[key]
        try:
            scraped = await scraper.scrape(deadline_s=self._deadlines_s[key])
            self._told(key, scraped)
            if self._scrapers.get(key) is scraper:
                self._took(scraper, scraped)
        except Exception:
            logger.exception("scrape.defect", extra={"service": key[1], "source": key[2]})
        finally:
            self._busy.discard(key)

    def _told(self, key: Key, scraped: Scraped) -> None:
        """Log when it begins to fail and when it ends, not each time."""
        facts = {"environment": key[0], "service": key[1], "source": key[2]}
        if scraped.error and key not in self._failing:
            logger.warning("scrape.failing", extra=facts | {"error": scraped.error})
        elif not scraped.error and self._failing.pop(key, None) is not None:
            logger.info("scrape.recovered", extra=facts)
        if scraped.error:
            self._failing[key] = scraped.error


def _sources(service: Service) -> dict[str, str]:
    """Where to read: every instance if they are known, else the way that is probed first."""
    if service.metrics is None:
        return {}
    instances = [way for way in service.vantages if way.name.startswith("instance")]
    return {
        way.name: way.url.rstrip("/") + service.metrics for way in (instances or list(service.vantages[:1]))
    }
