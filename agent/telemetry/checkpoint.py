"""The counts as of one sequence number of the log: what a restart begins from, exactly."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

logger = logging.getLogger(__name__)

Row = tuple[tuple[str, ...], bool, float, float, list[float]]


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Everything counted of the records up to and including `seq`.

    `received_items` and `received_bytes` are per signal, for the ledger. `born` names the first start ever:
    the counters never restart, so neither does their incarnation, unless the file is lost.
    """

    seq: int = 0
    born: str = ""
    requests: list[Row] = []
    levels: list[tuple[tuple[str, str, str], int]] = []
    errors: list[tuple[tuple[str, str, str, str], int]] = []
    received_items: dict[str, int] = {}
    received_bytes: dict[str, int] = {}


def load(path: Path) -> Checkpoint:
    """The last checkpoint; an empty one when there is none or it cannot be read, which is said."""
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=Checkpoint)
    except FileNotFoundError:
        return Checkpoint()
    except (OSError, msgspec.DecodeError) as error:
        logger.error("telemetry.checkpoint_lost", extra={"error": str(error)})  # noqa: TRY400  # the text says all
        return Checkpoint()


def encode(checkpoint: Checkpoint) -> bytes:
    """The file's content."""
    return msgspec.msgpack.encode(checkpoint)
