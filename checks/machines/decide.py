"""Up, asleep or fallen over: pure, from what DNS and the API say to one answer; never a guess."""

from __future__ import annotations

from collections.abc import Iterator

from checks.finding import State
from checks.machines import single
from checks.machines.api import Machine
from checks.machines.seen import (
    DEPLOYING,
    GONE,
    LOOP_EXITS,
    LOOP_S,
    MOVING,
    RESTING,
    STUCK_S,
    Seen,
    age_s,
)
from checks.problem import Problem
from checks.reason import Reason


def decide(seen: Seen) -> tuple[Problem, ...]:
    """Every problem; a sleeping app is one Problem with the state asleep, and nothing else is said of it."""
    if seen.names is None and seen.machines is None:
        why = f" ({'; '.join(seen.trouble)})" if seen.trouble else ""
        words = (
            f"neither the Machines API nor the private DNS says anything of {seen.app}{why}: "
            "whether it runs, sleeps or fell over is not known"
        )
        return (Problem(state=State.UNKNOWN, reason=Reason.FLY_CONTROL_PLANE, message=words),)
    if seen.deployed == 0:
        words = f"{seen.app} has no machine at all: deploy it"
        return (Problem(state=State.DOWN, reason=Reason.FLY_NO_MACHINES, message=words, urgent=True),)
    if seen.started == 0:
        return (_at_rest(seen),)
    return (*_count(seen), *single.each(seen), *single.drift(seen))


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
    moving = [machine for machine in machines if machine.state in MOVING | DEPLOYING]
    if any(age_s(machine, seen.at_s) < STUCK_S for machine in moving):
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
    if not all(_rests_on_purpose(machine) for machine in machines if machine.state not in GONE):
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
        recent = [one for at, one in exits if seen.at_s - at < LOOP_S and not one.requested_stop]
        last = exits[0][1]
        if last.oom_killed:
            words = (
                f"machine {machine.id} of {seen.app} was killed for memory: give it more, or find the leak"
            )
            return Problem(state=State.DOWN, reason=Reason.FLY_OOM, message=words, urgent=True)
        if len(recent) >= LOOP_EXITS:
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
    fallen = _fallen(tuple(one for one in seen.machines or () if one.state in RESTING), seen)
    if fallen is not None:
        words = f"{fallen.message}; {seen.started} of at least {seen.minimum} machines are left"
        yield Problem(state=State.DEGRADED, reason=fallen.reason, message=words, urgent=True)
        return
    yield _below(seen)
