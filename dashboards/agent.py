"""The watcher, watched."""

from __future__ import annotations

from typing import Final

from dashboards.builder import Dashboard
from dashboards.selectors import E, R, number, table, trend

DASHBOARD: Final = Dashboard(
    uid="gaia-agent",
    title="Gaia agent",
    description="Whether the agent itself can be believed.",
    with_service=False,
    panels=(
        number(
            "Ready", "min(gaia_agent_ready)", "Bad: 0. /readyz says what is missing.", red=1, low_is_bad=True
        ),
        number(
            "Configuration applied",
            "min(gaia_agent_config_valid)",
            "Bad: 0: the last reload was refused, the old one is in force. gaia validate says why.",
            red=1,
            low_is_bad=True,
        ),
        number(
            "Event loop late by",
            "max(gaia_agent_loop_lag_seconds)",
            "Bad: above 0.1 s: latencies measured meanwhile are in doubt.",
            unit="s",
            amber=0.05,
            red=0.1,
        ),
        number(
            "Looks late",
            "sum(gaia_agent_late_probes)",
            "Bad: above 0. Too little CPU for so many checks.",
            amber=1,
        ),
        table(
            "Parts",
            "gaia_agent_part_up",
            "Bad: 0. The status page says what is wrong with the part.",
            "No parts",
        ),
        trend("Targets", f"gaia_agent_targets{{{E}}}", "{{env}}", "Bad: a drop nobody made.", width=12),
        trend(
            "Memory",
            "process_resident_memory_bytes",
            "{{instance}}",
            "Bad: growing without end.",
            unit="bytes",
        ),
        trend(
            "CPU",
            f"rate(process_cpu_seconds_total{R})",
            "{{instance}}",
            "Bad: near one core.",
            unit="percentunit",
        ),
        trend(
            "Series",
            "gaia_agent_series",
            "{{instance}}",
            "Bad: growing without new targets: a label is not bounded.",
        ),
        trend(
            "Telemetry received",
            f"sum by (signal) (rate(gaia_telemetry_received_total{R}))",
            "{{signal}}",
            "Bad: a drop to 0 while services run.",
            "Nothing is pushed",
        ),
        trend(
            "Telemetry waiting",
            "sum by (signal, destination) (gaia_telemetry_queued)",
            "{{signal}} to {{destination}}",
            "Bad: growing: the destination does not take it.",
            "Nothing is passed on",
        ),
        trend(
            "Telemetry put aside or dropped",
            f"sum by (signal, destination) (increase(gaia_telemetry_dead_lettered_total{R}) "
            f"+ increase(gaia_telemetry_evicted_total{R}))",
            "{{signal}} to {{destination}}",
            "Bad: any. gaia dlq ls shows what was refused.",
            "Nothing is passed on",
            red=1,
        ),
    ),
)
