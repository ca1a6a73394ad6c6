"""Which format and encoding a scraper gets: RFC 9110 content negotiation, with its q-values."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final

from msgspec import Struct

_MAX_RANGES: Final = 32


class Format(StrEnum):
    """The formats we speak; the value is the Content-Type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPEN_METRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


_NAMES: Final = {
    Format.TEXT: ("text", "plain", "0.0.4"),
    Format.OPEN_METRICS: ("application", "openmetrics-text", "1.0.0"),
}


class _Range(Struct, frozen=True, kw_only=True):
    type: str
    subtype: str
    version: str | None
    quality: float
    position: int

    def specificity(self, form: Format) -> int:
        """How closely this range names `form`; 0 when it does not."""
        kind, subtype, version = _NAMES[form]
        if (self.type, self.subtype) == ("*", "*"):
            return 1
        if self.type != kind:
            return 0
        if self.subtype == "*":
            return 2
        if self.subtype != subtype or self.version not in (None, version):
            return 0
        return 3 if self.version is None else 4


def choose_format(accept: str | None) -> Format:
    """The format with the highest q; text 0.0.4 when nothing is said or nothing fits.

    A version we do not speak is never echoed: the answer's Content-Type is one of ours.
    """
    ranges = _ranges(accept or "")
    best: tuple[float, int] | None = None
    chosen = Format.TEXT
    for form in Format:
        fitting = [(range_.specificity(form), range_) for range_ in ranges]
        # RFC 9110 12.5.1: the most specific range that matches decides about this format.
        specific = max((pair for pair in fitting if pair[0]), key=lambda pair: pair[0], default=None)
        if specific is None or specific[1].quality <= 0:
            continue
        rank = (specific[1].quality, -specific[1].position)
        if best is None or rank > best:
            best, chosen = rank, form
    return chosen


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Whether the client takes gzip: named, or covered by `*`, with q above 0."""
    star = False
    for item in (accept_encoding or "").split(",")[:_MAX_RANGES]:
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        if name == "gzip":
            return _quality(dict(_parameter(parameter) for parameter in parameters)) > 0
        if name == "*":
            star = _quality(dict(_parameter(parameter) for parameter in parameters)) > 0
    return star


def _ranges(accept: str) -> list[_Range]:
    ranges = []
    for position, item in enumerate(accept.split(",")[:_MAX_RANGES]):
        media, *rest = (part.strip().lower() for part in item.split(";"))
        kind, slash, subtype = media.partition("/")
        if not slash:
            continue
        parameters = dict(_parameter(part) for part in rest)
        ranges.append(
            _Range(
                type=kind.strip(),
                subtype=subtype.strip(),
                version=parameters.get("version"),
                quality=_quality(parameters),
                position=position,
            )
        )
    return ranges


def _parameter(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip(), value.strip().strip('"')


def _quality(parameters: dict[str, str]) -> float:
    try:
        quality = float(parameters.get("q", "1"))
    except ValueError:
        return 0.0
    return quality if math.isfinite(quality) and 0 <= quality <= 1 else 0.0
