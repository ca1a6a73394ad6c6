"""Up, asleep or fallen over: pure, from what DNS and the API say to one answer; never a guess."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from checks.finding import State
from checks.machines.api import Machine
from checks.machines.names import Roll
from checks.problem import Problem
from checks.reason import Reason

_MOVING: Final = frozenset({"created", "creating", "starting", "stopping", "suspending", "restarting"})
_DEPLOYING: Final = frozenset({"replacing", "updating"})
_GONE: Final = frozenset({"destroying", "destroyed"})
_RESTING: Final = frozenset({"stopped", "suspended"})
_STUCK_S: Final = 300.0
_DEPLOY_S: Final = 600.0
_LOOP_S: Final = 600.0
_LOOP_EXITS: Final = 3


class Seen(Struct, frozen=True, kw_only=True):
    """What is known of one app at `at_s` (wall). `names` None: DNS did not say; `machines` None: no API."""

    app: str
    at_s: float
    names: Roll | None
    machines: tuple[Machine, ...] | None
    minimum: int
    production: bool

    @property
    def deployed(self) -> int:
        if self.machines is not None:
            return sum(machine.state not in _GONE for machine in self.machines)
        return len(self.names.deployed) if self.names is not None else 0

    @property
    def started(self) -> int:
        if self.machines is not None:
            return sum(machine.state == "started" for machine in self.machines)
        return len(self.names.started) if self.names is not None else 0

    @property
    def is_deploying(self) -> bool:
        return any(
            machine.state in _DEPLOYING and _age_s(machine, self.at_s) < _DEPLOY_S
            for machine in self.machines or ()
        )


def decide(seen: Seen) -> tuple[Problem, ...]:
    """Every problem; a sleeping app is one Problem with the state asleep, and nothing else is said of it."""
    if seen.names is None and seen.machines is None:
        words = (
            f"neither the Machines API nor the private DNS says anything of {seen.app}: the last state stands"
        )
        return (Problem(state=State.UNKNOWN, reason=Reason.FLY_CONTROL_PLANE, message=words),)
    if seen.deployed == 0:
        words = f"{seen.app} has no machine at all: deploy it"
        return (Problem(state=State.DOWN, reason=Reason.FLY_NO_MACHINES, message=words, urgent=True),)
    if seen.started == 0:
        return (_at_rest(seen),)
    return (*_count(seen), *_each(seen), *_drift(seen))


def _at_rest(seen: Seen) -> Problem:
    machines = seen.machines
    if machines is None:
        if seen.minimum > 0:
            return _below(seen)
        words = (
            f"{seen.app} has no started machine and no token lets the agent see why: "
            "probably asleep; set a read-only token to know"
        )
        return Problem(state=State.UNKNOWN, reason=Reason.FLY_STOPPED_REASON_UNKNOWN, message=words)
    moving = [machine for machine in machines if machine.state in _MOVING | _DEPLOYING]
    if any(_age_s(machine, seen.at_s) < _STUCK_S for machine in moving):
        words = f"{seen.app} is starting: machine {moving[0].id} is {moving[0].state}"
        return Problem(state=State.STARTING, reason=Reason.STARTING, message=words)
    fallen = _fallen(machines, seen)
    if fallen is not None:
        return fallen
    if seen.minimum > 0:
        return _below(seen)
    if moving:
        words = f"{seen.app}: machine {moving[0].id} is {moving[0].state} since more than 5 min: it is stuck"
        return Problem(state=State.DOWN, reason=Reason.FLY_STUCK, message=words, urgent=True)
    if not all(_rests_on_purpose(machine) for machine in machines if machine.state not in _GONE):
        words = f"{seen.app} has no started machine, and how they ended is not recorded"
        return Problem(state=State.UNKNOWN, reason=Reason.FLY_STOPPED_REASON_UNKNOWN, message=words)
    how = "suspended" if all(machine.state == "suspended" for machine in machines) else "stopped"
    words = f"{seen.app} sleeps: {seen.deployed} machines {how} on purpose; a request would wake it"
    return Problem(state=State.ASLEEP, reason=Reason.ASLEEP, message=words)


def _fallen(machines: tuple[Machine, ...], seen: Seen) -> Problem | None:
    for machine in machines:
        if machine.state == "suspended":
            continue
        exits = machine.exits()
        if not exits:
            continue
        recent = [one for at, one in exits if seen.at_s - at < _LOOP_S and not one.requested_stop]
        last = exits[0][1]
        if last.oom_killed:
            words = (
                f"machine {machine.id} of {seen.app} was killed for memory: give it more, or find the leak"
            )
            return Problem(state=State.DOWN, reason=Reason.FLY_OOM, message=words, urgent=True)
        if len(recent) >= _LOOP_EXITS:
            words = f"machine {machine.id} of {seen.app} ended {len(recent)} times in 10 min: read its logs"
            return Problem(state=State.DOWN, reason=Reason.FLY_CRASH_LOOP, message=words, urgent=True)
        if last.exit_code and not last.requested_stop:
            words = f"machine {machine.id} of {seen.app} exited with code {last.exit_code}: read its logs"
            return Problem(state=State.DOWN, reason=Reason.FLY_CRASHED, message=words, urgent=True)
    return None


def _rests_on_purpose(machine: Machine) -> bool:
    if machine.state == "suspended":
        return True
    if machine.state != "stopped":
        return False
    exits = machine.exits()
    return bool(exits) and (exits[0][1].requested_stop or exits[0][1].exit_code == 0)


def _below(seen: Seen) -> Problem:
    state = State.DOWN if seen.started == 0 else State.DEGRADED
    words = f"{seen.app} has {seen.started} started machines of at least {seen.minimum}: start more"
    return Problem(state=state, reason=Reason.FLY_BELOW_MINIMUM, message=words, urgent=True)


def _count(seen: Seen) -> Iterator[Problem]:
    if seen.started >= seen.minimum:
        return
    if seen.is_deploying:
        words = (
            f"{seen.app} is being deployed: {seen.started} of at least {seen.minimum} machines are started"
        )
        yield Problem(state=State.UP, reason=Reason.FLY_DEPLOYING, message=words)
        return
    fallen = _fallen(tuple(one for one in seen.machines or () if one.state in _RESTING), seen)
    if fallen is not None:
        words = f"{fallen.message}; {seen.started} of at least {seen.minimum} machines are left"
        yield Problem(state=State.DEGRADED, reason=fallen.reason, message=words, urgent=True)
        return
    yield _below(seen)


def _each(seen: Seen) -> Iterator[Problem]:
    for machine in seen.machines or ():
        name = f"machine {machine.id} of {seen.app}"
        if machine.host_status not in ("ok", ""):
            words = f"the host of {name} in {machine.region} is {machine.host_status}: move it elsewhere"
            yield Problem(state=State.DEGRADED, reason=Reason.FLY_HOST, message=words, urgent=True)
        age_s = _age_s(machine, seen.at_s)
        limit_s = _DEPLOY_S if machine.state in _DEPLOYING else _STUCK_S
        if machine.state in _MOVING | _DEPLOYING | {"destroying"} and age_s > limit_s:
            words = (
                f"{name} is {machine.state} for {age_s / 60:.0f} min: it is stuck; see `fly machine status`"
            )
            yield Problem(
                state=State.DEGRADED, reason=Reason.FLY_STUCK, message=words, urgent=seen.production
            )
        if machine.state != "started":
            continue
        loops = [one for at, one in machine.exits() if seen.at_s - at < _LOOP_S and not one.requested_stop]
        if len(loops) >= _LOOP_EXITS:
            words = f"{name} ended {len(loops)} times in 10 min and was started again: read its logs"
            yield Problem(state=State.DEGRADED, reason=Reason.FLY_CRASH_LOOP, message=words, urgent=True)
        for check in machine.checks or ():
            if check.status == "critical":
                output = " ".join(check.output.split())[:80]
                words = f"the platform's check {check.name} of {name} is critical: {output}"
                yield Problem(state=State.DEGRADED, reason=Reason.FLY_CHECKS, message=words)


def _drift(seen: Seen) -> Iterator[Problem]:
    started = [machine for machine in seen.machines or () if machine.state == "started"]
    if seen.is_deploying or len(started) < 2:
        return
    images = {machine.image_ref.digest for machine in started if machine.image_ref.digest}
    guests = {
        (one.config.guest.cpu_kind, one.config.guest.cpus, one.config.guest.memory_mb) for one in started
    }
    what = "images" if len(images) > 1 else "sizes" if len(guests) > 1 else ""
    if what:
        words = (
            f"the {len(started)} machines of {seen.app} run different {what}: finish or roll back the deploy"
        )
        yield Problem(state=State.DEGRADED, reason=Reason.FLY_DRIFT, message=words)


def _age_s(machine: Machine, at_s: float) -> float:
    updated_s = machine.updated_s
    return 0.0 if updated_s is None else at_s - updated_s
