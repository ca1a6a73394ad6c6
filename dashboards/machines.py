"""Hosts and machines: use, saturation, errors; how many run and how many must."""

from __future__ import annotations

from typing import Final

from dashboards.builder import Dashboard
from dashboards.selectors import S, number, trend

_H: Final = "gaia_host"

DASHBOARD: Final = Dashboard(
    uid="gaia-machines",
    title="Gaia machines",
    description="The hosts the agents run on, and the machines of each app.",
    panels=(
        number(
            "Machines missing",
            f"sum(clamp_min(gaia_machine_minimum{{{S}}} - gaia_machine_started{{{S}}}, 0))",
            "Bad: above 0: fewer run than the environment's minimum. fly machine list says which.",
            "No machines are watched",
            red=1,
        ),
        number(
            "CPU busy",
            f"max({_H}_cpu_busy_ratio{{{S}}})",
            "Bad: above 90 % for long.",
            unit="percentunit",
            red=0.9,
        ),
        number(
            "Memory used",
            f"max({_H}_memory_used_ratio{{{S}}})",
            "Bad: above 90 %.",
            unit="percentunit",
            red=0.9,
        ),
        number(
            "Fullest disk",
            f"1 - min({_H}_disk_free_bytes{{{S}}} / {_H}_disk_bytes{{{S}}})",
            "Bad: above 90 %. A full disk stops the database.",
            unit="percentunit",
            amber=0.8,
            red=0.9,
        ),
        trend(
            "CPU",
            f"{_H}_cpu_busy_ratio{{{S}}}",
            "{{env}} {{service}}",
            "Bad: at 100 %.",
            unit="percentunit",
            red=0.9,
        ),
        trend(
            "CPU withheld by its quota",
            f"{_H}_cpu_throttled_ratio{{{S}}}",
            "{{env}} {{service}}",
            "Bad: above 10 %. The machine is too small for its load.",
            "No quota",
            unit="percentunit",
            amber=0.1,
        ),
        trend(
            "Waiting",
            f"{_H}_pressure_ratio{{{S}}}",
            "{{service}} {{resource}}",
            "Bad: above 20 %: tasks wait for this resource.",
            "The kernel does not tell",
            unit="percentunit",
            amber=0.2,
        ),
        trend(
            "Memory",
            f"{_H}_memory_used_ratio{{{S}}}",
            "{{env}} {{service}}",
            "Bad: near 100 %: the kernel then kills.",
            unit="percentunit",
            red=0.9,
        ),
        trend(
            "Killed for memory",
            f"increase({_H}_oom_kills_total{{{S}}}[$__rate_interval])",
            "{{env}} {{service}}",
            "Bad: any.",
            red=1,
        ),
        trend(
            "Disk free",
            f"{_H}_disk_free_bytes{{{S}}}",
            "{{service}} {{path}}",
            "Bad: a straight line down. It says when it is full.",
            unit="bytes",
        ),
        trend(
            "Machines started",
            f"gaia_machine_started{{{S}}}",
            "{{env}} {{service}}",
            "Bad: below the minimum.",
            "No machines are watched",
            width=12,
        ),
        trend(
            "Exits within a day",
            f"gaia_machine_exits_last_day{{{S}}}",
            "{{env}} {{service}}",
            "Bad: rising: it crashes and is started again.",
            "No machines are watched",
            width=12,
        ),
    ),
)
