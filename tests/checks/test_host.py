"""What a machine's numbers mean, from trees of kernel files and readings made up for it."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.platform.load import load
from checks.finding import State
from checks.host.cgroup import Slice, own_group, read_pressure, read_slice
from checks.host.check import KIND, HostOptions
from checks.host.forecast import Forecast
from checks.host.judge import derive, judge
from checks.host.reading import Disk, Reading, Written
from checks.host.thresholds import Thresholds, effective
from checks.limits import seconds, shares
from checks.reason import Reason
from tests.faults.deep.conftest import is_root
from tests.faults.deep.looking import Look

GB = 2**30
CALM = Reading(
    at_s=100,
    wall_s=1000,
    cpu_busy_s=10,
    cpu_total_s=200,
    cpu_steal_s=0,
    cpus=2,
    load=(0.5, 0.4, 0.3),
    memory_total_bytes=4 * GB,
    memory_available_bytes=3 * GB,
    swap_used_bytes=0,
    own_slice=Slice(),
    pressure={"cpu": 0.0, "memory": 0.0, "io": 0.0},
    oom_kills=0,
    disks=(Disk(path="/", total_bytes=100 * GB, free_bytes=60 * GB, inodes=1000, free_inodes=900),),
    writes=(),
    tasks=100,
    tasks_limit=10_000,
    files_open=10,
    files_limit=1000,
    processes=50,
    started_s=0,
)
LATER = replace(CALM, at_s=110, wall_s=1010, cpu_total_s=220, cpu_busy_s=11)


def disk(**more: object) -> tuple[Disk, ...]:
    return (replace(CALM.disks[0], **more),)


def written(code: int) -> Reading:
    return replace(LATER, writes=(Written(folder="/data", took_s=0.001, code=code),))


def told(
    now: Reading, *, lag_s: float = 0.0, full_in_s: float | None = None
) -> list[tuple[State, Reason, str]]:
    limits = effective("production", "auto", Thresholds())
    full = {} if full_in_s is None else {"/": full_in_s}
    found = judge(now, derive(now, CALM, loop_lag_s=lag_s), limits, full_in_s=full)
    return [(one.state, one.reason, one.message) for one in found]


CASES = {
    "cpu": (replace(LATER, cpu_busy_s=29.5), Reason.HOST_CPU, "2 CPUs are 98% busy"),
    "memory": (
        replace(LATER, memory_available_bytes=GB // 4),
        Reason.HOST_MEMORY,
        "94% of 4 GB memory is in use (limit 93%)",
    ),
    "the cgroup is tighter": (
        replace(LATER, own_slice=Slice(memory_used_bytes=500 * 2**20, memory_limit_bytes=512 * 2**20)),
        Reason.HOST_MEMORY,
        "98% of 0.5 GB",
    ),
    "throttled": (
        replace(LATER, own_slice=Slice(throttled_s=9.0)),
        Reason.HOST_CPU_THROTTLED,
        "withheld 50%",
    ),
    "stolen": (
        replace(LATER, cpu_steal_s=6),
        Reason.HOST_CPU_THROTTLED,
        "gives 30% of this machine's CPU time to others (limit 25%)",
    ),
    "pressure": (replace(LATER, pressure={"io": 0.4, "cpu": 0.1}), Reason.HOST_PRESSURE, "wait for io 40%"),
    "oom": (replace(LATER, oom_kills=2), Reason.HOST_OOM, "killed 2 process(es)"),
    "disk": (replace(LATER, disks=disk(free_bytes=5 * GB)), Reason.HOST_DISK, "/ is 95% full, 5 GB left"),
    "inodes": (replace(LATER, disks=disk(free_inodes=20)), Reason.HOST_INODES, "98% of its inodes"),
    "read-only": (replace(LATER, disks=disk(read_only=True)), Reason.HOST_READ_ONLY, "mounted read-only"),
    "no such path": (
        replace(LATER, disks=disk(error="No such file")),
        Reason.HOST_DISK,
        "cannot be looked at",
    ),
    "files": (replace(LATER, files_open=950), Reason.HOST_FDS, "950 of 1000 file descriptors"),
    "load": (replace(LATER, load=(30, 20, 10)), Reason.HOST_LOAD, "15.0 per CPU"),
    "load over five minutes": (replace(LATER, load=(3, 9, 3)), Reason.HOST_LOAD, "4.5 per CPU over 5 min"),
    "load over a quarter of an hour": (
        replace(LATER, load=(3, 5, 4.2)),
        Reason.HOST_LOAD,
        "2.1 per CPU over 15 min",
    ),
    "threads": (replace(LATER, tasks=9500), Reason.HOST_THREADS, "9500 of 10000 threads are running (95%"),
    "a write to a disk turned read-only": (written(errno.EROFS), Reason.HOST_READ_ONLY, "written in /data"),
    "a write to a failing disk": (written(errno.EIO), Reason.HOST_READ_ONLY, "Input/output error"),
    "a write to a full disk": (written(errno.ENOSPC), Reason.HOST_DISK, "No space left on device"),
    "a write that is not allowed": (written(errno.EACCES), Reason.HOST_DISK, "check the folder's owner"),
    "clock": (replace(LATER, wall_s=1020), Reason.HOST_CLOCK, "stepped by 10.0 s"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_number_over_its_limit_is_told(case: str) -> None:
    now, reason, words = CASES[case]
    before = replace(CALM, own_slice=Slice(throttled_s=4.0)) if case == "throttled" else CALM
    limits = effective("production", "auto", Thresholds())
    found = list(judge(now, derive(now, before, loop_lag_s=0), limits, full_in_s={}))
    assert [one.reason for one in found] == [reason]
    assert words in found[0].message


def test_a_calm_machine_has_no_problem() -> None:
    assert told(LATER) == []


def test_a_late_loop_is_told() -> None:
    assert [one[1] for one in told(LATER, lag_s=0.6)] == [Reason.HOST_LOOP_LAG]


def test_a_disk_that_will_be_full_soon_is_told() -> None:
    ((state, reason, message),) = told(LATER, full_in_s=7200)
    assert (state, reason) == (State.DEGRADED, Reason.HOST_DISK)
    assert "full in 2.0 h" in message


def test_the_first_look_has_no_rates() -> None:
    seen = derive(CALM, None, loop_lag_s=0)
    assert (seen.cpu, seen.throttled, seen.stolen, seen.clock_step_s) == (None, None, None, None)


def test_the_forecast_is_a_straight_line_and_needs_half_an_hour() -> None:
    forecast = Forecast()
    for step in range(6):
        forecast.add(step * 300.0, 1000.0 - step * 10)
    assert forecast.full_in_s() is None
    forecast.add(1800.0, 940.0)
    assert forecast.full_in_s() == pytest.approx(940 / (10 / 300))


def test_a_disk_that_empties_is_never_full() -> None:
    forecast = Forecast()
    for step in range(20):
        forecast.add(step * 300.0, 1000.0 + step)
    assert forecast.full_in_s() is None


def tree(folder: Path) -> tuple[Path, Path]:
    proc, groups = folder / "proc", folder / "cgroup"
    own = groups / "gaia.slice"
    (proc / "self").mkdir(parents=True)
    own.mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("0::/gaia.slice\n")
    files = {
        "cgroup.controllers": "cpu memory\n",
        "memory.current": "600\n",
        "memory.max": "1000\n",
        "memory.stat": "anon 400\ninactive_file 100\n",
        "memory.events": "low 0\noom_kill 3\n",
        "cpu.stat": "usage_usec 5\nthrottled_usec 2500000\n",
        "cpu.max": "50000 100000\n",
        "cpu.pressure": "some avg10=12.50 avg60=1.00 avg300=0.00 total=1\n",
    }
    for name, text in files.items():
        (own / name).write_text(text)
    return proc, groups


def test_a_cgroup_is_read_whole(tmp_path: Path) -> None:
    proc, groups = tree(tmp_path)
    group = own_group(proc, groups)
    assert group == groups / "gaia.slice"
    assert read_slice(group) == Slice(
        memory_used_bytes=500, memory_limit_bytes=1000, oom_kills=3, throttled_s=2.5, cpus=0.5
    )
    assert read_pressure(group, proc) == {"cpu": 0.125}


def test_a_machine_without_cgroup_v2_has_none(tmp_path: Path) -> None:
    assert own_group(tmp_path, tmp_path) is None


async def test_the_real_machine_gives_every_declared_measure_or_leaves_it_out() -> None:
    async with Look("host", HostOptions()) as one:
        found = await one.look(2)
    declared = {info.name for info in KIND.measures}
    seen = {measure.name for measure in found.measures}
    assert seen <= declared
    assert seen >= {"gaia_host_cpu_busy_ratio", "gaia_host_memory_used_ratio", "gaia_host_disk_free_bytes"}


async def test_a_limit_of_ones_own_is_told_on_the_real_machine() -> None:
    limits = Thresholds(memory_used=shares(0.0001, None), clock_step=seconds(60, None))
    async with Look("host", HostOptions(thresholds=limits, profile="staging")) as one:
        found = await one.look()
    assert Reason.HOST_MEMORY in {found.reason, *(item.name for item in found.evidence)}


async def test_cpu_must_stay_busy_before_it_is_a_problem() -> None:
    limits = Thresholds(cpu=shares(0.0, None))
    async with Look("host", HostOptions(thresholds=limits, profile="production")) as one:
        found = await one.look(3)
    assert found.reason is not Reason.HOST_CPU


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "volume"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if not is_root() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine may not mount a tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


def remount(volume: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(volume)], check=True)


# A loaded machine has problems of its own, which these tests are not about.
NOTHING_ELSE = Thresholds(
    cpu=None, throttled=None, pressure=None, load_per_cpu=None, memory_used=None, loop_lag=None,
    clock_step=None, files_used=None, disk_used=None, disk_full_in=None,
)  # fmt: skip


async def test_a_volume_remounted_read_only_is_down_and_well_again_when_it_is_mended(volume: Path) -> None:
    options = HostOptions(disks=(), writes=(str(volume),), thresholds=NOTHING_ELSE)
    async with Look("host", options) as one:
        well = await one.look()
        remount(volume, "ro")
        broken = await one.look()
        remount(volume, "rw")
        again = await one.look()
    assert (well.state, again.state) == (State.UP, State.UP)
    assert (broken.state, broken.reason) == (State.DOWN, Reason.HOST_READ_ONLY)
    assert f"nothing can be written in {volume} (Read-only file system)" in broken.message
    assert [one.value for one in broken.measures if one.name == "gaia_host_writable"] == [0]


async def test_a_full_volume_is_told_by_the_write_that_fails(volume: Path) -> None:
    (volume / "filler").write_bytes(b"x" * 2**20)
    options = HostOptions(disks=(), writes=(str(volume),), thresholds=NOTHING_ELSE)
    async with Look("host", options) as one:
        found = await one.look()
        (volume / "filler").write_bytes(b"x" * 2**19)
        again = await one.look()
    assert (found.state, found.reason) == (State.DOWN, Reason.HOST_DISK)
    assert "No space left on device" in found.message
    assert again.state is State.UP


async def test_one_small_file_is_all_that_is_written_and_a_missing_folder_is_not_made(tmp_path: Path) -> None:
    there, missing = tmp_path / "there", tmp_path / "missing"
    there.mkdir()
    options = HostOptions(disks=(), writes=(str(there), str(missing)), thresholds=NOTHING_ELSE)
    async with Look("host", options) as one:
        found = await one.look(3)
    assert found.state is State.UP
    assert [path.name for path in there.iterdir()] == [".gaia-write-probe"]
    assert not missing.exists()


def test_the_agents_own_folder_is_tried_unless_the_file_says_where(tmp_path: Path) -> None:
    file = tmp_path / "gaia.yaml"
    file.write_text(
        "platform: x\nenvironments: {e: {}}\nagent: {data_dir: /var/lib/gaia}\n"
        "hosts: {here: {}, other: {writes: [/srv]}}\n"
    )
    hosts = load(file, environ={}).scope("e").hosts
    options = [host.options for host in hosts.values()]
    assert [one.writes for one in options if isinstance(one, HostOptions)] == [("/var/lib/gaia",), ("/srv",)]
