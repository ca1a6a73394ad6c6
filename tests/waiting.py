"""Waiting for a condition with a deadline: what tests use instead of a sleep."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

_STEP_S = 0.01


async def until(condition: Callable[[], object], *, within_s: float = 5.0, what: str = "condition") -> None:
    """Return as soon as `condition()` is true. Raises AssertionError after `within_s` seconds."""
    end = time.monotonic() + within_s
    never = asyncio.Event()
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what} not met within {within_s} s")
        try:
            async with asyncio.timeout(_STEP_S):
                await never.wait()
        except TimeoutError:
            continue


def until_sync(condition: Callable[[], object], *, within_s: float = 5.0, what: str = "condition") -> None:
    """The same for synchronous tests."""
    end = time.monotonic() + within_s
    never = threading.Event()
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what} not met within {within_s} s")
        never.wait(_STEP_S)
