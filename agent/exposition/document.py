"""Cached blocks of lines: a scrape formats what changed and copies the rest, giving way as it goes."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Final, Protocol

from msgspec import Struct

from agent.exposition.family import Family, Shape, label_text, number
from agent.exposition.negotiation import Format

# A chunk ends after this much work: about half a millisecond, so that no scrape delays a probe.
_CHUNK_BYTES: Final = 96 * 1024
_CHUNK_LINES: Final = 1500
_EXEMPLAR_CHARACTERS: Final = 128
_GZIP_WINDOW: Final = 31


class Exemplar(Struct, frozen=True, kw_only=True):
    """One measured event behind a bucket or counter; `at_s` is wall time."""

    labels: tuple[tuple[str, str], ...]
    value: float
    at_s: float

    def text(self) -> str:
        """What follows the value on an OpenMetrics line; empty when the labels exceed the format's 128."""
        if sum(len(name) + len(value) for name, value in self.labels) > _EXEMPLAR_CHARACTERS:
            return ""
        return f" # {{{label_text(self.labels)}}} {number(self.value)} {self.at_s:.3f}"


class _Block:
    """The lines of one family for one owner."""

    __slots__ = ("exemplars", "open", "owner", "shape", "text", "values")

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.shape: Shape
        self.values: tuple[float, ...]
        self.exemplars: Mapping[int, Exemplar] | None
        self.text: bytes | None = None
        self.open: bytes | None = None

    def render(self, form: Format) -> bytes:
        if self.text is None:
            self.text = self.shape.text(self.owner, self.values).encode()
        if form is Format.TEXT or not self.exemplars:
            return self.text
        if self.open is None:
            lines = self.text.decode().split("\n")
            for index, exemplar in self.exemplars.items():
                lines[index] += exemplar.text()
            self.open = "\n".join(lines).encode()
        return self.open


class Source(Protocol):
    """Series that are kept as numbers elsewhere, and written anew by every scrape."""

    @property
    def series(self) -> int:
        """How many lines there are."""
        ...

    def lines(self, family: str, form: Format) -> Iterator[tuple[bytes, int]]:
        """The family's lines in pieces of a few tenths of a millisecond, each with their number."""
        ...


class Document:
    """Every series of the process, family by family, in the order the families are given.

    `put` costs well under a microsecond and formats nothing. A block is formatted by the first scrape
    after it changed and kept as bytes until it changes again. Not thread-safe: one event loop owns it.
    """

    def __init__(self, families: Iterable[Family]) -> None:
        self._blocks: dict[str, dict[str, _Block]] = {}
        self._headers: dict[str, dict[Format, bytes]] = {}
        self._sources: list[Source] = []
        for family in families:
            self.declare(family)

    def declare(self, family: Family) -> None:
        """Add a family; one that is already there keeps its blocks and gets the new header."""
        self._blocks.setdefault(family.name, {})
        self._headers[family.name] = {
            Format.TEXT: family.text_header,
            Format.OPEN_METRICS: family.open_header,
        }

    def attach(self, source: Source) -> None:
        """Show the series of `source` too. Each family it has lines for must be declared."""
        self._sources.append(source)

    def put(
        self,
        family: str,
        owner: str,
        shape: Shape,
        values: tuple[float, ...],
        exemplars: Mapping[int, Exemplar] | None = None,
    ) -> None:
        """Replace the lines of `family` for `owner`, its labels as `label_text` writes them.

        `values` has one number for each line of `shape`; `exemplars` maps a line's index to its exemplar.
        Raises KeyError for a family that was not declared.
        """
        blocks = self._blocks[family]
        block = blocks.get(owner)
        if block is None:
            block = blocks[owner] = _Block(owner)
        elif block.values == values and block.shape is shape and block.exemplars == exemplars:
            return
        block.shape = shape
        block.values = values
        block.exemplars = exemplars
        block.text = block.open = None

    def remove(self, family: str, owner: str) -> None:
        """Forget the lines of `family` for `owner`; nothing happens when there are none."""
        self._blocks[family].pop(owner, None)

    def forget(self, owner: str) -> None:
        """Forget every line of `owner`."""
        for blocks in self._blocks.values():
            blocks.pop(owner, None)

    @property
    def series(self) -> int:
        """How many lines a scrape gets, headers apart."""
        kept = sum(block.shape.lines for blocks in self._blocks.values() for block in blocks.values())
        return kept + sum(source.series for source in self._sources)

    def render(self, form: Format) -> Iterator[bytes]:
        """The whole document in chunks of at most about half a millisecond of work.

        A chunk may end inside a family; put and forget may be called between chunks.
        """
        parts: list[bytes] = []
        size = fresh = 0
        for name in tuple(self._blocks):
            header: bytes | None = self._headers[name][form]
            for part, lines in self._parts(name, form):
                if header is not None:
                    parts.append(header)
                    header = None
                parts.append(part)
                size += len(part)
                fresh += lines
                if size >= _CHUNK_BYTES or fresh >= _CHUNK_LINES:
                    yield b"".join(parts)
                    parts.clear()
                    size = fresh = 0
        if form is Format.OPEN_METRICS:
            parts.append(b"# EOF\n")
        if parts:
            yield b"".join(parts)

    def _parts(self, name: str, form: Format) -> Iterator[tuple[bytes, int]]:
        """A family's lines, and how many of them had to be formatted."""
        for block in tuple(self._blocks[name].values()):
            fresh = block.shape.lines if block.text is None else 0
            yield block.render(form), fresh
        for source in self._sources:
            yield from source.lines(name, form)

    async def stream(self, form: Format, *, gzip: bool) -> AsyncIterator[bytes]:
        """`render`, giving way to the event loop after each chunk; gzip at level 1 (RFC 1952) when asked."""
        packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP_WINDOW) if gzip else None
        for chunk in self.render(form):
            packed = packer.compress(chunk) if packer is not None else chunk
            if packed:
                yield packed
            await asyncio.sleep(0)
        if packer is not None:
            yield packer.flush()
