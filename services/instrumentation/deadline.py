"""A request's remaining time travels with it, so that nobody works for a caller who has gone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from services.instrumentation.context import current_request

HEADER: Final = "X-Request-Deadline-Ms"
"""Milliseconds the caller will still wait, counted from when it sent the request."""


def parse_deadline_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """The monotonic moment the caller gives up; None without a usable header."""
    value = headers.get(HEADER)
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 9:
        return None
    return now_s + int(value) / 1000


def remaining_s(limit_s: float) -> float:
    """How long the current request may still take, at most `limit_s`; not below zero."""
    context = current_request.get()
    if context is None or context.deadline_s is None:
        return limit_s
    return max(0.0, min(limit_s, context.deadline_s - time.monotonic()))
