"""The agent's process: from a file to a running agent, through reloads, to a clean stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.log import LogWriter, log_level
from agent.platform.problem import PlatformError
from agent.platform.scope import Platform, Scope
from agent.secrets import secrets
from agent.settings import Settings, StartError, only_one
from agent.watching import Watching
from checks.clock import SystemClock

if TYPE_CHECKING:
    from agent.assembly import Agent

logger = logging.getLogger(__name__)

_OK: Final = 0
_CANNOT: Final = 3
_KILLED: Final = 130
# Imports and looks make few cycles: Python's own 700 have it search for them a twelfth of the time.
_COLLECT_AFTER: Final = (10_000, 20, 20)
# Enough for a first look at everything near; importing the rest takes as long again.
_FIRST_PASS_S: Final = 0.25


def serve(
    *,
    config: Path,
    overlay: Path | None = None,
    environments: tuple[str, ...] = (),
    data: Path | None = None,
    listen: str | None = None,
    follow: tuple[tuple[str, str], ...] = (),
) -> int:
    """Run the agent until SIGTERM or SIGINT. The exit code: 0 stopped as asked, 3 it cannot run."""
    gc.set_threshold(*_COLLECT_AFTER)
    settings = Settings(
        config=config, overlay=overlay, environments=environments, data=data, listen=listen, follow=follow
    )
    try:
        platform, scopes = settings.scopes()
        with only_one(settings.data_dir(scopes[0])):
            writer = LogWriter(level=log_level(scopes), secrets=secrets(scopes))
            try:
                return asyncio.run(_Process(settings, platform, scopes, writer).until_stopped())
            finally:
                writer.stop()
    except PlatformError as error:
        for problem in error.problems:
            sys.stderr.write(f"{problem}\n")
        return _CANNOT
    except StartError as error:
        sys.stderr.write(f"gaia run: {error}\n")
        return _CANNOT


class _Process:
    """First the eyes, then, while they look, everything that takes longer to import."""

    def __init__(
        self, settings: Settings, platform: Platform, scopes: tuple[Scope, ...], log: LogWriter
    ) -> None:
        self._settings = settings
        self._platform = platform
        self._scopes = scopes
        self._log = log
        self._clock = SystemClock()
        self._reload_asked = asyncio.Event()

    async def until_stopped(self) -> int:
        """0 after SIGTERM or SIGINT; a second signal ends at once. SIGHUP reads the file again."""
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(self._run())
        asked = False

        def stop(number: signal.Signals) -> None:
            nonlocal asked
            if asked:
                os._exit(_KILLED)
            asked = True
            logger.info("agent.stopping", extra={"signal": number.name})
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload_asked.set)
        try:
            await task
        except asyncio.CancelledError:
            if not asked:
                raise
        logger.info("agent.stopped")
        return _OK

    async def _run(self) -> None:
        watching = Watching(self._scopes, self._clock, soon=True)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(watching.run())
                await watching.first_pass(within_s=_FIRST_PASS_S)
                logger.info("agent.started", extra={"targets": len(watching.watches)})
                with ThreadPoolExecutor(1, thread_name_prefix="imports") as imports:
                    assembly = await asyncio.get_running_loop().run_in_executor(
                        imports, import_module, "agent.assembly"
                    )
                agent: Agent = assembly.Agent(
                    self._settings,
                    self._platform,
                    self._scopes,
                    watching=watching,
                    clock=self._clock,
                    log=self._log,
                )
                await agent.run(self._reload_asked)
        except BaseExceptionGroup as group:
            cause = group.subgroup(StartError)
            if cause is not None:
                raise StartError(str(_first(cause))) from group
            raise


def _first(group: BaseException) -> BaseException:
    first = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first
