"""Whether the messages stopped: each server's own usual rate is the measure, and a sharp fall the news."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from checks.limits import chosen
from checks.nats.server import Server
from checks.nats.thresholds import Thresholds
from checks.problem import Problem, over
from checks.reason import Reason

# The usual rate moves with a half-life of ten minutes, and says something after as long.
_HALF_LIFE_S: Final = 600.0
_LEAST_USUAL: Final = 50.0
_LASTING_S: Final = 60.0


class _Usual:
    __slots__ = ("known_s", "low_since_s", "rate")

    def __init__(self) -> None:
        self.rate = 0.0
        self.known_s = 0.0
        self.low_since_s: float | None = None


class Rates:
    """Remembers how many messages a second each server usually takes in.

    The agent's own requests count too, so the rate never falls to nothing: a share of the usual is missing.
    """

    def __init__(self, limits: Thresholds) -> None:
        self._limits = limits
        self._usual: dict[str, _Usual] = {}

    def judge(self, now: Server, before: Server | None, *, shown: str) -> Iterator[Problem]:
        """A problem when most of the usual rate is missing for a minute. It is not learned from then."""
        if before is None or now.varz.server_id != before.varz.server_id or now.at_s <= before.at_s:
            self._usual.pop(shown, None)
            return
        span_s = now.at_s - before.at_s
        rate = (now.varz.in_msgs - before.varz.in_msgs) / span_s
        usual = self._usual.setdefault(shown, _Usual())
        limit = chosen(self._limits.traffic_lost)
        lost = 1 - rate / usual.rate if usual.rate >= _LEAST_USUAL and usual.known_s >= _HALF_LIFE_S else 0.0
        if limit is None or limit.warn is None or lost < limit.warn:
            share = 0.5 ** (span_s / _HALF_LIFE_S) if usual.known_s else 0.0
            usual.rate = usual.rate * share + rate * (1 - share)
            usual.known_s += span_s
            usual.low_since_s = None
            return
        if usual.low_since_s is None:
            usual.low_since_s = before.at_s
        low_s = now.at_s - usual.low_since_s
        if low_s >= _LASTING_S:
            yield from over(
                limit,
                lost,
                Reason.NATS_TRAFFIC,
                lambda at: (
                    f"{shown} takes in {rate:.1f} messages a second instead of {usual.rate:.0f}, for "
                    f"{low_s:.0f} s now ({lost:.0%} missing, limit {at:.0%}): have its publishers stopped?"
                ),
            )
