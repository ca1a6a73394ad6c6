"""`/probe`: one look on demand under blackbox_exporter's names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from agent.probe_endpoint import ProbeEndpoint, ProbeRefusedError
from agent.web.exchange import Answer, Asked, Refused
from agent.web.routes import Route
from agent.web.source import Source

_AT_ONCE: Final = 32
_WITHIN_S: Final = 125.0
_SCRAPE_TIMEOUT: Final = "x-prometheus-scrape-timeout-seconds"


def probe_route(endpoint: Callable[[], ProbeEndpoint]) -> Route:
    """The route over the endpoint in force; `endpoint` is asked each time, as a reload may replace it."""
    under_way = asyncio.Semaphore(_AT_ONCE)

    async def probe(_: Source, asked: Asked) -> Answer:
        """Look at `target` with `module` and answer its metrics; with `debug=true` the story of the look."""
        if under_way.locked():
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, f"{_AT_ONCE} probes are under way; try again")
        async with under_way:
            try:
                text = await endpoint().probe(
                    asked.query.get("target", ""),
                    asked.query.get("module", "http_2xx"),
                    debug=asked.query.get("debug") == "true",
                    scrape_timeout_s=_scrape_timeout_s(asked),
                    hostname=asked.query.get("hostname"),
                )
            except ProbeRefusedError as error:
                raise Refused(HTTPStatus(error.status), str(error)) from error
        return Answer(body=text.encode(), type="text/plain; version=0.0.4; charset=utf-8")

    return Route(
        path="/probe", handler=probe, query=("target", "module", "debug", "hostname"), within_s=_WITHIN_S
    )


def _scrape_timeout_s(asked: Asked) -> float | None:
    try:
        return float(asked.headers.get(_SCRAPE_TIMEOUT, ""))
    except ValueError:
        return None
