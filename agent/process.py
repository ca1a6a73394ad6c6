"""The agent's process: from a file to a running agent, through reloads, to a clean stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.log import LogWriter, log_level
from agent.platform.problem import PlatformError
from agent.secrets import secrets
from agent.settings import Settings, StartError, only_one

if TYPE_CHECKING:
    from agent.assembly import Agent

logger = logging.getLogger(__name__)

_OK: Final = 0
_CANNOT: Final = 3
_KILLED: Final = 130


def serve(
    *,
    config: Path,
    overlay: Path | None = None,
    environments: tuple[str, ...] = (),
    data: Path | None = None,
    listen: str | None = None,
) -> int:
    """Run the agent until SIGTERM or SIGINT. The exit code: 0 stopped as asked, 3 it cannot run."""
    settings = Settings(config=config, overlay=overlay, environments=environments, data=data, listen=listen)
    try:
        platform, scopes = settings.scopes()
        with only_one(settings.data_dir(scopes[0])):
            writer = LogWriter(level=log_level(scopes), secrets=secrets(scopes))
            try:
                from agent.assembly import Agent

                return asyncio.run(_until_stopped(Agent(settings, platform, scopes, writer)))
            finally:
                writer.stop()
    except PlatformError as error:
        for problem in error.problems:
            sys.stderr.write(f"{problem}\n")
        return _CANNOT
    except StartError as error:
        sys.stderr.write(f"gaia run: {error}\n")
        return _CANNOT


async def _until_stopped(agent: Agent) -> int:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(agent.run())
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
    loop.add_signal_handler(signal.SIGHUP, agent.ask_reload)
    try:
        await task
    except asyncio.CancelledError:
        if not asked:
            raise
    logger.info("agent.stopped")
    return _OK
