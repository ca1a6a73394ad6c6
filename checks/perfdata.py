"""Performance data of Nagios plug-ins: `'label'=value[unit];warn;crit;min;max`, to base units. Pure."""

from __future__ import annotations

import math
import re
from typing import Final

from msgspec import Struct

# https://nagios-plugins.org/doc/guidelines.html#AEN200
_ITEM: Final = re.compile(
    r"\s*(?:'((?:[^']|'')+)'|([^\s='][^\s=]*))=([-+]?\d+(?:[.,]\d+)?(?:[eE][-+]?\d{1,3})?|U)([a-zA-Z%]*)(;[^\s]*)?(?=\s|$)"
)
_SCALES: Final = {
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "ns": 1e-9,
    "%": 0.01,
    "b": 1.0,
    "kb": 2.0**10,
    "mb": 2.0**20,
    "gb": 2.0**30,
    "tb": 2.0**40,
    "c": 1.0,
    "": 1.0,
}
_UNITS: Final = {
    "s": "seconds",
    "ms": "seconds",
    "us": "seconds",
    "ns": "seconds",
    "%": "ratio",
    "c": "total",
}
_MOST_ITEMS: Final = 50
_LONGEST_LABEL: Final = 64


class Performance(Struct, frozen=True, kw_only=True):
    """One number a plug-in reports; `unit` is a base unit: seconds, bytes, ratio, total or none."""

    label: str
    value: float
    unit: str


def parse_perfdata(text: str) -> tuple[Performance, ...]:
    """The numbers in `text`; what cannot be read, or is unknown (`U`), is left out."""
    found: list[Performance] = []
    at = 0
    while at < len(text) and len(found) < _MOST_ITEMS:
        match = _ITEM.match(text, at)
        if match is None:
            gap = re.compile(r"\s*\S+").match(text, at)
            if gap is None:
                break
            at = gap.end()
            continue
        at = match.end()
        item = _item(match[1] or match[2], match[3], match[4])
        if item is not None:
            found.append(item)
    return tuple(found)


def _item(label: str, number: str, unit: str) -> Performance | None:
    scale = _SCALES.get(unit.lower())
    if number == "U" or scale is None:
        return None
    value = float(number.replace(",", ".")) * scale
    if not math.isfinite(value):
        return None
    named = _UNITS.get(unit.lower(), "bytes" if unit.lower().endswith("b") else "none")
    return Performance(label=label.replace("''", "'").strip()[:_LONGEST_LABEL], value=value, unit=named)
