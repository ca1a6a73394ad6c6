"""One reading of the host: the one place that imports psutil, in a thread of its own."""

from __future__ import annotations

import errno
import os
import resource
import time
from pathlib import Path
from typing import Final

from msgspec import Struct

from checks.host.cgroup import Slice, own_group, read_number, read_pressure, read_slice, read_table

PROC: Final = Path("/proc")
CGROUPS: Final = Path("/sys/fs/cgroup")
_PROBE: Final = ".gaia-write-probe"


class Disk(Struct, frozen=True, kw_only=True):
    """One file system. `error` says why it could not be read; the numbers are 0 then."""

    path: str
    total_bytes: int = 0
    free_bytes: int = 0
    inodes: int = 0
    free_inodes: int = 0
    read_only: bool = False
    error: str = ""


class Written(Struct, frozen=True, kw_only=True):
    """One try to write a small file of our own. `code` is the errno that stopped it, 0 for none."""

    folder: str
    took_s: float
    code: int = 0


class Reading(Struct, frozen=True, kw_only=True):
    """Counters and gauges of one moment (monotonic seconds). A number that is not known is None."""

    at_s: float
    wall_s: float
    cpu_busy_s: float
    cpu_total_s: float
    cpu_steal_s: float
    cpus: int
    load: tuple[float, float, float]
    memory_total_bytes: int
    memory_available_bytes: int
    swap_used_bytes: int
    own_slice: Slice
    pressure: dict[str, float]
    oom_kills: int | None
    disks: tuple[Disk, ...]
    writes: tuple[Written, ...]
    tasks: int
    tasks_limit: int
    files_open: int
    files_limit: int
    processes: int
    started_s: float


class Where(Struct, frozen=True, kw_only=True):
    """Where to look: a path on each disk, folders to write to, and the kernel's own trees."""

    disks: tuple[str, ...]
    writes: tuple[str, ...] = ()
    proc: Path = PROC
    cgroups: Path = CGROUPS


def read(where: Where, *, at_s: float, wall_s: float) -> Reading:
    """Blocks for about a millisecond (longer on a hung disk): not for the event loop."""
    import psutil  # 16 ms: paid after the first looks at services, not by the start.

    times = psutil.cpu_times()
    total = float(sum(times)) - float(getattr(times, "guest", 0.0)) - float(getattr(times, "guest_nice", 0.0))
    idle = float(times.idle) + float(getattr(times, "iowait", 0.0))
    memory = psutil.virtual_memory()
    proc = where.proc
    group = own_group(proc, where.cgroups)
    own = Slice() if group is None else read_slice(group)
    oom = own.oom_kills if own.oom_kills is not None else read_table(proc / "vmstat").get("oom_kill")
    files_open, files_limit = _files(proc)
    tasks, tasks_limit = _tasks(proc, group)
    return Reading(
        at_s=at_s,
        wall_s=wall_s,
        cpu_busy_s=total - idle,
        cpu_total_s=total,
        cpu_steal_s=float(getattr(times, "steal", 0.0)),
        cpus=psutil.cpu_count() or 1,
        load=psutil.getloadavg(),
        memory_total_bytes=int(memory.total),
        memory_available_bytes=int(memory.available),
        swap_used_bytes=int(psutil.swap_memory().used),
        own_slice=own,
        pressure=read_pressure(group, proc),
        oom_kills=oom,
        disks=tuple(_disk(path) for path in where.disks),
        # A folder that is not there, such as an agent's that never ran, is nothing that was lost.
        writes=tuple(_write(folder) for folder in where.writes if Path(folder).is_dir()),
        tasks=tasks,
        tasks_limit=tasks_limit,
        files_open=files_open,
        files_limit=files_limit,
        processes=len(psutil.pids()),
        started_s=float(psutil.boot_time()),
    )


def _disk(path: str) -> Disk:
    try:
        seen = os.statvfs(path)
    except OSError as error:
        return Disk(path=path, error=error.strerror or str(error))
    return Disk(
        path=path,
        total_bytes=seen.f_blocks * seen.f_frsize,
        free_bytes=seen.f_bavail * seen.f_frsize,
        inodes=seen.f_files,
        free_inodes=seen.f_favail,
        read_only=bool(seen.f_flag & os.ST_RDONLY),
    )


def _write(folder: str) -> Written:
    """A mount that turned read-only shows here also where statvfs still says otherwise."""
    started = time.monotonic()
    code = 0
    try:
        handle = os.open(Path(folder, _PROBE), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, b"gaia\n")
        finally:
            os.close(handle)
    except OSError as error:
        code = error.errno or errno.EIO
    return Written(folder=folder, took_s=time.monotonic() - started, code=code)


def _tasks(proc: Path, group: Path | None) -> tuple[int, int]:
    """The tighter of our slice's limit and the system's: threads there are and there may be."""
    limit = read_number(proc / "sys" / "kernel" / "threads-max") or 0
    try:
        tasks = int((proc / "loadavg").read_text().split()[3].partition("/")[2])
    except (OSError, ValueError, IndexError):
        tasks = 0
    if group is not None:
        own, most = read_number(group / "pids.current"), read_number(group / "pids.max")
        if own is not None and most and (not limit or own / most > tasks / limit):
            return own, most
    return tasks, limit


def _files(proc: Path) -> tuple[int, int]:
    """The tighter of our own limit and the system's: open files and how many there may be."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        own = sum(1 for _ in (proc / "self" / "fd").iterdir())
    except OSError:
        own = 0
    limit = read_number(proc / "sys" / "fs" / "file-max")
    try:
        used = int((proc / "sys" / "fs" / "file-nr").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        used = 0
    if limit and used / limit > own / max(soft, 1):
        return used, limit
    return own, soft
