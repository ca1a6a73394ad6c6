"""Reads the few families we need out of a Prometheus text exposition, and never looks at the rest.

Own tokenizer because prometheus_client's parser costs ~20 times more and blocks the event loop for as long as
the body is large. Format: Prometheus text 0.0.4 and OpenMetrics 1.0 sample lines
(prometheus/docs, exposition_formats.md; OpenMetrics 1.0 §"Text format").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

# Possessive quantifiers keep a hostile line linear: no branch can be tried twice.
_LINE: Final = re.compile(
    rb'([a-zA-Z_:][a-zA-Z0-9_:]*+)[ \t]*+(\{(?:[^"}]|"(?:[^"\\]|\\.)*+")*+\})?[ \t]*+'
    rb"([^ \t#{}]++)(?:[ \t]++[-+0-9.eE]++)?[ \t]*+(?:#.*+)?\r?"
)
_LABEL: Final = re.compile(
    rb'[ \t]*+([a-zA-Z_][a-zA-Z0-9_]*+)[ \t]*+=[ \t]*+"((?:[^"\\]|\\.)*+)"[ \t]*+(,|$)'
)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_UNESCAPED: Final = {"n": "\n", "\\": "\\", '"': '"'}
_SLICE_BYTES: Final = 64 * 1024


class ExpositionError(ValueError):
    """A line of a wanted family is not a sample; the text says which."""


class Series(Struct, frozen=True):
    """A sample's identity: its full name, suffix included, and its labels in the order written."""

    name: str
    labels: tuple[tuple[str, str], ...]


class ExpositionReader:
    """Turns successive bodies of one target into samples of the wanted names.

    The bytes before a value are the same on each scrape, so each is parsed once and then looked up;
    the table is dropped when it outgrows `max_series`, which bounds memory against churning labels.
    """

    def __init__(self, names: frozenset[str], *, max_series: int = 20_000) -> None:
        self._starts = tuple(sorted(name.encode() for name in names))
        self._names = names
        self._max_series = max_series
        self._known: dict[bytes, Series | None] = {}

    def samples(self, part: bytes) -> Iterator[tuple[Series, float]]:
        """The wanted samples of `part`, which holds whole lines. Raises ExpositionError."""
        starts = self._starts
        known = self._known
        for line in part.split(b"\n"):
            if not line.startswith(starts):
                continue
            prefix, _, number = line.rpartition(b" ")
            series = known.get(prefix, _UNSEEN)
            if isinstance(series, _Unseen):
                prefix, series, number = self._parse(line)
            if series is None:
                continue
            try:
                yield series, float(number)
            except ValueError:
                raise ExpositionError(f"no number in {line[:120]!r}") from None

    def _parse(self, line: bytes) -> tuple[bytes, Series | None, bytes]:
        match = _LINE.fullmatch(line)
        if match is None:
            raise ExpositionError(f"not a sample: {line[:120]!r}")
        name, labels, number = match.groups()
        series = None
        text = name.decode("ascii")
        if text in self._names:
            try:
                series = Series(text, tuple(_labels(labels[1:-1])) if labels else ())
            except ValueError:  # UnicodeDecodeError is one.
                raise ExpositionError(f"labels cannot be read: {line[:120]!r}") from None
        prefix, _, last = line.rpartition(b" ")
        # Only `series value` lines may be looked up later: behind a timestamp or an exemplar the last
        # word is not the value.
        if last == number and prefix == line[: match.end(2) if labels else match.end(1)]:
            if len(self._known) >= self._max_series:
                self._known.clear()
            self._known[prefix] = series
        return prefix, series, number


def slices(body: bytes, size: int = _SLICE_BYTES) -> Iterator[bytes]:
    """`body` in pieces of whole lines of about `size` bytes, so that a reader can yield in between."""
    start = 0
    while start < len(body):
        end = body.find(b"\n", start + size)
        end = len(body) if end < 0 else end + 1
        yield body[start:end]
        start = end


class _Unseen:
    """Tells a series never met from one met and not wanted."""


_UNSEEN: Final = _Unseen()


def _labels(text: bytes) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        match = _LABEL.match(text, at)
        if match is None:
            if text[at:].strip(b" \t"):
                raise ValueError("labels")
            return
        value = match[2].decode("utf-8")
        if "\\" in value:
            value = _ESCAPE.sub(lambda found: _UNESCAPED.get(found[1], found[0]), value)
        yield match[1].decode("ascii"), value
        at = match.end()
