"""What runs now, written down for `gaia drill` and for people: `.gaia/running.json`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from agent.local.child import LocalError
from agent.local.part import Part

_NAME: Final = "running.json"


class RunningPart(msgspec.Struct, frozen=True, kw_only=True):
    """One process of the platform."""

    name: str
    address: str
    pid: int


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A platform that `gaia up` holds up. `restart_after_s` is None when nothing is restarted."""

    page: str
    environment: str
    restart_after_s: float | None
    parts: tuple[RunningPart, ...]

    def pid(self, name: str) -> int:
        """Raises LocalError naming the parts there are."""
        for part in self.parts:
            if part.name == name:
                return part.pid
        raise LocalError(
            f'no part is called "{name}"; running: {", ".join(part.name for part in self.parts)}'
        )


def running_parts(parts: Sequence[Part]) -> tuple[RunningPart, ...]:
    """Those that live now."""
    return tuple(
        RunningPart(name=part.name, address=part.address, pid=part.child.pid)
        for part in parts
        if part.child is not None and part.child.exit_code() is None
    )


def write_running(folder: Path, running: Running) -> None:
    """Replace what was written, or nothing at all: a reader never sees half of it."""
    new = folder / f"{_NAME}.new"
    new.write_bytes(msgspec.json.format(msgspec.json.encode(running)))
    new.replace(folder / _NAME)


def forget_running(folder: Path) -> None:
    """Nothing runs any more."""
    (folder / _NAME).unlink(missing_ok=True)


def read_running(folder: Path) -> Running:
    """Raises LocalError when no `gaia up` runs there."""
    path = folder / _NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Running)
    except FileNotFoundError:
        raise LocalError(
            f"no gaia up runs in {folder}: start it first, or name its folder with --data"
        ) from None
    except (OSError, msgspec.DecodeError) as error:
        raise LocalError(f"cannot read {path}: {error}") from error
