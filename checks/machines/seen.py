"""What is known of one app's machines at one moment, and how long its states may last."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from checks.machines.api import Guest, Machine
from checks.machines.names import Roll

MOVING: Final = frozenset({"created", "creating", "starting", "stopping", "suspending", "restarting"})
DEPLOYING: Final = frozenset({"replacing", "updating"})
GONE: Final = frozenset({"destroying", "destroyed"})
RESTING: Final = frozenset({"stopped", "suspended"})
STUCK_S: Final = 300.0
DEPLOY_S: Final = 600.0
LOOP_S: Final = 600.0
LOOP_EXITS: Final = 3


class Seen(Struct, frozen=True, kw_only=True):
    """What is known of one app at `at_s` (wall). `names` None: DNS did not say; `machines` None: no API.

    `minimum`, `regions`, `size`: what there should be; `profile` is whose patience holds. `trouble`: why
    one of the two did not say.
    """

    app: str
    at_s: float
    names: Roll | None
    machines: tuple[Machine, ...] | None
    minimum: int
    regions: tuple[str, ...] = ()
    size: Guest | None = None
    profile: str = "production"
    trouble: tuple[str, ...] = ()

    @property
    def deployed(self) -> int:
        if self.machines is not None:
            return sum(machine.state not in GONE for machine in self.machines)
        return len(self.names.deployed) if self.names is not None else 0

    @property
    def started(self) -> int:
        if self.machines is not None:
            return sum(machine.state == "started" for machine in self.machines)
        return len(self.names.started) if self.names is not None else 0

    @property
    def is_deploying(self) -> bool:
        return any(
            machine.state in DEPLOYING and age_s(machine, self.at_s) < DEPLOY_S
            for machine in self.machines or ()
        )


def age_s(machine: Machine, at_s: float) -> float:
    """Seconds since the machine's state changed; 0 when that is not told."""
    updated_s = machine.updated_s
    return 0.0 if updated_s is None else at_s - updated_s
