"""The agent's own destinations as targets: looked at, shown and judged like everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from agent.platform.scope import Scope
from agent.prober import Watch
from agent.telemetry.destination_check import DestinationCheck
from agent.watches import HERE, shown_address
from checks.clock import Clock
from checks.target import Kind, Target, TargetKey

if TYPE_CHECKING:
    from agent.telemetry.figures import Figures

COMPONENT: Final = "telemetry"
_TIMEOUT_S: Final = 5.0


def destination_watches(scope: Scope, clock: Clock, figures: Callable[[], Figures | None]) -> Iterator[Watch]:
    """One target for each destination of an environment's telemetry; `figures` tells the ledger."""
    for name, options in scope.telemetry.destinations.items():
        address = shown_address(options.url)
        key = TargetKey(env=scope.environment_name, service=COMPONENT, check=name, vantage=HERE)
        yield Watch(
            target=Target(key=key, kind=Kind.AGENT, address=address),
            kind=COMPONENT,
            options=options,
            check=DestinationCheck(
                name,
                address=address,
                late_after_s=options.late_after,
                figures=figures,
                clock=clock,
            ),
            sentinel=None,
            interval_s=float(scope.environment.check_interval),
            timeout_s=_TIMEOUT_S,
            slower_than_s=None,
        )
