"""What the platform file says of an environment, as the variables its services read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.platform.scope import Scope


def service_settings(scope: Scope, service: str) -> dict[str, str]:
    """Level, pace, sampling and bucket edges as they are judged by, and the variables with a value.

    Not `logging.format`: the agent beside them reads their files, whoever else does.
    """
    environment = scope.environment
    settings = {
        "LOG_LEVEL": environment.log_level,
        "HEALTH_CHECK_INTERVAL": f"{float(environment.check_interval):g}s",
        "LATENCY_THRESHOLDS": ",".join(f"{edge:g}s" for edge in scope.latency_edges_s),
    }
    if not environment.logging.tracing:
        settings["OTEL_TRACES_SAMPLER_ARG"] = "0"
    for name, variable in scope.variables.items():
        if variable.value is not None and (variable.services is None or service in variable.services):
            settings[name] = variable.value
    return settings
