"""Planned silences, opened by a cron expression again and again or by a date once; and when a cron is due."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from alerts.receiver import MaintenanceWindow

_LATE_S: Final = 86400.0


def open_window(
    windows: Iterable[MaintenanceWindow], component: str, now_s: float
) -> MaintenanceWindow | None:
    """The window that covers this component now, if any."""
    return next((window for window in windows if _covers(window, component) and is_open(window, now_s)), None)


def is_open(window: MaintenanceWindow, now_s: float) -> bool:
    """Whether it is open. Raises ValueError for a wrong cron expression."""
    if window.cron is None:
        starts_s, ends_s = window.span_s
        return starts_s <= now_s < ends_s
    from cronsim import CronSim, CronSimError

    assert window.lasts is not None
    now = datetime.fromtimestamp(now_s, tz=UTC)
    try:
        starts = CronSim(window.cron, now - timedelta(seconds=window.lasts))
    except CronSimError as error:
        raise ValueError(f'"{window.cron}" is not a cron expression: {error}') from None
    first: datetime | None = next(starts, None)
    return first is not None and first <= now


def _covers(window: MaintenanceWindow, component: str) -> bool:
    return not window.targets or component in window.targets


def around(cron: str, now_s: float) -> tuple[float | None, float]:
    """When it was due last, if within a day, and when it is due next. Raises ValueError for a wrong cron."""
    from cronsim import CronSim, CronSimError

    now = datetime.fromtimestamp(now_s, tz=UTC)
    try:
        times = CronSim(cron, now - timedelta(seconds=_LATE_S))
    except CronSimError as error:
        raise ValueError(f'"{cron}" is not a cron expression: {error}') from None
    last: float | None = None
    for moment in times:
        if moment > now:
            return last, moment.timestamp()
        last = moment.timestamp()
    return last, now_s + _LATE_S
