"""The pieces every query is made of."""

from __future__ import annotations

from typing import Final

from dashboards.builder import Panel, Query

E: Final = 'env=~"$env"'
S: Final = 'env=~"$env",service=~"$service"'
R: Final = "[$__rate_interval]"
REQUESTS: Final = "http_server_request_duration_seconds"
# Some stores write the edge as 2, others as 2.0.
TWO_SECONDS: Final = 'le=~"2(\\\\.0)?"'


def failed_ratio(selector: str, by: str = "") -> str:
    """Share of 5xx answers: 0, not empty, while nothing has failed."""
    grouped = f" by ({by}) " if by else ""
    every = f"sum{grouped}(rate({REQUESTS}_count{{{selector}}}{R}))"
    failed = f'sum{grouped}(rate({REQUESTS}_count{{{selector},http_response_status_code=~"5.."}}{R}))'
    return f"({failed} or 0 * {every}) / {every}"


def slow_ratio(selector: str, by: str = "") -> str:
    """Share of answers slower than 2 s, from the bucket edge at 2 s: counted, not interpolated."""
    grouped = f" by ({by}) " if by else ""
    fast = f"sum{grouped}(rate({REQUESTS}_bucket{{{selector},{TWO_SECONDS}}}{R}))"
    every = f"sum{grouped}(rate({REQUESTS}_count{{{selector}}}{R}))"
    return f"1 - {fast} / {every}"


def quantile(share: float, selector: str, by: str) -> str:
    """A quantile of request latency."""
    grouped = ", ".join(filter(None, ("le", by)))
    return f"histogram_quantile({share}, sum by ({grouped}) (rate({REQUESTS}_bucket{{{selector}}}{R})))"


def trend(
    title: str, expr: str, legend: str, description: str, empty: str = "Not measured", **more: str | float
) -> Panel:
    """A line over time."""
    return Panel(
        title=title, kind="timeseries", queries=(Query(expr=expr, legend=legend),),
        description=description, empty=empty, **more,  # type: ignore[arg-type]  # Panel's own optional fields
    )  # fmt: skip


def number(
    title: str, expr: str, description: str, empty: str = "Not measured", **more: str | float | bool
) -> Panel:
    """One number now."""
    return Panel(
        title=title, kind="stat", queries=(Query(expr=expr, instant=True),), description=description,
        empty=empty, **{"width": 6, "height": 4, **more},  # type: ignore[arg-type]  # Panel's own optional fields
    )  # fmt: skip


def table(title: str, expr: str, description: str, empty: str, width: int = 12) -> Panel:
    """Series as rows, now."""
    return Panel(
        title=title, kind="table", queries=(Query(expr=expr, instant=True),), description=description,
        empty=empty, width=width,
    )  # fmt: skip
