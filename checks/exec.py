"""The exec check: any Nagios plug-in, without a shell, in its own process group, within its limits."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from typing import Final
from weakref import WeakKeyDictionary

import msgspec

from checks.catalog import CheckKind, MeasureInfo, ProbeKit
from checks.finding import Evidence, Finding, Measure, Phase, PhaseTime, State
from checks.perfdata import parse_perfdata
from checks.reason import Reason
from checks.secret import Secret
from checks.target import Target
from checks.units import Duration, Size
from checks.wire.redaction import Redactor, redacted

_STATES: Final = {0: State.UP, 1: State.DEGRADED, 2: State.DOWN, 3: State.UNKNOWN}
_AT_ONCE: Final = 8
_MARGIN_S: Final = 0.05
_MARGIN_SHARE: Final = 0.05
_KEPT_ENVIRONMENT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")


class ExecOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One plug-in: `command` is the program and its arguments; no shell looks at it.

    Secrets go into `environment`, never into arguments, which every user of the machine can read. The
    plug-in gets these variables and PATH, HOME, LANG, LC_ALL, TZ and TMPDIR, nothing else of the agent's.
    """

    command: tuple[str, ...]
    environment: dict[str, Secret] = {}
    folder: str | None = None
    timeout: Duration = Duration(10)
    output_limit: Size = Size(64 * 1024)

    def __post_init__(self) -> None:
        if not self.command or not self.command[0]:
            raise ValueError("command names a program")
        if any("\0" in part for part in self.command):
            raise ValueError("command has a NUL character")


class ExecCheck:
    """Runs `options.command` and reads its exit code, first line and performance data."""

    def __init__(self, target: Target, options: ExecOptions) -> None:
        self._target = target
        self._options = options
        self._redactor = Redactor(value.reveal() for value in options.environment.values())

    async def probe(self) -> Finding:
        timeout = self._options.timeout
        # A little less than the caller's: what a hung plug-in looks at is not down, it is not known.
        end_s = asyncio.get_running_loop().time() + timeout - min(_MARGIN_S, timeout * _MARGIN_SHARE)
        turn = _turns()
        try:
            async with asyncio.timeout_at(end_s):
                await turn.acquire()
        except TimeoutError:
            return self._unknown(
                Reason.AGENT, f"had no turn within {timeout}: too many plug-ins are due at once"
            )
        try:
            return self._redactor.finding(await self._run(end_s), self._target.address)
        finally:
            turn.release()

    async def _run(self, end_s: float) -> Finding:
        started_s = time.monotonic()
        try:
            process = await self._start()
        except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
            return self._unknown(Reason.CONFIG, f"cannot be run: {error.strerror}")
        try:
            async with asyncio.timeout_at(end_s):
                output = await self._output(process)
                code = await process.wait()
        except TimeoutError:
            message = f"did not end within {self._options.timeout} and was stopped"
            return self._unknown(Reason.TIMEOUT, message)
        finally:
            await _end(process)
        return self._finding(code, output, time.monotonic() - started_s)

    async def _start(self) -> asyncio.subprocess.Process:
        inherited = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        given = {name: value.reveal() for name, value in self._options.environment.items()}
        return await asyncio.create_subprocess_exec(
            *self._options.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=self._options.folder,
            env=inherited | given,
            start_new_session=True,
        )

    async def _output(self, process: asyncio.subprocess.Process) -> bytes:
        """Everything it prints up to the limit; the rest is read and dropped, so that it can end."""
        assert process.stdout is not None
        kept = b""
        while data := await process.stdout.read(65536):
            kept += data[: self._options.output_limit - len(kept)]
        return kept

    def _finding(self, code: int, output: bytes, took_s: float) -> Finding:
        text = output.decode("utf-8", "replace")
        first, _, rest = text.partition("\n")
        words, _, numbers = first.partition("|")
        numbers += "".join(" " + part for part in rest.split("|")[1:])
        state = _STATES.get(code, State.UNKNOWN)
        said = redacted(words.encode()) or "nothing"
        if code not in _STATES:
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            said = f"{how}: {said}"
        return Finding(
            state=state,
            reason=Reason.OK if state is State.UP else Reason.EXEC,
            message=f"{self._target.address} says: {said}",
            latency_s=took_s,
            phases=(PhaseTime(phase=Phase.PROCESSING, duration_s=took_s),),
            measures=_measures(numbers),
            evidence=(
                Evidence(name="exit code", value=str(code)),
                Evidence(name="output", value=redacted(output)),
            ),
        )

    def _unknown(self, reason: Reason, words: str) -> Finding:
        """A plug-in that gives no verdict says nothing about what it looks at."""
        return Finding(
            state=State.UNKNOWN,
            reason=reason,
            message=f"{self._target.address}: {self._options.command[0]} {words}",
        )

    async def close(self) -> None:
        """Nothing runs between looks."""


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the whole process group, whatever it started, and reap."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    # A grandchild that left the group may hold the pipe open; asyncio has no public way to let go of it.
    transport = getattr(process, "_transport", None)
    if transport is not None:
        transport.close()
    await process.wait()


def _measures(numbers: str) -> tuple[Measure, ...]:
    return tuple(
        Measure(
            name="gaia_exec_performance",
            value=item.value,
            labels=(("label", item.label), ("unit", item.unit)),
        )
        for item in parse_perfdata(numbers)
    )


# All plug-ins of a loop share their turns: a hundred due together must not become a hundred processes.
_TURNS: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


def _turns() -> asyncio.Semaphore:
    return _TURNS.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(_AT_ONCE))


def _build(target: Target, options: ExecOptions, _: ProbeKit) -> ExecCheck:
    return ExecCheck(target, options)


KIND = CheckKind(
    name="exec",
    options=ExecOptions,
    build=_build,
    measures=(
        MeasureInfo(
            name="gaia_exec_performance",
            type="gauge",
            help="A number from a plug-in's performance data, in base units.",
            labels=("label", "unit"),
        ),
    ),
)
