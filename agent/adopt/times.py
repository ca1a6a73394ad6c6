"""Alertmanager's time intervals as maintenance windows: a cron expression in UTC and how long it lasts.

Source: https://prometheus.io/docs/alerting/latest/configuration/#time_interval-0
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agent.adopt.adopted import Adopted, Table, entries_of, items_of, text_of
from agent.platform.tree import Mapping, Node

_DAYS: Final = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_MONTHS: Final = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
    "november", "december",
)  # fmt: skip
_FIELDS: Final = frozenset({"times", "weekdays", "days_of_month", "months", "years", "location"})
_DAY_MINUTES: Final = 1440


def intervals(root: Mapping, adopted: Adopted) -> dict[str, list[Table]]:
    """The windows of each named interval; what cannot be one is noted."""
    found: dict[str, list[Table]] = {}
    for section in ("mute_time_intervals", "time_intervals"):
        for named in items_of(root.get(section)):
            table = entries_of(named)
            name = text_of(table.get("name"), "unnamed")
            found[name] = [
                window | {"comment": name}
                for interval in items_of(table.get("time_intervals"))
                for window in _windows(interval, name, adopted)
            ]
    return found


def _windows(interval: Node, name: str, adopted: Adopted) -> list[Table]:
    table = entries_of(interval)
    location = text_of(table.get("location"), "UTC")
    for key, said, hopeless in (
        ("years", "a cron expression has no year: write a window with starts and ends", "years" in table),
        ("location", "windows are in UTC: move the hours yourself", location not in ("UTC", "Etc/UTC")),
    ):
        if hopeless:
            adopted.leave(table[key].at, f"time interval {name}: {key}", said)
            return []
    try:
        days = _ranges(table.get("days_of_month"), _day_of_month)
        weekdays = _ranges(table.get("weekdays"), _weekday)
        months = _ranges(table.get("months"), _month)
        spans = [_span(one) for one in items_of(table.get("times"))] or [(0, _DAY_MINUTES)]
    except ValueError as error:
        adopted.leave(interval.at, f"time interval {name}", f"{error}")
        return []
    if days != "*" and weekdays != "*":
        adopted.leave(
            table["weekdays"].at,
            f"time interval {name}: weekdays",
            "cron means either the weekday or the day of the month, Alertmanager both",
        )
        return []
    return [
        {"cron": f"{start % 60} {start // 60} {days} {months} {weekdays}", "lasts": f"{end - start}m"}
        for start, end in spans
    ]


def _ranges(node: Node | None, number: Callable[[str], int]) -> str:
    parts = []
    for item in items_of(node):
        low, colon, high = text_of(item).strip().lower().partition(":")
        first, last = number(low), number(high if colon else low)
        if last < first:
            raise ValueError(f"{low}:{high} ends before it starts")
        parts.append(f"{first}-{last}" if colon else f"{first}")
    return ",".join(parts) or "*"


def _day_of_month(text: str) -> int:
    day = _number(text)
    if day < 0:
        raise ValueError("days counted from the end of the month cannot be a cron expression")
    return _within(day, 1, 31)


def _month(text: str) -> int:
    return _MONTHS.index(text) + 1 if text in _MONTHS else _within(_number(text), 1, 12)


def _weekday(text: str) -> int:
    if text not in _DAYS:
        raise ValueError(f'"{text}" is no day of the week')
    return _DAYS.index(text)


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f'"{text}" is not a number') from None


def _within(number: int, low: int, high: int) -> int:
    if not low <= number <= high:
        raise ValueError(f"{number} is not from {low} to {high}")
    return number


def _span(node: Node) -> tuple[int, int]:
    table = entries_of(node)
    start, end = (_minute(text_of(table.get(key))) for key in ("start_time", "end_time"))
    if end <= start:
        raise ValueError("it ends before it starts")
    return start, end


def _minute(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return _within(_number(hours) * 60 + _within(_number(minutes or "0"), 0, 59), 0, _DAY_MINUTES)
