"""Keeps the parts up: starts them in order, restarts what ends, stops them in the reverse order."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from typing import Final, Protocol

from agent.local.child import LocalError, describe_exit
from agent.local.part import Part

_LOOK_EVERY_S: Final = 0.05
_READY_EVERY_S: Final = 0.02
_SHORT_LIFE_S: Final = 10.0
_LONGEST_WAIT_S: Final = 60.0


class Narrator(Protocol):
    """Who tells people what the supervisor sees."""

    def part(self, name: str, state: str, text: str) -> None: ...


class Supervisor:
    """Owns the processes. Everything is spawned from the thread that runs the event loop."""

    def __init__(self, narrator: Narrator) -> None:
        self._narrator = narrator
        self._groups: list[tuple[Part, ...]] = []

    @property
    def parts(self) -> tuple[Part, ...]:
        """In the order they were started."""
        return tuple(part for group in self._groups for part in group)

    async def start(self, *parts: Part) -> None:
        """Start these together, return when all are ready. Raises LocalError for the first that is not."""
        self._groups.append(parts)
        for part in parts:
            part.child = part.spawn()
        await asyncio.gather(*(self._await_ready(part) for part in parts))

    async def keep(self) -> None:
        """Say when a part ends and start it again after its pause, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for part in self.parts:
                tasks.create_task(self._keep(part), name=part.name)

    async def stop(self) -> None:
        """Stop all, what was started last first, together what was started together; kill what is deaf."""
        for group in reversed(self._groups):
            await asyncio.gather(*(self._stop(part) for part in group))

    def kill(self) -> None:
        """Kill everything now, for the impatient second Ctrl-C."""
        for part in reversed(self.parts):
            if part.child is not None:
                part.child.send_group(signal.SIGKILL)

    async def _stop(self, part: Part) -> None:
        child = part.child
        if child is None or child.exit_code() is not None:
            return
        child.send(signal.SIGCONT)  # A frozen part could not hear the next signal.
        child.send(part.stop_signal)
        end = time.monotonic() + part.stop_within_s
        while child.exit_code() is None and time.monotonic() < end:  # noqa: ASYNC110  # See _ended.
            await asyncio.sleep(_READY_EVERY_S)
        if child.exit_code() is None:
            self._narrator.part(part.name, "stopping", f"no exit in {part.stop_within_s:g} s: killed")
        child.send_group(signal.SIGKILL)
        child.wait(within_s=1.0)

    async def _keep(self, part: Part) -> None:
        quick_ends = 0
        while True:
            started = time.monotonic()
            code = await self._ended(part)
            quick_ends = quick_ends + 1 if time.monotonic() - started < _SHORT_LIFE_S else 0
            how = f"exited: {describe_exit(code)}" if code < 0 else describe_exit(code)
            if part.restart_after_s is None:
                self._narrator.part(
                    part.name, "down", f"{how}; it is not started again (--restart-after never)"
                )
                return
            # What ends again and again is given ever more time, so that it does not fill the screen.
            pause_s = min(max(part.restart_after_s, 0.5 * 2**quick_ends - 0.5), _LONGEST_WAIT_S)
            when = f"in {pause_s:g} s" if pause_s >= 1 else "at once"
            self._narrator.part(part.name, "down", f"{how}; starting it again {when}")
            await asyncio.sleep(pause_s)
            await self._restart(part)

    async def _restart(self, part: Part) -> None:
        try:
            part.child = part.spawn()
            await self._await_ready(part)
        except (LocalError, OSError) as error:  # A full disk is no reason to give up the others.
            self._narrator.part(part.name, "down", str(error))
        else:
            self._narrator.part(part.name, "up", f"runs again, pid {part.child.pid}")

    async def _ended(self, part: Part) -> int:
        # The end of a process is no awaitable event outside Linux.
        while (code := part.exit_code()) is None:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_EVERY_S)
        return code

    async def _await_ready(self, part: Part) -> None:
        child = part.child
        assert child is not None
        end = time.monotonic() + part.ready_within_s
        while not await asyncio.to_thread(part.is_ready):
            if (code := child.exit_code()) is not None:
                raise LocalError(
                    f"{part.name} {describe_exit(code)} while starting; "
                    f"{child.log} ends with:\n{child.last_lines()}"
                )
            if time.monotonic() > end:
                raise LocalError(
                    f"{part.name} is not ready after {part.ready_within_s:g} s at {part.address}; "
                    f"{child.log} ends with:\n{child.last_lines()}"
                )
            await asyncio.sleep(_READY_EVERY_S)


def table(parts: Sequence[Part]) -> str:
    """What runs where, one line each."""
    rows = [(part.name, part.address, str(part.child.pid if part.child else "-")) for part in parts]
    name_width = max(len(name) for name, _, _ in rows)
    address_width = max(len(address) for _, address, _ in rows)
    return "\n".join(
        f"  {name:<{name_width}}  {address:<{address_width}}  pid {pid}" for name, address, pid in rows
    )
