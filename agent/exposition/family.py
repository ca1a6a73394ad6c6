"""Metric families as data: their names and types, and the shapes their blocks of lines take."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final

from msgspec import Struct

# Stands for the owner's labels inside a template. No label value contains it: `escape_value` takes it out.
OWNER: Final = "\0"
_UNITS: Final = ("seconds", "bytes", "ratio")


class Type(StrEnum):
    """The metric types we expose."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class Family(Struct, frozen=True, kw_only=True):
    """One metric: everything that stands in its header. A counter's name ends in `_total`."""

    name: str
    type: Type
    help: str

    @property
    def text_header(self) -> bytes:
        """`# HELP` and `# TYPE` as text 0.0.4 wants them."""
        words = self.help.replace("\\", r"\\").replace("\n", r"\n")
        return f"# HELP {self.name} {words}\n# TYPE {self.name} {self.type}\n".encode()

    @property
    def open_header(self) -> bytes:
        """The same for OpenMetrics, where a counter is named without `_total` and units are told."""
        name = self.name.removesuffix("_total") if self.type is Type.COUNTER else self.name
        words = self.help.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
        unit = next((unit for unit in _UNITS if name.endswith(f"_{unit}")), None)
        lines = [f"# HELP {name} {words}", f"# TYPE {name} {self.type}"]
        if unit is not None:
            lines.append(f"# UNIT {name} {unit}")
        return ("\n".join(lines) + "\n").encode()


class Line(Struct, frozen=True, kw_only=True):
    """One sample's place in a block: the suffix of the name and the labels beside the owner's."""

    suffix: str = ""
    labels: tuple[tuple[str, str], ...] = ()


class Shape:
    """The lines a family has for one owner, formatted but for the owner's labels and the values.

    One shape serves every owner with the same lines, so that a block costs one `%` and one `replace`.
    """

    __slots__ = ("lines", "template")

    def __init__(self, name: str, lines: tuple[Line, ...] = (Line(),), *, owned: bool = True) -> None:
        """`owned` tells whether blocks of this shape have labels of their owner."""
        self.lines = len(lines)
        self.template = "".join(
            f"{name}{line.suffix}{_braces(line.labels, owned=owned)} %r\n" for line in lines
        )

    def text(self, owner: str, values: tuple[float, ...]) -> str:
        """The block for `owner` (see `label_text`), one value for each line."""
        total = sum(values)
        if total - total == 0:  # Neither NaN nor infinite: by far the usual case.
            return (self.template % values).replace(OWNER, owner)
        words = tuple(number(value) for value in values)
        return (self.template.replace("%r", "%s") % words).replace(OWNER, owner)


def histogram_shape(name: str, edges: tuple[float, ...], *, owned: bool = True) -> Shape:
    """Lines for cumulative counts up to each of `edges` (ascending, without infinity), +Inf, count, sum."""
    buckets = tuple(Line(suffix="_bucket", labels=(("le", number(edge)),)) for edge in (*edges, math.inf))
    return Shape(name, (*buckets, Line(suffix="_count"), Line(suffix="_sum")), owned=owned)


def number(value: float) -> str:
    """A value or a bucket edge as both formats spell it."""
    if value != value:  # noqa: PLR0124 - the definition of NaN, an order faster than math.isnan on this path
        return "NaN"
    if value in (math.inf, -math.inf):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)


def label_text(labels: tuple[tuple[str, str], ...]) -> str:
    """`env="production",service="auth"`: what stands between the braces."""
    return ",".join(f'{name}="{escape_value(value)}"' for name, value in labels)


def escape_value(value: str) -> str:
    """A label's value with backslash, quote and line feed escaped; lone surrogates and NUL replaced."""
    clean = value.encode("utf-8", "replace").decode().replace(OWNER, "\ufffd")
    return clean.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _braces(labels: tuple[tuple[str, str], ...], *, owned: bool) -> str:
    parts = [OWNER] if owned else []
    if labels:
        # The text becomes part of a format: a percent sign in a value must not be read as a directive.
        parts.append(label_text(labels).replace("%", "%%"))
    return "{" + ",".join(parts) + "}" if parts else ""
