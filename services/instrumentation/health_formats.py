"""The health document in five dialects: health+json, Spring, MicroProfile, ASP.NET and plain text."""

from __future__ import annotations

import time
from typing import Final

from services.instrumentation.health import Health, Status, checked_at
from services.instrumentation.settings import Settings

_SPRING: Final = {Status.PASS: "UP", Status.WARN: "UP", Status.FAIL: "DOWN"}
_ASPNET: Final = {Status.PASS: "Healthy", Status.WARN: "Degraded", Status.FAIL: "Unhealthy"}


def health_json(health: Health, settings: Settings, *, details: bool) -> dict[str, object]:
    """draft-inadarei-api-health-check-06. Without `details` only what the public may know: the status."""
    status, causes = health.overall()
    if not details:
        return {"status": status.value}
    document: dict[str, object] = {
        "status": status.value,
        "version": settings.version.partition(".")[0],
        "releaseId": settings.version,
        "serviceId": f"gaia-{settings.service}-{settings.environment.alias}",
        "description": f"{settings.service} in {settings.environment.value}, instance {settings.instance_id}",
    }
    if causes:
        document["output"] = f"{status.value} because of {', '.join(causes)}"
    now_s = time.monotonic()
    checks: dict[str, list[dict[str, object]]] = {}
    for dependency in health.dependencies:
        judged, note = health.judged(dependency, now_s)
        result = health.results.get(dependency.name)
        entry: dict[str, object] = {"componentType": dependency.component_type, "status": judged.value}
        if result is not None:
            entry["time"] = checked_at(result)
            entry["ageSeconds"] = round(now_s - result.at_s, 3)
            if result.reading.value is not None:
                entry["observedValue"] = result.reading.value
                entry["observedUnit"] = result.reading.unit
        if note:
            entry["output"] = note
        entry["criticality"] = dependency.criticality.value
        checks[dependency.name] = [entry]
    document["checks"] = checks
    return document


def spring(health: Health, *, details: bool) -> dict[str, object]:
    """Spring Boot's actuator form."""
    status, _ = health.overall()
    if not details:
        return {"status": _SPRING[status]}
    return {
        "status": _SPRING[status],
        "components": {
            name: {"status": _SPRING[judged], "details": {"output": note}}
            for name, judged, note in _all(health)
        },
    }


def microprofile(health: Health, *, details: bool) -> dict[str, object]:
    """MicroProfile Health 4."""
    status, _ = health.overall()
    checks = [
        {"name": name, "status": _SPRING[judged], "data": {"output": note}}
        for name, judged, note in _all(health)
    ]
    return {"status": _SPRING[status], "checks": checks if details else []}


def aspnet(health: Health, *, details: bool) -> dict[str, object]:
    """ASP.NET Core HealthChecks UI."""
    status, _ = health.overall()
    entries = {name: {"status": _ASPNET[judged], "description": note} for name, judged, note in _all(health)}
    return {"status": _ASPNET[status], "totalDuration": "00:00:00", "entries": entries if details else {}}


def verbose_text(health: Health) -> str:
    """`/readyz?verbose` as Kubernetes prints it."""
    lines = [
        f"[{'+' if judged is not Status.FAIL else '-'}]{name} {judged.value}{f': {note}' if note else ''}"
        for name, judged, note in _all(health)
    ]
    reason = health.not_ready()
    lines.append("readyz check passed" if reason is None else f"readyz check failed: {reason}")
    return "\n".join(lines) + "\n"


def _all(health: Health) -> list[tuple[str, Status, str]]:
    now_s = time.monotonic()
    return [(dependency.name, *health.judged(dependency, now_s)) for dependency in health.dependencies]
