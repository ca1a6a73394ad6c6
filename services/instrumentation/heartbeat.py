"""A stuck event loop cannot report itself: a thread measures its lag and ends a process that hangs."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import sys
import threading
import time
from typing import Final

from services.instrumentation.metrics import Metrics

logger = logging.getLogger(__name__)

_BEAT_S: Final = 1.0
EXIT_STUCK: Final = 70


class Heartbeat:
    """Beats once a second on the loop. Fly never restarts on failed checks, so we do: exit 70 when stuck."""

    def __init__(self, metrics: Metrics, *, limit_s: float) -> None:
        self._metrics = metrics
        self._limit_s = limit_s
        self._beat_s = time.monotonic()
        self._stopped = threading.Event()

    async def run(self) -> None:
        if self._limit_s > 0:
            threading.Thread(target=self._watch, name="loop-watchdog", daemon=True).start()
        while True:
            due_s = time.monotonic() + _BEAT_S
            await asyncio.sleep(_BEAT_S)
            self._beat_s = time.monotonic()
            self._metrics.loop_lag.set(max(0.0, self._beat_s - due_s))

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        self._beat_s = time.monotonic()
        while not self._stopped.wait(_BEAT_S):
            late_s = time.monotonic() - self._beat_s
            if late_s > self._limit_s:
                logger.critical("loop.stuck", extra={"late_s": round(late_s, 1), "limit_s": self._limit_s})
                faulthandler.dump_traceback(file=sys.stderr)
                self._stopped.wait(0.5)  # Lets the log writer finish its line.
                os._exit(EXIT_STUCK)
