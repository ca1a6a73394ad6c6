"""`/metrics`: every series, in the format and encoding the scraper prefers."""

from __future__ import annotations

from agent.exposition.negotiation import accepts_gzip, choose_format
from agent.web.exchange import Answer, Asked
from agent.web.source import Source


async def metrics(source: Source, asked: Asked) -> Answer:
    """Text 0.0.4 or OpenMetrics 1.0, plain or gzip; streamed, giving way to the probes."""
    form = choose_format(asked.headers.get("accept"))
    gzip = accepts_gzip(asked.headers.get("accept-encoding"))
    source.before_scrape()
    headers = {"Vary": "Accept, Accept-Encoding"} | ({"Content-Encoding": "gzip"} if gzip else {})
    return Answer(body=source.document.stream(form, gzip=gzip), type=form.value, headers=headers)
