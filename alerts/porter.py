"""Carries one channel's messages in daemon threads of its own, so that nothing else ever waits for it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Final

from alerts.notice import Notice
from alerts.notifiers.notifier import Delivery, Notifier

logger = logging.getLogger(__name__)

_THREADS: Final = 2
_GRACE_S: Final = 0.5


class Porter:
    """At most two threads: one that carries, and one that hangs past its deadline. `freed` says one ended."""

    def __init__(self, name: str, notifier: Notifier, freed: Callable[[], None]) -> None:
        self._name = name
        self._notifier = notifier
        self._freed = freed
        self._alive = 0

    @property
    def busy(self) -> bool:
        """Whether both threads hang in a receiver that does not let go."""
        return self._alive >= _THREADS

    @property
    def dedups(self) -> bool:
        """Whether the provider merges messages of one episode by itself."""
        return self._notifier.dedups

    async def carry(self, notice: Notice, *, deadline_s: float, ref: str | None) -> Delivery:
        """Deliver within `deadline_s`. Raises what the notifier raises, and TimeoutError."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Delivery] = loop.create_future()

        def work() -> None:
            try:
                delivery = self._notifier.deliver(notice, deadline_s=deadline_s, ref=ref)
            except Exception as error:  # handed to the loop, which decides
                _tell(loop, future, error)
            else:
                _tell(loop, future, delivery)

        self._spawn(work)
        # A thread that outlives its deadline keeps one of the two places until it ends.
        async with asyncio.timeout(deadline_s + _GRACE_S):
            return await future

    def warm(self, failed: Callable[[str], None]) -> None:
        """Import what the first message needs, beside everything else; `failed` hears why it cannot be."""
        loop = asyncio.get_running_loop()

        def work() -> None:
            try:
                self._notifier.warm()
            except Exception as error:
                words = str(error)[:200]
                logger.warning("channel.unusable", extra={"channel": self._name, "error": words})
                _call(loop, lambda: failed(words))

        self._spawn(work)

    def _spawn(self, work: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._alive += 1

        def run() -> None:
            try:
                work()
            finally:
                _call(loop, self._ended)

        threading.Thread(target=run, name=f"notify {self._name}", daemon=True).start()

    def _ended(self) -> None:
        self._alive -= 1
        self._freed()


def _tell(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[Delivery], outcome: Delivery | Exception
) -> None:
    def finish() -> None:
        if future.done():
            return
        if isinstance(outcome, Delivery):
            future.set_result(outcome)
        else:
            future.set_exception(outcome)

    _call(loop, finish)


def _call(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        # The loop ended while the thread was still sending; the row is still queued on disk.
        return
