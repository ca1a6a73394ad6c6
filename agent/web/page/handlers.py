"""`/` and what belongs to it."""

from __future__ import annotations

from typing import Final

from agent.web.exchange import Answer, Asked
from agent.web.overview import overview
from agent.web.routes import Route
from agent.web.source import Source
from agent.web.verdict import sentence


async def page(source: Source, _: Asked) -> Answer:
    """The status page."""
    said = sentence(await overview(source), started_s=source.agent().started_s)
    return Answer(body=said.headline.encode(), type="text/plain; charset=utf-8")


PAGE_ROUTES: Final = (Route(path="/", handler=page),)
