"""One service: rate, errors, duration, its routes and what it waits for."""

from __future__ import annotations

from typing import Final

from dashboards.builder import Dashboard, Panel, Query
from dashboards.selectors import REQUESTS, R, S, failed_ratio, number, quantile, slow_ratio, table, trend

DASHBOARD: Final = Dashboard(
    uid="gaia-service",
    title="Gaia service",
    description="Requests of one or several services, from their own /metrics.",
    service_source=f"{REQUESTS}_count",
    panels=(
        number(
            "Failed",
            failed_ratio(S),
            "Bad: above 5 % answered 5xx.",
            "No requests",
            unit="percentunit",
            red=0.05,
        ),
        number(
            "Slower than 2 s", slow_ratio(S), "Bad: above 5 %.", "No requests", unit="percentunit", red=0.05
        ),
        number(
            "Requests",
            f"sum(rate({REQUESTS}_count{{{S}}}{R}))",
            "Bad: 0 while users are awake.",
            unit="reqps",
        ),
        number(
            "In flight",
            f"sum(http_server_active_requests{{{S}}})",
            "Bad: growing without end. Something it waits for does not answer.",
        ),
        trend(
            "Requests by status",
            f"sum by (http_response_status_code) (rate({REQUESTS}_count{{{S}}}{R}))",
            "{{http_response_status_code}}",
            "Bad: 5xx, or a burst of 429.",
            "No requests",
            unit="reqps",
        ),
        Panel(
            title="Latency",
            kind="timeseries",
            queries=tuple(
                Query(expr=quantile(share, S, ""), legend=f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)
            ),
            description="Bad: p95 above the line at 2 s. Points are single requests with their trace.",
            empty="No requests",
            unit="s",
            red=2,
            exemplars=True,
        ),
        Panel(
            title="Where the requests are",
            kind="heatmap",
            queries=(Query(expr=f"sum by (le) (increase({REQUESTS}_bucket{{{S}}}{R}))", legend="{{le}}"),),
            description="Bad: a second cloud above 2 s. Two clouds mean two causes.",
            empty="No requests",
            unit="s",
        ),
        table(
            "Slowest routes, p95 in the time shown",
            "topk(10, histogram_quantile(0.95, sum by (le, service, http_route, http_request_method) "
            f"(rate({REQUESTS}_bucket{{{S}}}[$__range]))))",
            "Bad: a route above 2 s. Its traces say what it waits for.",
            "No requests",
        ),
        table(
            "Failing routes, errors per second",
            "topk(10, sum by (service, http_route, http_response_status_code) "
            f'(rate({REQUESTS}_count{{{S},http_response_status_code=~"5.."}}[$__range])))',
            "Bad: any row. One route failing is a bug, all of them failing is a dependency.",
            "Nothing fails",
        ),
        trend(
            "Calls to others, p95",
            "histogram_quantile(0.95, sum by (le, service, server_address) "
            f"(rate(http_client_request_duration_seconds_bucket{{{S}}}{R})))",
            "{{service}} to {{server_address}}",
            "Bad: the line that rises first is the cause.",
            "Calls nobody",
            unit="s",
            red=2,
        ),
        trend(
            "Circuit breakers",
            f"max by (service, server_address) (circuit_breaker_state{{{S}}})",
            "{{service}} to {{server_address}}",
            "Bad: 2 is open: calls are refused without being made. 1 is half open.",
            "No breakers",
            red=2,
        ),
        trend(
            "Event loop lag",
            f"max by (service) (event_loop_lag_seconds{{{S}}})",
            "{{service}}",
            "Bad: above 0.1 s. Something blocks the process: look at CPU and at large bodies.",
            unit="s",
            red=0.1,
        ),
    ),
)
