"""Alerts and messages: what fires, how often, how fast people are told."""

from __future__ import annotations

from typing import Final

from dashboards.builder import Dashboard
from dashboards.selectors import E, R, number, table, trend

DASHBOARD: Final = Dashboard(
    uid="gaia-alerts",
    title="Gaia alerts",
    description="What fires, what is noisy, and whether messages arrive.",
    with_service=False,
    panels=(
        number("Firing", f'sum(gaia_alerts{{{E},alertstate="firing"}}) or vector(0)', "Bad: above 0.", red=1),
        number(
            "Pending",
            f'sum(gaia_alerts{{{E},alertstate="pending"}}) or vector(0)',
            "A condition holds, not yet for long enough.",
            amber=1,
        ),
        number(
            "Messages not delivered",
            "sum(gaia_agent_undelivered)",
            "Bad: above 0 for longer than a minute. A receiver refuses or cannot be reached.",
            red=1,
        ),
        number(
            "Oldest not delivered",
            "max(gaia_agent_oldest_undelivered_seconds)",
            "Bad: above 30 s.",
            unit="s",
            amber=10,
            red=30,
        ),
        table(
            "Active now",
            f"gaia_alert_state{{{E}}}",
            "Bad: any firing row. The status page shows its evidence.",
            "No alert is active",
            width=24,
        ),
        trend(
            "Over time",
            f"sum by (env, alertstate) (gaia_alerts{{{E}}})",
            "{{env}} {{alertstate}}",
            "Bad: a saw-tooth: an alert that flaps. Give it a longer `for`.",
            width=12,
        ),
        trend(
            "Began to fire",
            f'sum by (alertname, env) (increase(gaia_alert_transitions_total{{{E},to="fired"}}{R}))',
            "{{env}} {{alertname}}",
            "Bad: the same name again and again.",
            "Nothing fired",
            width=12,
        ),
        table(
            "Noisiest of seven days",
            "topk(10, sum by (alertname, env, service) "
            f'(increase(gaia_alert_transitions_total{{{E},to="fired"}}[7d])) > 0)',
            "Bad: more than a few a week: fix the cause or the rule.",
            "Nothing fired",
        ),
        trend(
            "The latest message took",
            "max by (receiver) (gaia_notification_duration_seconds)",
            "{{receiver}}",
            "Bad: above 30 s.",
            "Nothing was sent",
            unit="s",
            red=30,
            width=12,
        ),
        trend(
            "Messages by outcome",
            f"sum by (receiver, result) (increase(gaia_notification_sent_total{R}))",
            "{{receiver}} {{result}}",
            "Bad: failed. The agent's log and the incident's story say what the receiver answered.",
            "Nothing was sent",
            width=24,
        ),
    ),
)
