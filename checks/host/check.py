"""The look at the host."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from checks.catalog import CheckKind, MeasureInfo, ProbeKit
from checks.finding import Finding
from checks.host import judge
from checks.host.forecast import Forecast
from checks.host.reading import CGROUPS, PROC, Reading, Where, read
from checks.host.thresholds import Thresholds, effective
from checks.limits import Profile
from checks.problem import Problem, finding_of
from checks.reason import Reason
from checks.target import Target

_LAG_SAMPLE_S: Final = 0.01


class HostOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to look at the machine the agent runs on.

    `disks`: a path on each file system to watch.
    `writes`: folders in which a small file of the agent's own is written at each look. Default: the agent's
    data folder.
    """

    disks: tuple[str, ...] = ("/",)
    writes: tuple[str, ...] = ()
    profile: Profile = "auto"
    thresholds: Thresholds = Thresholds()


class HostCheck:
    """Reads the machine, or the slice of it that our cgroup leaves; rates come from the look before."""

    def __init__(
        self,
        target: Target,
        options: HostOptions,
        kit: ProbeKit,
        *,
        proc: Path = PROC,
        cgroups: Path = CGROUPS,
    ) -> None:
        self._target = target
        self._options = options
        self._clock = kit.clock
        self._where = Where(disks=options.disks, writes=options.writes, proc=proc, cgroups=cgroups)
        self._limits = effective(target.key.env, options.profile, options.thresholds)
        self._before: Reading | None = None
        self._forecasts = {path: Forecast() for path in options.disks}
        self._since_s: dict[Reason, float] = {}
        # A hung network disk blocks statvfs: it may hold this thread, never the loop.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gaia-host")

    async def probe(self) -> Finding:
        lag_s = await self._loop_lag()
        now = await asyncio.get_running_loop().run_in_executor(self._thread, self._read)
        seen = judge.derive(now, self._before, loop_lag_s=lag_s)
        for disk in now.disks:
            if not disk.error:
                self._forecasts[disk.path].add(now.at_s, disk.free_bytes)
        full_in_s = {
            path: left for path, one in self._forecasts.items() if (left := one.full_in_s()) is not None
        }
        problems = self._lasting(judge.judge(now, seen, self._limits, full_in_s=full_in_s), now.at_s)
        self._before = now
        cpu = "" if seen.cpu is None else f"CPU {seen.cpu:.0%}, "
        disks = "".join(
            f", {disk.path} {1 - disk.free_bytes / disk.total_bytes:.0%} full"
            for disk in now.disks
            if disk.total_bytes
        )
        return finding_of(
            problems,
            fine=f"{cpu}memory {seen.memory_used:.0%} of {seen.memory_of_bytes / 2**30:.2g} GB{disks}",
            measures=judge.measures(now, seen),
        )

    async def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _read(self) -> Reading:
        return read(self._where, at_s=self._clock.monotonic_s(), wall_s=self._clock.wall_s())

    async def _loop_lag(self) -> float:
        started = self._clock.monotonic_s()
        await asyncio.sleep(_LAG_SAMPLE_S)
        return max(self._clock.monotonic_s() - started - _LAG_SAMPLE_S, 0.0)

    def _lasting(self, problems: Iterable[Problem], now_s: float) -> Iterator[Problem]:
        """CPU, pressure and lateness are problems only after they have lasted: a start is always busy."""
        patience: dict[Reason, float] = {
            Reason.HOST_CPU: _seconds(self._limits.cpu_for),
            Reason.HOST_CPU_THROTTLED: _seconds(self._limits.pressure_for),
            Reason.HOST_PRESSURE: _seconds(self._limits.pressure_for),
            Reason.HOST_LOOP_LAG: _seconds(self._limits.pressure_for),
        }
        found = tuple(problems)
        present = {problem.reason for problem in found}
        for reason in patience:
            if reason not in present:
                self._since_s.pop(reason, None)
        for problem in found:
            since_s = self._since_s.setdefault(problem.reason, now_s) if problem.reason in patience else now_s
            if now_s - since_s >= patience.get(problem.reason, 0.0):
                yield problem


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, float) else 0.0


def _gauge(name: str, text: str, *labels: str) -> MeasureInfo:
    return MeasureInfo(name=f"gaia_host_{name}", type="gauge", help=text, labels=labels)


MEASURES: Final = (
    _gauge("cpu_busy_ratio", "Share of CPU time that was not idle since the last look."),
    _gauge("cpu_throttled_ratio", "Share of time the cgroup's CPU quota withheld since the last look."),
    _gauge("cpu_steal_ratio", "Share of CPU time the host gave to others since the last look."),
    _gauge("cpus", "CPUs, or the cgroup's quota of them."),
    _gauge("load1", "Load average over 1 minute."),
    _gauge("load5", "Load average over 5 minutes."),
    _gauge("load15", "Load average over 15 minutes."),
    _gauge("memory_used_ratio", "Share of memory in use, of the host or the cgroup, whichever is tighter."),
    _gauge("memory_limit_bytes", "The memory that share is of."),
    _gauge("memory_available_bytes", "Memory of the host that can be had without swapping."),
    _gauge("swap_used_bytes", "Swap in use."),
    MeasureInfo(name="gaia_host_oom_kills_total", type="counter", help="Processes killed for memory."),
    _gauge("files_open", "Open file descriptors, of the agent or the system, whichever is tighter."),
    _gauge("files_limit", "File descriptors there may be."),
    _gauge("processes", "Processes."),
    _gauge("tasks", "Threads, of the agent's slice or the system, whichever is tighter."),
    _gauge("tasks_limit", "Threads there may be."),
    _gauge("writable", "1 when a small file of the agent's own could be written there.", "path"),
    _gauge("write_seconds", "Time that took.", "path"),
    _gauge("boot_time_seconds", "When the host booted, Unix seconds."),
    _gauge("loop_lag_seconds", "How late the agent's event loop woke."),
    _gauge(
        "clock_step_seconds", "How far the wall clock moved beside the monotonic one since the last look."
    ),
    _gauge("pressure_ratio", "Share of the last 10 s in which some task waited.", "resource"),
    _gauge("disk_bytes", "Size of the file system.", "path"),
    _gauge("disk_free_bytes", "Free bytes for ordinary users.", "path"),
    _gauge("disk_free_inodes", "Free inodes for ordinary users.", "path"),
    _gauge("disk_read_only", "1 when mounted read-only.", "path"),
)
# A look imports psutil (16 ms): services, whose looks need nothing more, are looked at before that.
KIND: Final = CheckKind(
    name="host", options=HostOptions, build=HostCheck, measures=MEASURES, needs=("psutil",)
)
