"""Every metric of the agent itself, as data: the table in docs/metrics.md is written from it.

What checks measure beside these is declared by each kind of check (`CheckKind.measures`).
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from agent.exposition.family import Family, Type

TARGET: Final = ("env", "service", "check", "vantage")
SERVICE: Final = ("env", "service")
# 2 s, the strategy's limit, is an edge: "slower than 2 s" is counted, never interpolated.
LATENCY_EDGES_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metric(Struct, frozen=True, kw_only=True):
    """One metric: its family and the labels its series have (`le` apart)."""

    name: str
    type: Type
    help: str
    labels: tuple[str, ...] = ()

    @property
    def family(self) -> Family:
        return Family(name=self.name, type=self.type, help=self.help)


def _gauge(name: str, words: str, labels: tuple[str, ...] = ()) -> Metric:
    return Metric(name=name, type=Type.GAUGE, help=words, labels=labels)


def _counter(name: str, words: str, labels: tuple[str, ...] = ()) -> Metric:
    return Metric(name=name, type=Type.COUNTER, help=words, labels=labels)


def _histogram(name: str, words: str, labels: tuple[str, ...] = ()) -> Metric:
    return Metric(name=name, type=Type.HISTOGRAM, help=words, labels=labels)


TARGETS: Final = (
    _gauge(
        "probe_success",
        "1 when the latest look was answered (up or degraded), 0 when down; absent while unknown.",
        TARGET,
    ),
    _gauge("probe_duration_seconds", "How long the latest look took, whatever it found.", TARGET),
    _gauge("probe_http_duration_seconds", "Duration of the latest HTTP look by phase.", (*TARGET, "phase")),
    _gauge(
        "gaia_probe_phase_seconds",
        "Duration of the latest look by phase, where not HTTP.",
        (*TARGET, "phase"),
    ),
    _gauge(
        "gaia_target_state",
        "1 for the confirmed state, 0 for the others: up, degraded, down, asleep, starting, unknown.",
        (*TARGET, "state"),
    ),
    _gauge("gaia_target_reason", "1 for the reason of the confirmed state.", (*TARGET, "reason")),
    _gauge("gaia_target_info", "1; what sort of component the target belongs to.", (*TARGET, "kind")),
    _gauge("gaia_target_since_timestamp_seconds", "When the confirmed state began.", TARGET),
    _gauge("gaia_target_slower_than_seconds", "The latency above which the target counts as slow.", TARGET),
    _histogram("gaia_probe_latency_seconds", "Measured latency of looks that were answered.", TARGET),
    _counter(
        "gaia_probe_runs_total", "Looks taken, by what they found and why.", (*TARGET, "result", "reason")
    ),
    _gauge("gaia_probe_last_run_timestamp_seconds", "When the latest look began.", TARGET),
    _gauge("gaia_probe_interval_seconds", "Seconds between two scheduled looks.", TARGET),
    _gauge("gaia_probe_schedule_lag_seconds", "How late the latest scheduled look began.", TARGET),
    _counter("gaia_probe_missed_total", "Scheduled looks left out because one was still under way.", TARGET),
)
TRAFFIC: Final = (
    _gauge("gaia_service_requests_per_second", "Requests per second over the last 5 minutes.", SERVICE),
    _gauge("gaia_service_error_ratio", "Share of requests answered 5xx over the last 5 minutes.", SERVICE),
    _gauge(
        "gaia_service_slow_ratio", "Share of requests slower than the threshold, last 5 minutes.", SERVICE
    ),
    _gauge(
        "gaia_service_latency_p95_seconds", "95th percentile of request latency, last 5 minutes.", SERVICE
    ),
)
SPANS: Final = (
    _gauge(
        "gaia_service_span_coverage_ratio",
        "Share of a service's requests that its spans show, by its own histogram; below 1 they are sampled.",
        SERVICE,
    ),
    _histogram(
        "gaia_request_duration_seconds",
        "Requests counted from spans, a sampled one for those it stands for; buckets have trace exemplars.",
        (*SERVICE, "kind", "method", "route", "status", "error"),
    ),
)
ALERTS: Final = (
    _gauge(
        "gaia_alert_state",
        "1 for every alert that is pending, firing or recovering; absent once it is resolved.",
        ("alertname", "alertstate", "env", "service", "check", "severity"),
    ),
    _gauge(
        "gaia_alert_since_timestamp_seconds",
        "When the alert fired.",
        ("alertname", "env", "service", "check", "severity"),
    ),
    _gauge("gaia_alerts", "How many alerts are in each state.", ("env", "alertstate")),
    _counter(
        "gaia_alert_transitions_total",
        "Changes of state, by what happened: active, fired, resolved.",
        ("alertname", "env", "service", "to"),
    ),
)
NOTIFICATIONS: Final = (
    _counter(
        "gaia_notification_sent_total",
        "Messages by receiver and how it went: sent, retried, failed.",
        ("receiver", "result"),
    ),
    _gauge("gaia_notification_pending", "Messages not delivered yet.", ("receiver",)),
    _gauge(
        "gaia_notification_oldest_seconds",
        "Age of the oldest message not delivered yet; 0 when none.",
        ("receiver",),
    ),
    _gauge("gaia_notification_duration_seconds", "How long the latest accepted message took.", ("receiver",)),
    _gauge(
        "gaia_notification_last_success_timestamp_seconds",
        "When the receiver last took a message; absent before the first.",
        ("receiver",),
    ),
    _gauge(
        "gaia_notification_breaker_open", "1 while the receiver is left alone for failing.", ("receiver",)
    ),
)
TELEMETRY: Final = (
    _counter("gaia_telemetry_received_total", "Records acknowledged.", ("signal",)),
    _counter("gaia_telemetry_delivered_total", "Records a destination accepted.", ("signal", "destination")),
    _gauge("gaia_telemetry_queued", "Records waiting.", ("signal", "destination")),
    _counter("gaia_telemetry_dead_lettered_total", "Records put aside as poison.", ("signal", "destination")),
    _counter("gaia_telemetry_evicted_total", "Records dropped for lack of room.", ("signal", "destination")),
    _counter(
        "gaia_telemetry_refused_total", "Requests answered with an error, by its code.", ("signal", "code")
    ),
    _gauge("gaia_telemetry_log_bytes", "Size of the durable log on disk."),
    _counter("gaia_telemetry_error_logs_total", "Log records at ERROR level or above.", SERVICE),
    _counter("gaia_telemetry_log_records_total", "Log records by level.", (*SERVICE, "level")),
    _counter(
        "gaia_telemetry_folded_requests_total",
        "Requests counted together because their service has too many routes.",
        SERVICE,
    ),
    _gauge(
        "gaia_telemetry_oldest_unsent_seconds",
        "How long the oldest record waits for its destination; 0 when none does.",
        ("signal", "destination"),
    ),
    _gauge(
        "gaia_telemetry_unaccounted",
        "Records received that were neither delivered, nor wait, nor were put aside or dropped: 0.",
        ("signal", "destination"),
    ),
    _gauge(
        "gaia_telemetry_paused", "1 while a destination refuses us and a person must look.", ("destination",)
    ),
    _counter("gaia_telemetry_repeated_total", "Requests kept before: acknowledged, not counted again."),
    _counter("gaia_telemetry_damaged_bytes_total", "Bytes of the log found damaged and skipped."),
    _counter("gaia_telemetry_failed_writes_total", "Requests the disk could not take; the client was told."),
)
AGENT: Final = (
    _gauge(
        "gaia_agent_info", "1; the version of the agent and the platform it watches.", ("version", "platform")
    ),
    _gauge("gaia_agent_start_timestamp_seconds", "When the agent started."),
    _gauge("gaia_agent_ready", "1 once every part runs."),
    _gauge("gaia_agent_config_loaded_timestamp_seconds", "When the configuration in force was loaded."),
    _gauge("gaia_agent_config_valid", "0 when the last reload was refused, else 1."),
    _gauge("gaia_agent_targets", "Targets watched.", ("env",)),
    _gauge("gaia_agent_late_probes", "Scheduled looks of the last minute that missed their slot."),
    _gauge("gaia_agent_loop_lag_seconds", "Worst lateness of the event loop within the last minute."),
    _gauge("gaia_agent_part_up", "1 when this part of the agent works.", ("part",)),
    _gauge("gaia_agent_undelivered", "Messages to people that no receiver has taken yet."),
    _gauge("gaia_agent_oldest_undelivered_seconds", "Age of the oldest of them; 0 when none."),
    _gauge("gaia_agent_series", "Series on this page."),
    _gauge("gaia_last_deploy_timestamp_seconds", "When the last deploy marker was set.", SERVICE),
    _gauge("process_resident_memory_bytes", "Memory of the agent."),
    _counter("process_cpu_seconds_total", "CPU time of the agent."),
    _gauge("process_open_fds", "Open file descriptors of the agent."),
    _gauge("process_start_time_seconds", "When the process started."),
)
METRICS: Final = (*TARGETS, *TRAFFIC, *SPANS, *ALERTS, *NOTIFICATIONS, *TELEMETRY, *AGENT)
