"""The series that are not a target's: traffic, alerts, and the agent itself."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable, Mapping
from typing import Final

from agent.exposition.document import Document
from agent.exposition.family import Line, Shape, label_text
from agent.telemetry.red import RedView
from agent.web.source import ActiveAlert, AgentStatus, Change
from alerts.view import Transition
from checks.finding import State

ALERT_STATES: Final = ("pending", "firing", "recovering")
_TRAFFIC: Final = (
    "gaia_service_requests_per_second",
    "gaia_service_error_ratio",
    "gaia_service_slow_ratio",
    "gaia_service_latency_p95_seconds",
)
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class AgentSeries:
    """Brings the series of everything but targets up to date; called before a scrape, on the event loop."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._owners: dict[str, frozenset[str]] = {}
        self._transitions: dict[str, int] = {}
        self._started_s = _process_start_s()

    def traffic(self, reds: Mapping[tuple[str, str], RedView]) -> None:
        """Rates of each (environment, service); what is not measured has no series."""
        found: dict[str, dict[str, float]] = {name: {} for name in _TRAFFIC}
        for (env, service), red in reds.items():
            owner = label_text((("env", env), ("service", service)))
            measured = (red.requests_per_s, red.error_ratio, red.slow_ratio, red.p95_s)
            for name, value in zip(_TRAFFIC, measured, strict=True):
                if value is not None:
                    found[name][owner] = value
        for name, values in found.items():
            self._all(name, values)

    def coverage(self, shares: Mapping[tuple[str, str], float]) -> None:
        """How much of each (environment, service) its spans show."""
        values = {
            label_text((("env", env), ("service", name))): share for (env, name), share in shares.items()
        }
        self._all("gaia_service_span_coverage_ratio", values)

    def alerts(self, alerts: Iterable[ActiveAlert], environments: Iterable[str]) -> None:
        """Every alert that is not OK; `environments` get their zeros."""
        states: dict[str, float] = {}
        since: dict[str, float] = {}
        counts = {(env, state): 0 for env in environments for state in ALERT_STATES}
        for alert in alerts:
            where = (
                ("env", alert.env),
                ("service", alert.service),
                ("check", alert.check),
                ("severity", alert.severity),
            )
            name = ("alertname", alert.name)
            states[label_text((name, ("alertstate", alert.state), *where))] = 1
            if alert.fired_s is not None:
                since[label_text((name, *where))] = alert.fired_s
            counts[alert.env, alert.state] = counts.get((alert.env, alert.state), 0) + 1
        self._all("gaia_alert_state", states)
        self._all("gaia_alert_since_timestamp_seconds", since)
        self._all(
            "gaia_alerts",
            {
                label_text((("env", env), ("alertstate", state))): count
                for (env, state), count in counts.items()
            },
        )

    def transition(self, transition: Transition, env: str) -> None:
        """Count one change of state."""
        owner = label_text(
            (
                ("alertname", transition.alertname),
                ("env", env),
                ("service", transition.component),
                ("to", transition.what.value),
            )
        )
        self._transitions[owner] = self._transitions.get(owner, 0) + 1
        self._single("gaia_alert_transitions_total", owner, self._transitions[owner])

    def deploys(self, changes: Iterable[Change]) -> None:
        """The newest deploy marker of each service; `changes` are newest first."""
        newest: dict[str, float] = {}
        for change in changes:
            if change.kind == "deploy":
                owner = label_text((("env", change.env), ("service", change.service)))
                newest.setdefault(owner, change.at_s)
        self._all("gaia_last_deploy_timestamp_seconds", newest)

    def agent(self, agent: AgentStatus, platform: str, targets: Mapping[str, int]) -> None:
        """The agent on itself; `targets` counts those of each environment."""
        self._all("gaia_agent_info", {label_text((("version", agent.version), ("platform", platform))): 1})
        self._all(
            "gaia_agent_targets", {label_text((("env", env),)): count for env, count in targets.items()}
        )
        self._all(
            "gaia_agent_part_up",
            {label_text((("part", part.name),)): int(part.state is State.UP) for part in agent.parts},
        )
        for name, value in (
            ("gaia_agent_start_timestamp_seconds", agent.started_s),
            ("gaia_agent_ready", int(agent.ready)),
            ("gaia_agent_config_loaded_timestamp_seconds", agent.config_loaded_s),
            ("gaia_agent_config_valid", int(agent.config_problem is None)),
            ("gaia_agent_late_probes", agent.late_probes),
            ("gaia_agent_loop_lag_seconds", agent.loop_lag_s),
            ("gaia_agent_undelivered", agent.undelivered),
            ("gaia_agent_oldest_undelivered_seconds", agent.oldest_undelivered_s or 0),
            ("gaia_agent_series", self._document.series),
        ):
            self._single(name, "", value)
        self._process()

    def _process(self) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self._single("process_cpu_seconds_total", "", usage.ru_utime + usage.ru_stime)
        self._single("process_start_time_seconds", "", self._started_s)
        try:
            with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 - twice as fast, each scrape
                self._single("process_resident_memory_bytes", "", int(statm.read().split()[1]) * _PAGE_BYTES)
            self._single("process_open_fds", "", len(os.listdir("/proc/self/fd")))  # noqa: PTH208 - as above
        except OSError:
            return  # Not Linux: these two are then not known.

    def _single(self, name: str, owner: str, value: float) -> None:
        self._document.put(name, owner, _shape(name, owned=bool(owner)), (value,))

    def _all(self, name: str, values: Mapping[str, float]) -> None:
        """Make these the series of `name`, and no others."""
        for owner, value in values.items():
            self._document.put(name, owner, _shape(name, owned=True), (value,))
        for owner in self._owners.get(name, frozenset()) - values.keys():
            self._document.remove(name, owner)
        self._owners[name] = frozenset(values)


_shapes: Final[dict[tuple[str, bool], Shape]] = {}


def _shape(name: str, *, owned: bool) -> Shape:
    shape = _shapes.get((name, owned))
    if shape is None:
        shape = _shapes[name, owned] = Shape(name, (Line(),), owned=owned)
    return shape


def _process_start_s() -> float:
    try:
        with open("/proc/self/stat", encoding="ascii") as stat:  # noqa: PTH123 - as in _process
            ticks = int(stat.read().rsplit(")", 1)[1].split()[19])
        with open("/proc/uptime", encoding="ascii") as uptime:  # noqa: PTH123 - as in _process
            return time.time() - float(uptime.read().split()[0]) + ticks / _TICKS
    except OSError:
        return time.time()
