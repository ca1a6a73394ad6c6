"""What the kernel's cgroup v2 files say of our own slice. Source: kernel docs, cgroup-v2."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

_RESOURCES = ("cpu", "memory", "io")


class Slice(Struct, frozen=True, kw_only=True):
    """One reading; a number the kernel does not give is None."""

    memory_used_bytes: int | None = None
    memory_limit_bytes: int | None = None
    oom_kills: int | None = None
    throttled_s: float | None = None
    cpus: float | None = None


def own_group(proc: Path, cgroups: Path) -> Path | None:
    """The directory of our cgroup v2, None where there is none."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return None
    written = next((line[3:] for line in lines if line.startswith("0::")), None)
    if written is None:
        return None
    for root in (cgroups, cgroups / "unified"):
        group = root / written.lstrip("/")
        # A container sees its own group as the root, whatever path the host wrote.
        for candidate in (group, root):
            if (candidate / "cgroup.controllers").exists():
                return candidate
    return None


def read_slice(group: Path) -> Slice:
    """Never raises: a file that is not there is a number that is not known."""
    stat, events, cpu = (read_table(group / name) for name in ("memory.stat", "memory.events", "cpu.stat"))
    current = read_number(group / "memory.current")
    throttled = cpu.get("throttled_usec")
    return Slice(
        # The page cache that can be given back at once is not in use.
        memory_used_bytes=None if current is None else max(current - stat.get("inactive_file", 0), 0),
        memory_limit_bytes=read_number(group / "memory.max"),
        oom_kills=events.get("oom_kill"),
        throttled_s=None if throttled is None else throttled / 1e6,
        cpus=_quota(group / "cpu.max"),
    )


def read_pressure(group: Path | None, proc: Path) -> dict[str, float]:
    """The share of the last 10 s in which some task waited, by resource; ours if the kernel tells it."""
    found: dict[str, float] = {}
    for resource in _RESOURCES:
        own = None if group is None else _stalled(group / f"{resource}.pressure")
        share = own if own is not None else _stalled(proc / "pressure" / resource)
        if share is not None:
            found[resource] = share
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def read_number(path: Path) -> int | None:
    """A file that holds one number; None when it is not there or says `max`."""
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def read_table(path: Path) -> dict[str, int]:
    """A file of `name number` lines; empty when it is not there."""
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _quota(path: Path) -> float | None:
    words = _text(path).split()
    if len(words) == 2 and words[0].isdigit() and int(words[1]):
        return int(words[0]) / int(words[1])
    return None


def _stalled(path: Path) -> float | None:
    for line in _text(path).splitlines():
        if line.startswith("some "):
            for word in line.split():
                if word.startswith("avg10="):
                    return float(word[6:]) / 100
    return None
