"""Cancellation that a library has made a timeout of."""

from __future__ import annotations

import asyncio


def pass_cancellation_on() -> None:
    """Raise CancelledError where this task was cancelled; call it where a library's error is caught.

    nats-py's flush() and fetch() turn a cancellation into their TimeoutError: whoever cancelled would wait
    for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
