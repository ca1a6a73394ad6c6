"""Is anything wrong, where, and since when."""

from __future__ import annotations

from typing import Final

from dashboards.builder import Dashboard, Panel, Query
from dashboards.selectors import REQUESTS, E, R, failed_ratio, number, quantile, slow_ratio, trend

DASHBOARD: Final = Dashboard(
    uid="gaia-overview",
    title="Gaia overview",
    description="Every environment at a glance: what fires, what is not up, how slow, how many errors.",
    with_service=False,
    panels=(
        number(
            "Alerts firing",
            f'sum(gaia_alerts{{{E},alertstate="firing"}}) or vector(0)',
            "Bad: above 0. The agent's status page and the alerts dashboard name the cause.",
            red=1,
        ),
        number(
            "Components not up",
            f'count(gaia_target_state{{{E},state=~"down|degraded|unknown"}} == 1) or vector(0)',
            "Bad: above 0. Unknown counts too: what cannot be seen is not up.",
            red=1,
        ),
        number(
            "Slower than 2 s",
            slow_ratio(E),
            "Bad: above 5 % of requests. Look at the slowest routes of the service dashboard.",
            "No requests",
            unit="percentunit",
            red=0.05,
            amber=0.02,
        ),
        number(
            "Failed requests",
            failed_ratio(E),
            "Bad: above 5 % answered 5xx. The service dashboard lists the failing routes.",
            "No requests",
            unit="percentunit",
            red=0.05,
            amber=0.01,
        ),
        Panel(
            title="States",
            kind="state-timeline",
            queries=(
                Query(
                    expr=f'max by (env, service) (gaia_target_state{{{E},state="down"}} * 3 '
                    f'or gaia_target_state{{{E},state="degraded"}} * 2 '
                    f'or gaia_target_state{{{E},state="unknown"}})',
                    legend="{{env}} {{service}}",
                ),
            ),
            description="Bad: amber or red. 0 well, 1 unknown, 2 degraded, 3 down.",
            empty="Nothing is watched",
            amber=2,
            red=3,
            width=24,
            height=9,
        ),
        trend(
            "p95 latency by service",
            quantile(0.95, E, "env, service"),
            "{{env}} {{service}}",
            "Bad: above the line at 2 s. Points are single requests with their trace.",
            "No requests",
            unit="s",
            red=2,
            exemplars=True,
        ),
        trend(
            "Errors by service",
            failed_ratio(E, "env, service"),
            "{{env}} {{service}}",
            "Bad: above the line at 5 %.",
            "No requests",
            unit="percentunit",
            red=0.05,
        ),
        trend(
            "Requests by service",
            f"sum by (env, service) (rate({REQUESTS}_count{{{E}}}{R}))",
            "{{env}} {{service}}",
            "Bad: a sudden drop while users are awake. Look at the gateway and at DNS.",
            "No requests",
            unit="reqps",
        ),
        trend(
            "Databases and brokers answer in",
            f"max by (env, service) (probe_duration_seconds{{{E}}} "
            f'* on (env, service, check, vantage) gaia_target_info{{{E},kind=~"database|broker"}})',
            "{{env}} {{service}}",
            "Bad: a step up before services turn slow; then the database or broker is the cause.",
            unit="s",
            width=12,
        ),
        trend(
            "Seconds since each look, in intervals",
            f"max by (env) ((time() - gaia_probe_last_run_timestamp_seconds{{{E}}}) "
            f"/ gaia_probe_interval_seconds{{{E}}})",
            "{{env}}",
            "Bad: above 3. Then the agent does not look any more and what it shows is old.",
            red=3,
            width=12,
        ),
    ),
)
