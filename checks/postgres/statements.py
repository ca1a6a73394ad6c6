"""What the statements cost, from pg_stat_statements: the heaviest of late, and those that became slow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Struct

_KEPT: Final = 200
_TOP: Final = 5
_LEAST_CALLS: Final = 5
_SLOW_MS: Final = 100.0
_WEIGHT: Final = 0.05
# Utility statements are kept as written, with their passwords; these kinds have their constants taken out.
_SHOWN: Final = ("select", "insert", "update", "delete", "with", "merge")

SQL: Final = f"""
SELECT coalesce(json_agg(json_build_object('id', queryid::text, 'calls', calls, 'total_ms', total_exec_time,
                                           'text', left(query, 120))), '[]')::text
FROM (SELECT * FROM pg_stat_statements
      WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND queryid IS NOT NULL
      ORDER BY total_exec_time DESC LIMIT {_KEPT}) AS s"""  # noqa: S608 - a constant number.


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """One row: counters since the extension's last reset."""

    id: str
    calls: int
    total_ms: float
    text: str


class Cost(Struct, frozen=True, kw_only=True):
    """One statement between two looks; `usual_ms` is its own mean before, None while it is new."""

    text: str
    calls: int
    mean_ms: float
    usual_ms: float | None

    @property
    def total_ms(self) -> float:
        return self.calls * self.mean_ms

    def slower_by(self) -> float | None:
        """How many times slower than usual; None when that says nothing."""
        if self.usual_ms is None or self.calls < _LEAST_CALLS or self.mean_ms < _SLOW_MS:
            return None
        return self.mean_ms / max(self.usual_ms, 0.001)


class Statements:
    """Remembers the last counters and each statement's own slowly moving mean; at most 200 of them."""

    def __init__(self) -> None:
        self._before: dict[str, Statement] = {}
        self._usual_ms: dict[str, float] = {}

    def take(self, rows: Iterable[Statement]) -> tuple[Cost, ...]:
        """The costs since the last call, heaviest first; empty at the first."""
        now = {row.id: row for row in rows}
        costs: list[Cost] = []
        for key, row in now.items():
            before = self._before.get(key)
            if before is None or row.calls <= before.calls:
                continue
            calls = row.calls - before.calls
            mean_ms = max(row.total_ms - before.total_ms, 0.0) / calls
            usual_ms = self._usual_ms.get(key)
            costs.append(Cost(text=_shown(row.text), calls=calls, mean_ms=mean_ms, usual_ms=usual_ms))
            self._usual_ms[key] = mean_ms if usual_ms is None else usual_ms + _WEIGHT * (mean_ms - usual_ms)
        self._before = now
        self._usual_ms = {key: value for key, value in self._usual_ms.items() if key in now}
        return tuple(sorted(costs, key=lambda cost: -cost.total_ms))


def top(costs: tuple[Cost, ...]) -> str:
    """The heaviest as one line of evidence."""
    return "; ".join(f"{cost.calls} x {cost.mean_ms:.1f} ms: {cost.text}" for cost in costs[:_TOP])


def _shown(text: str) -> str:
    words = " ".join(text.split())
    return words[:80] if words.lower().startswith(_SHOWN) else "(a utility statement)"
