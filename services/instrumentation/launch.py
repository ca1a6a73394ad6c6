"""From environment variables to an exit code: the `__main__` of every service."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from aiohttp import web

from services.instrumentation.kit import Instrumentation
from services.instrumentation.settings import SettingsError


def launch(
    service: str, environ: Mapping[str, str], build: Callable[[Instrumentation], web.Application]
) -> int:
    """Run one service until it is told to stop. 0 after a drain, 1 without a port, 3 for a wrong variable."""
    try:
        kit = Instrumentation.from_environment(service, environ)
        app = build(kit)
    except SettingsError as error:
        sys.stderr.write(f"{service}: {error}\n")
        return 3
    return kit.run(app)
