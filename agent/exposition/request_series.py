"""Requests as counted from spans, per route, each bucket with the trace of one request in it."""

from __future__ import annotations

from itertools import accumulate
from typing import Final

from agent.exposition.document import Document, Exemplar
from agent.exposition.family import Shape, histogram_shape, label_text
from agent.telemetry.series import RequestSeries, SeriesTable

REQUESTS: Final = "gaia_request_duration_seconds"


_MOST_ROWS: Final = 1000


class RequestPage:
    """Brings the rows that counted something since the last scrape up to date, on the event loop.

    Shows the first 1,000 rows there were; of all of them the rules take notice.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._shape: Shape | None = None
        self._owners: dict[RequestSeries, str] = {}
        self._rows: dict[str, list[RequestSeries]] = {}
        self._shown: dict[str, float] = {}

    def show(self, env: str, table: SeriesTable) -> None:
        """Make the rows of `table` the series; rows that tell no environment are those of `env`."""
        if self._shape is None:
            self._shape = histogram_shape(REQUESTS, table.edges)
        totals: dict[str, float] = {}
        for row in table.rows():
            owner = self._owners.get(row)
            if owner is None:
                if len(self._owners) >= _MOST_ROWS:
                    continue
                owner = self._owners[row] = _owner(env, row)
                self._rows.setdefault(owner, []).append(row)
            totals[owner] = totals.get(owner, 0.0) + row.total
        for owner, total in totals.items():
            if self._shown.get(owner) != total:
                self._shown[owner] = total
                self._put(owner, self._rows[owner], self._shape)

    def _put(self, owner: str, rows: list[RequestSeries], shape: Shape) -> None:
        buckets = map(sum, zip(*(row.buckets for row in rows), strict=True))
        exemplars = {
            bucket: Exemplar(labels=(("trace_id", trace_id.hex()),), value=value, at_s=at_s)
            for row in rows
            for bucket, (value, trace_id, at_s) in row.exemplars.items()
        }
        total = sum(row.total for row in rows)
        values = (*accumulate(buckets), total, sum(row.sum_s for row in rows))
        self._document.put(REQUESTS, owner, shape, values, exemplars)


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
