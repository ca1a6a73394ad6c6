"""One child process: its own process group, its log file, tied to the life of the process that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

LEASH: Final = Path(__file__).with_name("leash.py")
_STEP_S: Final = 0.005


class LocalError(Exception):
    """A local part cannot start or stop: the message names the place and the remedy."""


def leashed(command: Sequence[str | Path], *, drop: Sequence[str] = ()) -> list[str]:
    """`command` tied to this process; `drop` are the leash's words for shedding root."""
    words = [sys.executable, "-I", "-S", str(LEASH), "--parent", str(os.getpid()), *drop, "--"]
    return [*words, *(str(word) for word in command)]


class Child:
    """A started process. Spawn from the main thread: the child is killed when the spawning thread ends."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        environ: Mapping[str, str] | None = None,
        drop: Sequence[str] = (),
        cwd: Path | None = None,
        piped: bool = False,
    ) -> None:
        self.log = log
        with log.open("ab") as sink:
            self._process = subprocess.Popen(  # noqa: S603  # Our own argument vector, no shell.
                leashed(command, drop=drop),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else sink,
                stderr=sink,
                env=None if environ is None else dict(environ),
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def stdout(self) -> IO[bytes] | None:
        """What it prints, for one who asked to have it `piped`; the log has only its standard error then."""
        return self._process.stdout

    @property
    def pid(self) -> int:
        return self._process.pid

    def exit_code(self) -> int | None:
        """None while it runs; negative is the signal that ended it."""
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Signal the process alone; nothing happens when it is gone."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    def send_group(self, number: signal.Signals) -> None:
        """Signal the process and what it started in its group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def wait(self, *, within_s: float) -> bool:
        """True when the process ended within `within_s` seconds."""
        try:
            self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def last_lines(self, count: int = 5) -> str:
        """The end of its log, to show why it died."""
        with suppress(OSError):
            lines = self.log.read_text("utf-8", "replace").splitlines()
            return "\n".join(f"    {line}" for line in lines[-count:])
        return ""


def describe_exit(code: int) -> str:
    """`exited with 3`, `killed by signal 9 (SIGKILL)`."""
    if code < 0:
        with suppress(ValueError):
            return f"killed by signal {-code} ({signal.Signals(-code).name})"
        return f"killed by signal {-code}"
    return f"exited with {code}"


def descendants(pid: int) -> tuple[int, ...]:
    """Every process below `pid` now, parents first; empty where there is no /proc."""
    found: list[int] = []
    queue = [pid]
    while queue:
        parent = queue.pop(0)
        with suppress(OSError):
            words = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split()
            found += (children := [int(word) for word in words])
            queue += children
    return tuple(found)


def signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    """Signal each of `pids` that still exists."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def wait_gone(pids: Sequence[int], *, within_s: float) -> bool:
    """True when none of `pids` is left within `within_s` seconds."""
    end = time.monotonic() + within_s
    while any(_is_alive(pid) for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(_STEP_S)
    return True


def _is_alive(pid: int) -> bool:
    """A zombie whose new parent is slow to collect it is dead for every purpose of ours."""
    with suppress(OSError):
        state = (
            Path(f"/proc/{pid}/stat")
            .read_text(encoding="utf-8", errors="replace")
            .rpartition(")")[2]
            .split()[0]
        )
        return state not in {"Z", "X"}
    return False
