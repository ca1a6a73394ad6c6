"""A service's own `/metrics`, read on schedule and turned into counters of its requests."""

from __future__ import annotations

import asyncio
from typing import Final

from msgspec import Struct

from agent.telemetry.dialects import ANNOUNCED, NAMES, RequestTable
from agent.telemetry.exposition_reader import ExpositionError, ExpositionReader, slices
from agent.telemetry.fetch import FetchError, fetch, page_request
from agent.telemetry.red import RequestTotals
from checks.catalog import Resolver
from checks.clock import Clock
from checks.resolver import CachingResolver

ACCEPT: Final = "text/plain;version=0.0.4;q=0.9,application/openmetrics-text;version=1.0.0;q=0.8,*/*;q=0.1"
MAX_BYTES: Final = 8 * 1024 * 1024


class Scraped(Struct, frozen=True, kw_only=True):
    """One scrape: `totals` is None when the target was not read or exposes no requests; `error` says why."""

    at_s: float
    duration_s: float
    totals: RequestTotals | None
    error: str = ""


class Scraper:
    """Reads one instance of one service. `source` names the instance in samples and windows."""

    def __init__(
        self,
        *,
        env: str,
        service: str,
        source: str,
        url: str,
        clock: Clock,
        resolver: Resolver | None = None,
    ) -> None:
        self.env = env
        self.service = service
        self.source = source
        self._request = page_request(url, accept=ACCEPT)
        self._resolver = resolver or CachingResolver()
        self._clock = clock
        self._reader = ExpositionReader(NAMES)
        self._rebirths = 0
        self._last_total = 0

    async def scrape(self, *, deadline_s: float = 5.0) -> Scraped:
        """Fetch and read once. Raises nothing but CancelledError; yields to the loop every 64 KiB."""
        at_s = self._clock.wall_s()
        started = self._clock.monotonic_s()
        totals, error = None, ""
        try:
            page = await fetch(
                self._request, resolver=self._resolver, max_bytes=MAX_BYTES, deadline_s=deadline_s
            )
            totals = await self._read(page.body, at_s)
            error = "" if totals else "exposes no request series that is known"
        except (FetchError, ExpositionError) as failure:
            error = str(failure)
        return Scraped(at_s=at_s, duration_s=self._clock.monotonic_s() - started, totals=totals, error=error)

    async def _read(self, body: bytes, at_s: float) -> RequestTotals | None:
        table = RequestTable()
        for part in slices(body):
            table.add(self._reader.samples(part))
            await asyncio.sleep(0)
        routes = table.routes()
        if routes is None:
            if not any(announced in body for announced in ANNOUNCED):
                return None
            # The family is there and empty: nobody has asked anything yet, which is a count of 0.
            routes = {}
        total = sum(counts.total for counts in routes.values())
        if total < self._last_total:
            self._rebirths += 1
        self._last_total = total
        born = "" if table.start_time is None else repr(table.start_time)
        return RequestTotals(
            at_s=at_s, incarnation=f"{born}#{self._rebirths}", routes=routes, born_s=table.start_time
        )
