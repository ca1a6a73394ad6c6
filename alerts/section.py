"""The `alerts` table of gaia.yaml."""

from __future__ import annotations

import msgspec

from alerts.canary import validated
from alerts.receiver import DeadMan, EscalationStep, MaintenanceWindow, Receiver, ReportSchedule
from alerts.rule import DEFAULT_POLICIES, DEFAULT_RULES, Rule
from checks.units import Duration


class AlertsSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Policies name rules; an environment names its policy; receivers are called by severity.

    `settle` is how long a dependent's page waits for its cause to be known. `canaries` are at least two
    independent places outside (`1.1.1.1:443`, `dns://9.9.9.9/example.org`): when four targets in five do not
    answer and no canary does either, it is the agent that is cut off, and nobody is called until it is back.
    Without any the receivers' own addresses serve.
    """

    policies: dict[str, tuple[str, ...]] = msgspec.field(default_factory=lambda: dict(DEFAULT_POLICIES))
    rules: dict[str, Rule] = msgspec.field(default_factory=lambda: dict(DEFAULT_RULES))
    receivers: dict[str, Receiver] = {}
    settle: Duration = Duration(10)
    dead_man: DeadMan | None = None
    escalation: tuple[EscalationStep, ...] = ()
    maintenance: tuple[MaintenanceWindow, ...] = ()
    report: ReportSchedule | None = None
    canaries: tuple[str, ...] = ()
    external_url: str = "http://127.0.0.1:9877"

    def __post_init__(self) -> None:
        validated(self.canaries)
