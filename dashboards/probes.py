"""What the agent's own looks found."""

from __future__ import annotations

from typing import Final

from dashboards.builder import Dashboard
from dashboards.selectors import R, S, number, table, trend

_LOOKS: Final = f"sum(increase(gaia_probe_runs_total{{{S}}}[$__range]))"

DASHBOARD: Final = Dashboard(
    uid="gaia-probes",
    title="Gaia probes",
    description="Looks from outside: availability, latency by phase, certificates, reasons of failures.",
    panels=(
        number(
            "Looks that found it up",
            f'(sum(increase(gaia_probe_runs_total{{{S},result="up"}}[$__range])) or 0 * {_LOOKS}) / {_LOOKS}',
            "Bad: below 99.9 %. The table of reasons says why.",
            unit="percentunit",
            amber=0.999,
            red=0.99,
            low_is_bad=True,
            decimals=2,
        ),
        number(
            "First certificate expires in",
            f"min(probe_ssl_earliest_cert_expiry{{{S}}}) - time()",
            "Bad: below 21 days. Renew it; below 7 days somebody is called.",
            "No TLS",
            unit="s",
            amber=21 * 86400,
            red=7 * 86400,
            low_is_bad=True,
        ),
        number(
            "Oldest look, in intervals",
            f"max((time() - gaia_probe_last_run_timestamp_seconds{{{S}}}) "
            f"/ gaia_probe_interval_seconds{{{S}}})",
            "Bad: above 3. The agent does not look; its dashboard says why.",
            red=3,
            decimals=1,
        ),
        number(
            "Looks left out",
            f"sum(increase(gaia_probe_missed_total{{{S}}}[$__range]))",
            "Bad: above 0. A look took longer than its interval: raise it, or lower the timeout.",
            amber=1,
        ),
        trend(
            "Latency p95",
            "histogram_quantile(0.95, sum by (le, env, service, vantage) "
            f"(rate(gaia_probe_latency_seconds_bucket{{{S}}}{R})))",
            "{{env}} {{service}} from {{vantage}}",
            "Bad: above the line at 2 s. Slow from one vantage only: the network, not the service.",
            unit="s",
            red=2,
        ),
        trend(
            "HTTP phases",
            f"avg by (service, phase) (probe_http_duration_seconds{{{S}}})",
            "{{service}} {{phase}}",
            "Bad: processing grows: the service. Connect or tls grows: the way there.",
            "No HTTP checks",
            unit="s",
        ),
        trend(
            "Looks by result",
            f"sum by (result) (rate(gaia_probe_runs_total{{{S}}}{R})) * 60",
            "{{result}}",
            "Bad: anything but up and asleep. Looks per minute.",
        ),
        table(
            "Reasons, in the time shown",
            "topk(20, sum by (env, service, check, reason) "
            f'(increase(gaia_probe_runs_total{{{S},result!="up"}}[$__range])) > 0)',
            "Bad: any row. The status page has a sentence for each.",
            "Every look found it up",
        ),
        table(
            "States now",
            f"gaia_target_state{{{S}}} == 1",
            "Bad: a state other than up or asleep.",
            "Nothing is watched",
        ),
        trend(
            "How late looks begin",
            f"max by (env) (gaia_probe_schedule_lag_seconds{{{S}}})",
            "{{env}}",
            "Bad: above 0.1 s. The agent is short of CPU and its latencies are in doubt.",
            unit="s",
            red=0.1,
            width=24,
        ),
    ),
)
