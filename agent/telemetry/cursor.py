"""How far one destination has got in each lane, and what became of what it passed."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from agent.telemetry.signals import Lane, Signal

logger = logging.getLogger(__name__)


class LaneCursor(msgspec.Struct, kw_only=True):
    """Everything up to `seq` was delivered, put aside or given up; the counts are items."""

    seq: int = 0
    delivered: int = 0
    dead: int = 0
    evicted: int = 0


class Cursor(msgspec.Struct, kw_only=True):
    """One destination's place. `base` is, per signal, what was received before the destination existed."""

    lanes: dict[str, LaneCursor] = {}
    base: dict[str, int] = {}

    def lane(self, lane: Lane) -> LaneCursor:
        """The place in one lane."""
        return self.lanes.setdefault(lane.name, LaneCursor())

    def sums(self, signal: Signal) -> tuple[int, int, int]:
        """Items delivered, put aside and given up."""
        mine = [self.lane(lane) for lane in Lane if lane.signal is signal]
        return sum(at.delivered for at in mine), sum(at.dead for at in mine), sum(at.evicted for at in mine)


def load(path: Path) -> Cursor | None:
    """The saved place; None for a new destination or a file that cannot be read, which is said.

    A lost cursor means that what is still in the log is sent again: at least once, never not at all.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Cursor)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        logger.error("telemetry.cursor_lost", extra={"error": str(error)})  # noqa: TRY400  # the text says all
        return None


def highest(directory: Path) -> int:
    """The highest sequence number any destination has passed: new records must be numbered above it."""
    found = (load(path) for path in directory.glob("*.cursor"))
    return max((at.seq for place in found if place is not None for at in place.lanes.values()), default=0)


def encode(cursor: Cursor) -> bytes:
    """The file's content."""
    return msgspec.json.encode(cursor)
