"""`GET /probe`: one probe on demand, answered as blackbox_exporter answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from agent.probe_endpoint import ProbeEndpoint, ProbeRefusedError
from agent.web.exchange import TEXT, Answer, Asked
from agent.web.routes import Route
from agent.web.source import Source

_EXPOSITION: Final = "text/plain; version=0.0.4; charset=utf-8"
_AT_ONCE: Final = 50
_WITHIN_S: Final = 125.0  # The longest a scrape may ask for, and a margin.


def probe_route(endpoint: Callable[[], ProbeEndpoint]) -> Route:
    """The route; `endpoint` gives the one of the configuration in force. At most 50 probes run at once."""
    limit = asyncio.Semaphore(_AT_ONCE)

    async def handle(_: Source, asked: Asked) -> Answer:
        query = asked.query
        try:
            async with limit:
                text = await endpoint().probe(
                    query.get("target", ""),
                    query.get("module", "http_2xx"),
                    debug=query.get("debug") == "true",
                    scrape_timeout_s=_seconds(asked.headers.get("x-prometheus-scrape-timeout-seconds")),
                    hostname=query.get("hostname"),
                )
        except ProbeRefusedError as error:
            return Answer(body=f"{error}\n".encode(), type=TEXT, status=HTTPStatus(error.status))
        return Answer(body=text.encode(), type=TEXT if query.get("debug") == "true" else _EXPOSITION)

    query = ("target", "module", "debug", "hostname")
    return Route(path="/probe", handler=handle, query=query, within_s=_WITHIN_S)


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
