"""The three quantities people write in gaia.yaml: durations, sizes and ratios."""

from __future__ import annotations

import re
from typing import Final, Self

_DURATION_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZE_UNITS: Final = {"B": 1, "kB": 10**3, "KB": 2**10, "KiB": 2**10, "MB": 2**20, "MiB": 2**20,
                      "GB": 2**30, "GiB": 2**30, "TB": 2**40, "TiB": 2**40}  # fmt: skip
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+")
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s?(B|kB|KB|KiB|MB|MiB|GB|GiB|TB|TiB)")
_RATIO: Final = re.compile(r"(\d+(?:\.\d+)?)\s?%")


class Duration(float):
    """Seconds. Written `250ms`, `10s`, `5m`, `1h30m`, `7d`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError with the remedy when `text` is not a duration."""
        if not _DURATION.fullmatch(text):
            raise ValueError(
                f'"{text}" is not a duration: write a number with ms, s, m, h, d or w, such as 10s or 5m'
            )
        return cls(
            sum(float(number) * _DURATION_UNITS[unit] for number, unit in _DURATION_PART.findall(text))
        )

    def __str__(self) -> str:
        """The shortest exact spelling: `5m`, `1.5s`, `250ms`."""
        if self and self < 1:
            return f"{_plain(self * 1000)}ms"
        for unit in ("w", "d", "h", "m"):
            if self and self % _DURATION_UNITS[unit] == 0:
                return f"{int(self / _DURATION_UNITS[unit])}{unit}"
        return f"{_plain(self)}s"


class Size(int):
    """Bytes. Written `512MB`, `2GB` (binary multiples, as Fly.io counts machine memory)."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError with the remedy when `text` is not a size."""
        match = _SIZE.fullmatch(text)
        if match is None:
            raise ValueError(
                f'"{text}" is not a size: write a number with B, KB, MB, GB or TB, such as 512MB'
            )
        return cls(float(match[1]) * _SIZE_UNITS[match[2]])

    def __str__(self) -> str:
        for unit in ("TB", "GB", "MB", "KB"):
            if self and self % _SIZE_UNITS[unit] == 0:
                return f"{int(self) // _SIZE_UNITS[unit]}{unit}"
        return f"{int(self)}B"


class Ratio(float):
    """A share between 0 and 1. Written `5%`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError with the remedy when `text` is not a percentage up to 100 %."""
        match = _RATIO.fullmatch(text)
        if match is None or float(match[1]) > 100:
            raise ValueError(f'"{text}" is not a ratio: write a percentage from 0% to 100%, such as 5%')
        return cls(float(match[1]) / 100)

    def __str__(self) -> str:
        return f"{round(float(self) * 100, 6):g}%"


def _plain(number: float) -> str:
    """At most three decimals and never an exponent."""
    return f"{number:.3f}".rstrip("0").rstrip(".")
