"""Requests as counted from spans, per route, each bucket with the trace of one request in it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from agent.exposition.document import Document, Exemplar
from agent.exposition.family import Shape, histogram_shape, label_text
from agent.exposition.negotiation import Format
from agent.telemetry.series import RequestSeries, SeriesTable

REQUESTS: Final = "gaia_request_duration_seconds"
_MOST_ROWS: Final = 1000
# So many are written at a time: together a few tenths of a millisecond of work.
_AT_A_TIME: Final = 16


class RequestPage:
    """Writes the rows of a table for `document`, anew for each scrape; used on the event loop.

    Shows the first 1,000 rows there were; of all of them the rules take notice.
    """

    def __init__(self, document: Document) -> None:
        self._shape: Shape | None = None
        self._owners: dict[RequestSeries, str] = {}
        self._rows: dict[str, list[RequestSeries]] = {}
        document.attach(self)

    def show(self, env: str, table: SeriesTable) -> None:
        """Make the rows of `table` the series; rows that tell no environment are those of `env`."""
        if self._shape is None:
            self._shape = histogram_shape(REQUESTS, table.edges)
        for row in table.rows():
            if row not in self._owners and len(self._owners) < _MOST_ROWS:
                owner = self._owners[row] = _owner(env, row)
                self._rows.setdefault(owner, []).append(row)

    @property
    def series(self) -> int:
        """How many lines there are."""
        return len(self._rows) * self._shape.lines if self._shape is not None else 0

    def lines(self, family: str, form: Format) -> Iterator[tuple[bytes, int]]:
        """The rows' lines, some rows at a time, and how many they are."""
        if family != REQUESTS or self._shape is None:
            return
        owned = tuple(self._rows.items())
        for start in range(0, len(owned), _AT_A_TIME):
            part = owned[start : start + _AT_A_TIME]
            text = "".join(_text(self._shape, owner, rows, form) for owner, rows in part)
            yield text.encode(), len(part) * self._shape.lines


def _text(shape: Shape, owner: str, rows: list[RequestSeries], form: Format) -> str:
    buckets = accumulate(map(sum, zip(*(row.buckets for row in rows), strict=True)))
    text = shape.text(owner, (*buckets, sum(row.total for row in rows), sum(row.sum_s for row in rows)))
    if form is Format.TEXT:
        return text
    lines = text.split("\n")
    exemplars = {bucket: one for row in rows for bucket, one in row.exemplars.items()}
    for bucket, (value, trace_id, at_s) in exemplars.items():
        exemplar = Exemplar(labels=(("trace_id", trace_id.hex()),), value=value, at_s=at_s)
        lines[bucket] += exemplar.text()
    return "\n".join(lines)


def _owner(env: str, row: RequestSeries) -> str:
    key = row.key
    return label_text(
        (
            ("env", key.env or env),
            ("service", key.service),
            ("kind", key.kind),
            ("method", key.method),
            ("route", key.route),
            ("status", key.status),
            ("error", key.error),
        )
    )
