"""What one agent process was started with, and the lock that keeps it the only one on its data."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct, field

from agent.platform.load import load
from agent.platform.scope import Platform, Scope
from agent.telemetry.options import IntakeOptions, following


class StartError(Exception):
    """The agent cannot start or continue; the message says what to do."""


class Settings(Struct, frozen=True, kw_only=True):
    """Arguments of `gaia run`. `environments` empty: the only one of the file.

    `follow` are log files beside those of the file, each with its service, empty where its lines tell it.
    """

    config: Path
    overlay: Path | None = None
    environments: tuple[str, ...] = ()
    data: Path | None = None
    listen: str | None = None
    follow: tuple[tuple[str, str], ...] = ()
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def scopes(self, *, calls: bool = True) -> tuple[Platform, tuple[Scope, ...]]:
        """Read the file as it is now. Raises PlatformError with every mistake, StartError if unclear."""
        platform = load(self.config, overlay=self.overlay, environ=self.environ)
        names = self.environments or tuple(platform.environments)
        if not self.environments and len(names) > 1:
            raise StartError(
                f"{self.config} has {len(names)} environments: name one to watch, such as --env {names[-1]}"
            )
        return platform, tuple(platform.scope(name, calls=calls) for name in names)

    def telemetry(self, scope: Scope) -> IntakeOptions:
        """What is taken in: the file's table, and the files named beside it."""
        return following(scope.telemetry, self.follow)

    def data_dir(self, scope: Scope) -> Path:
        """Where state is kept: the argument, else the file's `agent.data_dir`, made if it is missing."""
        path = self.data or Path(scope.agent.data_dir)
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StartError(f"cannot make the data directory {path}: {error.strerror}") from error
        return path

    def address(self, scope: Scope) -> tuple[str, int]:
        """Host and port to serve on. Raises StartError when they are not `host:port`."""
        text = self.listen or scope.agent.listen
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise StartError(f'"{text}" is no address to listen on: write host:port, such as 127.0.0.1:9877')
        return host.strip("[]"), int(port)


@contextmanager
def only_one(data: Path) -> Iterator[None]:
    """Hold the lock of a data directory. Raises StartError naming the process that has it."""
    path = data / "agent.pid"
    with path.open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise StartError(
                f"another agent (process {holder}) uses {data}: stop it, or give this one its own --data"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            # The file stays: removing it would let two waiters hold locks on different files.
            file.truncate(0)
