"""Alerts that others judged (Prometheus, a Loki ruler) and that get our outbox, causes and episodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct, field

from alerts.instance import Instance, Source, fingerprint
from alerts.machine import Pace
from alerts.reading import Outcome, Reading
from alerts.rule import Severity, TargetStateRule
from checks.target import Kind

_LASTS_AFTER_RESTART_S: Final = 900.0
_OURS_LASTS_S: Final = 60.0
LASTS_S: Final = 300.0
_ENDED: Final = -1.0
_SEVERITIES: Final = {
    "page": Severity.PAGE, "critical": Severity.PAGE, "fatal": Severity.PAGE, "emergency": Severity.PAGE,
    "info": Severity.LOG, "log": Severity.LOG, "none": Severity.LOG,
}  # fmt: skip
# Identity must not carry what changes when a machine is replaced; but a sender's own labels are its identity.
_NOT_IDENTITY: Final = frozenset({"severity"})


class ExternalAlert(Struct, frozen=True, kw_only=True):
    """One alert as posted to /api/v2/alerts. `ends_at_s` 0: confirmed for five minutes."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str] = field(default_factory=dict)
    starts_at_s: float = 0.0
    ends_at_s: float = 0.0
    generator_url: str = ""


def instance_of(alert: ExternalAlert, env: str) -> Instance:
    """A fresh alert for a posted label set."""
    labels = {name: value for name, value in alert.labels.items() if name not in _NOT_IDENTITY and value}
    labels.setdefault("env", env)
    severity = severity_of(alert.labels.get("severity", ""))
    name = labels.get("alertname", "unnamed")
    summary = alert.annotations.get("summary") or alert.annotations.get("title") or ""
    return Instance(
        alertname=name,
        rule=TargetStateRule(severity=severity, summary=summary[:80] or name),
        source=Source.EXTERNAL,
        component=labels.get("service", ""),
        kind=Kind.SERVICE,
        labels=labels,
        fingerprint=fingerprint(labels),
        pace=Pace(min_good=0, min_bad=0),
    )


def severity_of(label: str) -> Severity:
    """What others call critical wakes somebody here; what nobody knows is read at work."""
    return _SEVERITIES.get(label, Severity.CHAT)


def confirm(instance: Instance, alert: ExternalAlert, now_s: float) -> None:
    """Its sender said something about it just now."""
    instance.annotations = {name: text for name, text in alert.annotations.items() if text}
    if alert.generator_url:
        instance.annotations["generator_url"] = alert.generator_url
    instance.ends_at_s = alert.ends_at_s or now_s + LASTS_S
    if instance.ends_at_s <= now_s:
        end(instance)


def lasts_after_restart_s(instance: Instance) -> float:
    """How long its sender has to confirm it again: Prometheus may be restarting too, we are not."""
    return _LASTS_AFTER_RESTART_S if instance.component else _OURS_LASTS_S


def end(instance: Instance) -> None:
    """It is over, as its sender says."""
    instance.ends_at_s = _ENDED


def expired(instance: Instance, now_s: float) -> bool:
    """Whether it is over only because its sender stopped confirming it."""
    return instance.source is Source.EXTERNAL and 0 < instance.ends_at_s <= now_s


def reading_of(instance: Instance, now_s: float) -> Reading:
    """Bad until its end, which its sender moves or says."""
    text = (
        instance.annotations.get("description")
        or instance.annotations.get("message")
        or instance.annotations.get("summary")
        or instance.alertname
    )
    outcome = Outcome.BAD if now_s < instance.ends_at_s else Outcome.GOOD
    return Reading(outcome=outcome, at_s=now_s, text=" ".join(text.split())[:300], hard=True)
