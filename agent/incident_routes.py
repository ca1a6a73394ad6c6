"""The addresses of one incident's page and its buttons; what serves them is imported when somebody comes."""

from __future__ import annotations

from collections.abc import Callable

from agent.desk_routes import Desks
from agent.web.exchange import Answer, Asked
from agent.web.routes import Route
from agent.web.source import Source
from checks.secret import Secret


def incident_routes(desks: Desks, token: Callable[[], Secret | None]) -> tuple[Route, ...]:
    """The page and its two buttons."""

    async def page(source: Source, asked: Asked) -> Answer:
        """One incident: what is wrong, what was done about it, and by whom it can be taken."""
        from agent import incident_page

        return incident_page.page(desks(), token(), asked, source.now_s())

    async def act(source: Source, asked: Asked) -> Answer:
        """Take or silence it, and show the page with what came of that."""
        from agent import incident_page

        return incident_page.act(desks(), token(), asked, source.now_s())

    return (
        Route(path="/i/{episode}", handler=page, query=("pass",)),
        Route(path="/i/{episode}/ack", method="POST", handler=act),
        Route(path="/i/{episode}/silence", method="POST", handler=act),
    )
