"""What is wrong with single machines, and where they differ from each other and from what they should be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from checks.finding import State
from checks.machines.api import Guest, Machine, PlatformCheck, seconds
from checks.machines.seen import DEPLOY_S, DEPLOYING, LOOP_EXITS, LOOP_S, MOVING, STUCK_S, Seen, age_s
from checks.problem import Problem
from checks.reason import Reason

# For how long the platform's own check must fail, by profile and its status; not in there: never told.
_CHECK_FOR_S: Final = {
    ("staging", "critical"): 120.0,
    ("production", "critical"): 30.0,
    ("production", "warning"): 30.0,
}


def each(seen: Seen) -> Iterator[Problem]:
    """Every problem of every machine."""
    for machine in seen.machines or ():
        yield from _host(machine, seen)
        yield from _stuck(machine, seen)
        if machine.state == "started":
            yield from _exits(machine, seen)
            yield from _checks(machine, seen)


def drift(seen: Seen) -> Iterator[Problem]:
    """Started machines that differ in image or size, from each other or from what gaia.yaml says."""
    started = [machine for machine in seen.machines or () if machine.state == "started"]
    if seen.is_deploying or not started or seen.profile == "development":
        return
    images = {machine.image_ref.digest for machine in started if machine.image_ref.digest}
    guests = {machine.config.guest for machine in started}
    what = "images" if len(images) > 1 else "sizes" if len(guests) > 1 else ""
    if what:
        words = (
            f"the {len(started)} machines of {seen.app} run different {what}: finish or roll back the deploy"
        )
        yield _degraded(Reason.FLY_DRIFT, words)
    other = next((one for one in started if seen.size not in (None, one.config.guest)), None)
    if other is not None and seen.size is not None:
        words = (
            f"machine {other.id} of {seen.app} has {_said(other.config.guest)} and should have "
            f"{_said(seen.size)}: deploy it again, or correct gaia.yaml"
        )
        yield _degraded(Reason.FLY_DRIFT, words)
    empty = [region for region in seen.regions if region not in {machine.region for machine in started}]
    if empty:
        words = (
            f"{seen.app} has no started machine in {', '.join(empty)}, where it should have one: "
            "users there are served from afar, and one region's failure takes more with it"
        )
        yield _degraded(Reason.FLY_DRIFT, words)


def _host(machine: Machine, seen: Seen) -> Iterator[Problem]:
    status = machine.host_status
    # An unknown host is worth a word only where somebody is called, an unreachable one everywhere.
    if status == "unreachable" or (status == "unknown" and seen.profile == "production"):
        words = f"the host of {_name(machine, seen)} in {machine.region} is {status}: move it elsewhere"
        yield _degraded(Reason.FLY_HOST, words, urgent=status == "unreachable")
    if machine.cordoned and machine.state == "started":
        words = f"{_name(machine, seen)} is cordoned and gets no new requests: `fly machine uncordon`"
        yield Problem(state=State.UP, reason=Reason.FLY_HOST, message=words)


def _stuck(machine: Machine, seen: Seen) -> Iterator[Problem]:
    lasted_s = age_s(machine, seen.at_s)
    limit_s = DEPLOY_S if machine.state in DEPLOYING else STUCK_S
    if machine.state in MOVING | DEPLOYING | {"destroying"} and lasted_s > limit_s:
        words = (
            f"{_name(machine, seen)} is {machine.state} for {lasted_s / 60:.0f} min: it is stuck; "
            "see `fly machine status`"
        )
        yield _degraded(Reason.FLY_STUCK, words, urgent=seen.profile == "production")


def _exits(machine: Machine, seen: Seen) -> Iterator[Problem]:
    recent = [one for at, one in machine.exits() if seen.at_s - at < LOOP_S and not one.requested_stop]
    if len(recent) >= LOOP_EXITS:
        words = (
            f"{_name(machine, seen)} ended {len(recent)} times in 10 min and was started again: read its logs"
        )
        yield _degraded(Reason.FLY_CRASH_LOOP, words, urgent=True)
    elif any(one.oom_killed for one in recent):
        words = (
            f"{_name(machine, seen)} was killed for memory within the last 10 min and started again: "
            "give it more, or find the leak"
        )
        yield _degraded(Reason.FLY_OOM, words, urgent=True)


def _checks(machine: Machine, seen: Seen) -> Iterator[Problem]:
    for check in machine.checks or ():
        patience_s = _CHECK_FOR_S.get((seen.profile, check.status))
        if patience_s is None or _lasted_s(check, seen.at_s) < patience_s:
            continue
        output = " ".join(check.output.split())[:80]
        words = f"the platform's check {check.name} of {_name(machine, seen)} is {check.status}: {output}"
        yield _degraded(Reason.FLY_CHECKS, words, urgent=check.status == "critical")


def _lasted_s(check: PlatformCheck, at_s: float) -> float:
    """Since the check's status changed; for ever when that is not told."""
    changed_s = seconds(check.updated_at)
    return float("inf") if changed_s is None else at_s - changed_s


def _said(guest: Guest) -> str:
    return f"{guest.cpus} {guest.cpu_kind} CPUs and {guest.memory_mb} MB"


def _name(machine: Machine, seen: Seen) -> str:
    return f"machine {machine.id} of {seen.app}"


def _degraded(reason: Reason, words: str, *, urgent: bool = False) -> Problem:
    return Problem(state=State.DEGRADED, reason=reason, message=words, urgent=urgent)
