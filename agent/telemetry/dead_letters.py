"""What a backend will never take, kept with the reason until a person replays or drops it; bounded."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from agent.telemetry.segments import write_whole
from agent.telemetry.signals import Signal

_SUFFIX: Final = ".dead"
_RETRY: Final = ".retry"
_NAME: Final = re.compile(r"[0-9]{20}-[0-9a-f]{8}")
_MAX_LABEL: Final = 16 * 1024
MAX_LETTERS: Final = 10_000
MAX_BYTES: Final = 64 * 1024 * 1024


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """What is written on a letter. `answer` is the beginning of what the backend said."""

    destination: str
    signal: Signal
    reason: str
    items: int
    at_s: float
    status: int = 0
    answer: str = ""


class Letter(Struct, frozen=True, kw_only=True):
    """One request put aside. `id` names it; `waiting` says that it is to be sent again."""

    id: str
    label: Label
    bytes: int
    waiting: bool


class DeadLetters:
    """A directory of letters, shared with the `gaia dlq` command: each file is complete or not there."""

    def __init__(
        self, directory: Path, *, max_letters: int = MAX_LETTERS, max_bytes: int = MAX_BYTES
    ) -> None:
        self._directory = directory
        self._max_letters = max_letters
        self._max_bytes = max_bytes

    def add(self, label: Label, body: bytes) -> str:
        """Keep a plain protobuf request; the oldest letters make room. Raises OSError."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._make_room(len(body))
        content = msgspec.json.encode(label) + b"\n" + zlib.compress(body, 1)
        name = f"{int(label.at_s * 1e6):020d}-{zlib.crc32(content):08x}"
        write_whole(self._directory / f"{name}{_SUFFIX}", content)
        return name

    def letters(self) -> Iterator[Letter]:
        """Every letter, oldest first; files that are not letters are passed over."""
        for path in self._paths(_SUFFIX, _RETRY):
            try:
                with path.open("rb") as file:
                    label = msgspec.json.decode(file.readline(_MAX_LABEL), type=Label)
                size = path.stat().st_size
            except (OSError, msgspec.DecodeError):
                continue
            yield Letter(id=path.stem, label=label, bytes=size, waiting=path.suffix == _RETRY)

    def any_waiting(self) -> bool:
        """Whether a person asked for any to be sent again."""
        return bool(self._paths(_RETRY))

    def body(self, name: str) -> bytes:
        """A letter's request. Raises KeyError when there is no such letter, ValueError when it is damaged."""
        path = self._find(name)
        try:
            return zlib.decompress(path.read_bytes().partition(b"\n")[2])
        except zlib.error as error:
            raise ValueError(f"letter {name} is damaged") from error

    def retry(self, name: str) -> None:
        """Mark it to be sent again by the agent. Raises KeyError."""
        path = self._find(name)
        path.rename(path.with_suffix(_RETRY))

    def keep(self, name: str) -> None:
        """It was refused again: it stays. Raises KeyError."""
        path = self._find(name)
        path.rename(path.with_suffix(_SUFFIX))

    def drop(self, name: str) -> None:
        """Remove it for good. Raises KeyError."""
        self._find(name).unlink()

    def _find(self, name: str) -> Path:
        # A name comes from the command line: nothing outside the directory may be reached with it.
        if _NAME.fullmatch(name):
            for suffix in (_SUFFIX, _RETRY):
                path = self._directory / f"{name}{suffix}"
                if path.exists():
                    return path
        raise KeyError(name)

    def _paths(self, *suffixes: str) -> list[Path]:
        if not self._directory.is_dir():
            return []
        found = (path for path in self._directory.iterdir() if path.suffix in suffixes)
        return sorted((path for path in found if _NAME.fullmatch(path.stem)), key=lambda path: path.stem)

    def _make_room(self, incoming: int) -> None:
        paths = self._paths(_SUFFIX, _RETRY)
        sizes = [path.stat().st_size for path in paths]
        while paths and (len(paths) >= self._max_letters or sum(sizes) + incoming > self._max_bytes):
            paths.pop(0).unlink(missing_ok=True)
            sizes.pop(0)
