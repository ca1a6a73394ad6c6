"""What a reading of the host means: pure, from this reading, the one before and the limits to problems."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from checks.finding import Measure, State
from checks.host.reading import Disk, Reading, Written
from checks.host.thresholds import Thresholds
from checks.limits import chosen
from checks.problem import Problem, over
from checks.reason import Reason
from checks.units import Duration

_GB: Final = 2**30
# As Fly.io's own check of its PostgreSQL machines.
_LOAD_5M: Final = 4.0
_LOAD_15M: Final = 2.0


class Derived(Struct, frozen=True, kw_only=True):
    """What takes two readings, or a choice between host and cgroup. None: not known yet."""

    cpu: float | None
    throttled: float | None
    stolen: float | None
    memory_used: float
    memory_of_bytes: int
    oom_kills: int
    clock_step_s: float | None
    loop_lag_s: float


def derive(now: Reading, before: Reading | None, *, loop_lag_s: float) -> Derived:
    """`before` None: the first look, so no rates."""
    own = now.own_slice
    used, of_bytes = 1 - now.memory_available_bytes / max(now.memory_total_bytes, 1), now.memory_total_bytes
    if own.memory_limit_bytes and own.memory_used_bytes is not None:
        used, of_bytes = max(
            (used, of_bytes),
            (own.memory_used_bytes / own.memory_limit_bytes, own.memory_limit_bytes),
        )
    if before is None or now.at_s <= before.at_s:
        return Derived(
            cpu=None,
            throttled=None,
            stolen=None,
            memory_used=used,
            memory_of_bytes=of_bytes,
            oom_kills=0,
            clock_step_s=None,
            loop_lag_s=loop_lag_s,
        )
    span_s = now.at_s - before.at_s
    total_s = now.cpu_total_s - before.cpu_total_s
    throttled = None
    if own.throttled_s is not None and before.own_slice.throttled_s is not None:
        throttled = (own.throttled_s - before.own_slice.throttled_s) / span_s
    return Derived(
        cpu=min(max((now.cpu_busy_s - before.cpu_busy_s) / total_s, 0.0), 1.0) if total_s > 0 else None,
        throttled=throttled,
        stolen=max((now.cpu_steal_s - before.cpu_steal_s) / total_s, 0.0) if total_s > 0 else None,
        memory_used=used,
        memory_of_bytes=of_bytes,
        oom_kills=max((now.oom_kills or 0) - (before.oom_kills or 0), 0),
        clock_step_s=abs((now.wall_s - before.wall_s) - span_s),
        loop_lag_s=loop_lag_s,
    )


def judge(
    now: Reading, seen: Derived, limits: Thresholds, *, full_in_s: dict[str, float]
) -> Iterator[Problem]:
    """Every problem, the worst kinds first. `full_in_s`: forecast by disk path."""
    for disk in now.disks:
        yield from _disk(disk, limits, full_in_s.get(disk.path))
    for written in now.writes:
        yield from _written(written)
    if seen.oom_kills and limits.oom_kills is True:
        words = f"the kernel killed {seen.oom_kills} process(es) for memory since the last look: see its log"
        yield Problem(state=State.DEGRADED, reason=Reason.HOST_OOM, message=words, urgent=True)
    yield from over(
        chosen(limits.memory_used),
        seen.memory_used,
        Reason.HOST_MEMORY,
        lambda at: (
            f"{seen.memory_used:.0%} of {seen.memory_of_bytes / _GB:.2g} GB memory is in use "
            f"(limit {at:.0%}): find what grows, or give it more"
        ),
    )
    yield from _cpu(now, seen, limits)
    yield from over(
        chosen(limits.files_used),
        now.files_open / max(now.files_limit, 1),
        Reason.HOST_FDS,
        lambda at: f"{now.files_open} of {now.files_limit} file descriptors are open (limit {at:.0%})",
    )
    if now.tasks_limit:
        used = now.tasks / now.tasks_limit
        yield from over(
            chosen(limits.tasks_used),
            used,
            Reason.HOST_THREADS,
            lambda at: (
                f"{now.tasks} of {now.tasks_limit} threads are running ({used:.0%}, limit {at:.0%}): "
                "nothing can be started soon; find what forks"
            ),
        )
    yield from over(
        chosen(limits.clock_step),
        seen.clock_step_s,
        Reason.HOST_CLOCK,
        lambda at: (
            f"the wall clock stepped by {seen.clock_step_s or 0:.1f} s since the last look "
            f"(limit {Duration(at)}): check time synchronisation; a suspended machine does this once"
        ),
    )
    yield from over(
        chosen(limits.loop_lag),
        seen.loop_lag_s,
        Reason.HOST_LOOP_LAG,
        lambda at: (
            f"the agent's own event loop was {seen.loop_lag_s * 1000:.0f} ms late (limit {Duration(at)})"
        ),
    )


def _disk(disk: Disk, limits: Thresholds, full_in_s: float | None) -> Iterator[Problem]:
    if disk.error:
        words = f"{disk.path} cannot be looked at ({disk.error}): correct the path or mount it"
        yield Problem(state=State.UNKNOWN, reason=Reason.HOST_DISK, message=words)
        return
    if disk.read_only:
        words = f"{disk.path} is mounted read-only: the kernel does that after disk errors; see its log"
        yield Problem(state=State.DOWN, reason=Reason.HOST_READ_ONLY, message=words, urgent=True)
    used = 1 - disk.free_bytes / disk.total_bytes if disk.total_bytes else 0.0
    yield from over(
        chosen(limits.disk_used),
        used,
        Reason.HOST_DISK,
        lambda at: (
            f"{disk.path} is {used:.0%} full, {disk.free_bytes / _GB:.2g} GB left (limit {at:.0%}): "
            "clean up or extend the volume"
        ),
    )
    inodes = 1 - disk.free_inodes / disk.inodes if disk.inodes else 0.0
    yield from over(
        chosen(limits.inodes_used),
        inodes,
        Reason.HOST_INODES,
        lambda at: f"{disk.path} has used {inodes:.0%} of its inodes (limit {at:.0%}): remove small files",
    )
    soon = chosen(limits.disk_full_in)
    if full_in_s is None or soon is None or soon.warn is None or full_in_s > soon.warn:
        return
    words = f"{disk.path} will be full in {full_in_s / 3600:.1f} h at the pace of the last hours"
    urgent = soon.critical is not None and full_in_s <= soon.critical
    yield Problem(state=State.DEGRADED, reason=Reason.HOST_DISK, message=words, urgent=urgent)


def _written(written: Written) -> Iterator[Problem]:
    where, code = written.folder, written.code
    if code in (errno.EROFS, errno.EIO):
        words = (
            f"nothing can be written in {where} ({os.strerror(code)}): the kernel remounts a disk read-only "
            "after errors; see its log, and replace the volume"
        )
        yield Problem(state=State.DOWN, reason=Reason.HOST_READ_ONLY, message=words, urgent=True)
    elif code in (errno.ENOSPC, errno.EDQUOT):
        words = f"nothing can be written in {where} ({os.strerror(code)}): clean up or extend the volume"
        yield Problem(state=State.DOWN, reason=Reason.HOST_DISK, message=words, urgent=True)
    elif code:
        words = f"the agent cannot write in {where} ({os.strerror(code)}): check the folder's owner"
        yield Problem(state=State.UNKNOWN, reason=Reason.HOST_DISK, message=words)


def _cpu(now: Reading, seen: Derived, limits: Thresholds) -> Iterator[Problem]:
    yield from over(
        chosen(limits.cpu),
        seen.cpu,
        Reason.HOST_CPU,
        lambda at: f"{now.cpus} CPUs are {seen.cpu or 0:.0%} busy (limit {at:.0%} for {limits.cpu_for})",
    )
    yield from over(
        chosen(limits.throttled),
        seen.throttled,
        Reason.HOST_CPU_THROTTLED,
        lambda at: (
            f"the CPU is withheld {seen.throttled or 0:.0%} of the time (limit {at:.0%}): "
            "the CPU quota is too small for this load"
        ),
    )
    yield from over(
        chosen(limits.throttled),
        seen.stolen,
        Reason.HOST_CPU_THROTTLED,
        lambda at: (
            f"the host gives {seen.stolen or 0:.0%} of this machine's CPU time to others (limit {at:.0%}): "
            "a shared CPU over its baseline is held back; use a larger or a dedicated one"
        ),
    )
    resource = max(now.pressure, key=lambda name: now.pressure[name], default="")
    yield from over(
        chosen(limits.pressure),
        now.pressure.get(resource),
        Reason.HOST_PRESSURE,
        lambda at: (
            f"tasks wait for {resource} {now.pressure[resource]:.0%} of the time "
            f"(limit {at:.0%} for {limits.pressure_for})"
        ),
    )
    yield from _load(now, limits)


def _load(now: Reading, limits: Thresholds) -> Iterator[Problem]:
    limit = chosen(limits.load_per_cpu)
    one, five, fifteen = (load / max(now.cpus, 1) for load in now.load)
    found = over(
        limit,
        one,
        Reason.HOST_LOAD,
        lambda at: f"the load is {one:.1f} per CPU (limit {at:g}): more work than {now.cpus} CPUs can do",
    )
    yield from found
    # Over minutes a lower load is already too much; by itself that is worth a word and no call.
    for minutes, load, most in ((5, five, _LOAD_5M), (15, fifteen, _LOAD_15M)):
        if not found and limit is not None and load >= most:
            words = (
                f"the load was {load:.1f} per CPU over {minutes} min (limit {most:g}): "
                f"more work than {now.cpus} CPUs can do"
            )
            yield Problem(state=State.UP, reason=Reason.HOST_LOAD, message=words)
            return


def measures(now: Reading, seen: Derived) -> tuple[Measure, ...]:
    """The numbers of one look. What is not known is left out."""
    plain: dict[str, float | None] = {
        "gaia_host_cpu_busy_ratio": seen.cpu,
        "gaia_host_cpu_throttled_ratio": seen.throttled,
        "gaia_host_cpu_steal_ratio": seen.stolen,
        "gaia_host_cpus": now.own_slice.cpus or now.cpus,
        "gaia_host_load1": now.load[0],
        "gaia_host_load5": now.load[1],
        "gaia_host_load15": now.load[2],
        "gaia_host_memory_used_ratio": seen.memory_used,
        "gaia_host_memory_limit_bytes": seen.memory_of_bytes,
        "gaia_host_memory_available_bytes": now.memory_available_bytes,
        "gaia_host_swap_used_bytes": now.swap_used_bytes,
        "gaia_host_oom_kills_total": now.oom_kills,
        "gaia_host_files_open": now.files_open,
        "gaia_host_files_limit": now.files_limit,
        "gaia_host_processes": now.processes,
        "gaia_host_tasks": now.tasks,
        "gaia_host_tasks_limit": now.tasks_limit or None,
        "gaia_host_boot_time_seconds": now.started_s,
        "gaia_host_loop_lag_seconds": seen.loop_lag_s,
        "gaia_host_clock_step_seconds": seen.clock_step_s,
    }
    found = [Measure(name=name, value=float(value)) for name, value in plain.items() if value is not None]
    for resource, share in now.pressure.items():
        found.append(Measure(name="gaia_host_pressure_ratio", value=share, labels=(("resource", resource),)))
    for written in now.writes:
        labels = (("path", written.folder),)
        found.append(Measure(name="gaia_host_writable", value=float(not written.code), labels=labels))
        if not written.code:
            found.append(Measure(name="gaia_host_write_seconds", value=written.took_s, labels=labels))
    for disk in now.disks:
        if not disk.error:
            labels = (("path", disk.path),)
            found += [
                Measure(name="gaia_host_disk_bytes", value=float(disk.total_bytes), labels=labels),
                Measure(name="gaia_host_disk_free_bytes", value=float(disk.free_bytes), labels=labels),
                Measure(name="gaia_host_disk_free_inodes", value=float(disk.free_inodes), labels=labels),
                Measure(name="gaia_host_disk_read_only", value=float(disk.read_only), labels=labels),
            ]
    return tuple(found)
