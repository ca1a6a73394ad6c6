"""Every address the agent answers at: one line each, from which its OpenAPI is written as well."""

from __future__ import annotations

from typing import Final

import msgspec

from agent.web import alerts_api, board_api, events, health, scrape
from agent.web.answers import (
    AlertsAnswer,
    ChangesAnswer,
    ChecksAnswer,
    HistoryAnswer,
    IncidentsAnswer,
    NewChange,
    SilencesAnswer,
    StatusAnswer,
)
from agent.web.exchange import Handler
from agent.web.source import Change


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One address. `writes` asks for the bearer token; `answer` and `body` are what OpenAPI describes.

    An answer that is not there `within_s` becomes a 503.
    """

    path: str
    handler: Handler
    method: str = "GET"
    writes: bool = False
    answer: type | None = None
    body: type | None = None
    query: tuple[str, ...] = ()
    within_s: float = 10.0


ROUTES: Final = (
    Route(path="/livez", handler=health.livez),
    Route(path="/readyz", handler=health.readyz),
    Route(path="/health", handler=health.health),
    Route(path="/metrics", handler=scrape.metrics),
    Route(path="/api/v1/status", handler=board_api.status, answer=StatusAnswer, query=("env", "fail_on")),
    Route(
        path="/api/v1/checks",
        handler=board_api.checks,
        answer=ChecksAnswer,
        query=("env", "service", "check", "state", "after", "limit"),
    ),
    Route(
        path="/api/v1/history",
        handler=board_api.history,
        answer=HistoryAnswer,
        query=("env", "service", "check", "vantage", "since_s", "limit", "failures"),
    ),
    Route(
        path="/api/v1/alerts",
        handler=alerts_api.alerts,
        answer=AlertsAnswer,
        query=("env", "service", "state"),
    ),
    Route(path="/api/v1/incidents", handler=alerts_api.incidents, answer=IncidentsAnswer, query=("limit",)),
    Route(path="/api/v1/silences", handler=alerts_api.silences, answer=SilencesAnswer),
    Route(path="/api/v1/changes", handler=alerts_api.changes, answer=ChangesAnswer),
    Route(
        path="/api/v1/changes",
        handler=alerts_api.add_change,
        method="POST",
        writes=True,
        answer=Change,
        body=NewChange,
    ),
    Route(path="/api/v1/events", handler=events.events, query=("after",)),
    Route(path="/api/v1/config", handler=alerts_api.config),
)
