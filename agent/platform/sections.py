"""The file's top-level keys, in the order in which it is best written."""

from __future__ import annotations

from typing import Final

# Key and the line the documentation and the editor show for it.
SECTIONS: Final[dict[str, str]] = {
    "platform": "The platform's name.",
    "environments": "Where it runs: one table per environment.",
    "services": "The services, by name.",
    "databases": "The databases, by name.",
    "brokers": "The message brokers, by name.",
    "hosts": "The machine the agent runs on.",
    "alerts": "When to worry and whom to call: policies, rules, receivers.",
    "variables": "What the services must find in their environment, by name.",
    "security": "What must hold for connections and data.",
    "agent": "The agent's own settings.",
    "telemetry": "What services push: limits of the intake, and where it is passed on to.",
    "latency_edges": "Bucket edges the services' latency histograms have beside the usual ones.",
    "probe_targets": "What /probe may reach: patterns of host:port.",
    "probe_modules": "Modules of /probe, in blackbox_exporter's format.",
    "probe_modules_file": "A blackbox.yml with more of them.",
}
