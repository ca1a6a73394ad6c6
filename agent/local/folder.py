"""The folder `.gaia/`: who holds it, and the ports and passwords that a second run continues with."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import msgspec

from agent.local.child import LocalError
from agent.local.ports import free_ports, is_free

_LEAST_FREE_BYTES: Final = 200 * 2**20


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds the folder: what a second `gaia up` reports."""

    pid: int
    since_s: float
    page: str


class _Remembered(msgspec.Struct, kw_only=True):
    ports: dict[str, int] = {}
    secrets: dict[str, str] = {}


class LocalFolder:
    """Held by one `gaia up` at a time, as a context manager. Raises LocalError when it cannot be."""

    def __init__(self, path: Path, *, page: str) -> None:
        self.path = path.absolute()
        self._page = page
        self._lock: int | None = None
        self._remembered = _Remembered()
        self.moved: list[str] = []
        """Parts whose remembered port is taken by another program now; they got a new one."""

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def log(self, name: str) -> Path:
        """The log file of one part."""
        return self.logs / f"{name}.log"

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.logs.mkdir(exist_ok=True, mode=0o700)
            free_bytes = shutil.disk_usage(self.path).free
        except OSError as error:
            raise LocalError(
                f"cannot write {self.path}: {error.strerror}; choose another with --data"
            ) from error
        if free_bytes < _LEAST_FREE_BYTES:
            raise LocalError(
                f"only {free_bytes // 2**20} MB are free for {self.path}, PostgreSQL and NATS need "
                f"{_LEAST_FREE_BYTES // 2**20}: free some, or choose another place with --data"
            )
        self._take_lock()
        try:
            self._remembered = self._read()
        except LocalError:
            self.release()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self.release()

    def ports(self, names: tuple[str, ...]) -> dict[str, int]:
        """The port of each part: the same as in the last run unless somebody else has it now."""
        known = self._remembered.ports
        kept = {name: known[name] for name in names if name in known and is_free(known[name])}
        missing = tuple(name for name in names if name not in kept)
        self.moved += [name for name in missing if name in known]
        fresh = dict(zip(missing, free_ports(len(missing)), strict=True))
        self._remembered.ports |= fresh
        self._write()
        return {name: (kept | fresh)[name] for name in names}

    def secret(self, name: str) -> str:
        """A random word made once and kept in the folder, readable by its owner only."""
        if name not in self._remembered.secrets:
            self._remembered.secrets[name] = secrets.token_urlsafe(24)
            self._write()
        return self._remembered.secrets[name]

    def _take_lock(self) -> None:
        path = self.path / "lock"
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                holder = _holder(os.read(handle, 4096))
                os.close(handle)
                raise LocalError(f"{self.path} is in use: {holder}") from None
            with suppress(FileNotFoundError):
                if os.fstat(handle).st_ino == path.stat().st_ino:
                    break
            os.close(handle)  # The last holder removed it between our open and our lock.
        os.ftruncate(handle, 0)
        mine = Holder(pid=os.getpid(), since_s=time.time(), page=self._page)
        os.write(handle, msgspec.json.encode(mine))
        self._lock = handle

    def release(self) -> None:
        """Let the next one have it; safe to repeat."""
        if self._lock is not None:
            (self.path / "lock").unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def _read(self) -> _Remembered:
        path = self.path / "local.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=_Remembered)
        except FileNotFoundError:
            return _Remembered()
        except (OSError, msgspec.DecodeError) as error:
            # Without its passwords the data behind it cannot be opened: say so rather than make new ones.
            raise LocalError(f"cannot read {path}: {error}; remove {self.path} to start afresh") from error

    def _write(self) -> None:
        path = self.path / "local.json"
        new = path.with_suffix(".new")
        try:
            handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "wb") as sink:
                sink.write(msgspec.json.format(msgspec.json.encode(self._remembered)))
            new.replace(path)
        except OSError as error:
            raise LocalError(f"cannot write {path}: {error.strerror}") from error


def _holder(content: bytes) -> str:
    try:
        holder = msgspec.json.decode(content, type=Holder)
    except msgspec.DecodeError:
        return "another gaia up is starting there"
    since = time.strftime("%H:%M:%S", time.localtime(holder.since_s))
    return (
        f"gaia up runs there since {since} as pid {holder.pid}, status page {holder.page}. "
        f"Stop it with Ctrl-C or kill {holder.pid}, or run a second platform with --data and --port"
    )
