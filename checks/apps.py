"""What the checks of one process know of the platform's apps and need of each other: one shared notebook.

A request through Fly.io's proxy starts a stopped machine, so whoever sends one says so here; the machines
check compares it with the starts it sees. Everything is bounded and forgotten within a day.
"""

from __future__ import annotations

from collections import defaultdict, deque
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from msgspec import Struct

if TYPE_CHECKING:
    from checks.machines.api import Machine

_PROXIED: Final = (".fly.dev", ".flycast")
_ASKS_KEPT: Final = 256
_SOURCES_KEPT: Final = 64
HOUR_S: Final = 3600.0
HOURS_KEPT: Final = 25

# An environment and a service in it.
Name = tuple[str, str]


class Asker(StrEnum):
    """Who sent something that may start a machine."""

    AGENT = "agent"
    HEALTH = "health"


class Ask(Struct, frozen=True, kw_only=True):
    """One request of ours (wall second). `what`: the service that was asked.

    AGENT: it went to this app through the proxy. HEALTH: it asked the health of a service that depends on
    this one, which may have asked on.
    """

    at_s: float
    by: Asker
    what: str


class Listed(Struct, frozen=True, kw_only=True):
    """The Machines API's list of one app, and when it was read (monotonic seconds)."""

    at_s: float
    machines: tuple[Machine, ...]


class Usage:
    """Requests of users at one service, by hour."""

    __slots__ = ("_last", "_recent_s", "by_hour", "since_s")

    def __init__(self) -> None:
        self.by_hour: dict[int, int] = {}
        self.since_s: float | None = None
        self._recent_s: deque[float] = deque(maxlen=_ASKS_KEPT)
        self._last: dict[str, tuple[str, int]] = {}

    def count(self, source: str, incarnation: str, total: int, *, at_s: float, born_s: float | None) -> None:
        """Take a source's cumulative counter.

        What it counted before anything was heard of this service is nobody's hour; a source born since
        (`born_s`, wall second) counts from its start.
        """
        known = self._last.pop(source, None)
        self._last[source] = (incarnation, total)
        if len(self._last) > _SOURCES_KEPT:
            del self._last[next(iter(self._last))]
        if known is None:
            more = total if born_s is not None and self.since_s is not None and born_s >= self.since_s else 0
        else:
            more = total - known[1] if known[0] == incarnation else total
        if self.since_s is None:
            self.since_s = at_s
        if more > 0:
            self._recent_s.append(at_s)
            hour = int(at_s // HOUR_S)
            self.by_hour[hour] = self.by_hour.get(hour, 0) + more
            for old in [one for one in self.by_hour if one <= hour - HOURS_KEPT]:
                del self.by_hour[old]

    @property
    def last_s(self) -> float | None:
        """The wall second at which new requests were counted last."""
        return self._recent_s[-1] if self._recent_s else None

    def counted_between(self, start_s: float, end_s: float) -> bool:
        """Whether new requests were counted then."""
        return any(start_s <= at_s <= end_s for at_s in self._recent_s)


class Apps:
    """The notebook. Everything is called on one event loop."""

    def __init__(self) -> None:
        self._listed: dict[str, Listed] = {}
        self._asks: defaultdict[Name, deque[Ask]] = defaultdict(lambda: deque(maxlen=_ASKS_KEPT))
        self._usage: dict[Name, Usage] = {}

    def saw(self, app: str, machines: tuple[Machine, ...], *, at_s: float) -> None:
        """The machines of one Fly.io app, as the API listed them at this monotonic second."""
        self._listed[app] = Listed(at_s=at_s, machines=machines)

    def listed(self, app: str) -> Listed | None:
        return self._listed.get(app)

    def asked(self, name: Name, ask: Ask) -> None:
        self._asks[name].append(ask)

    def asks(self, name: Name) -> tuple[Ask, ...]:
        """The latest requests of ours that may have started this service, oldest first."""
        return tuple(self._asks.get(name, ()))

    def used(self, name: Name) -> Usage:
        """Where a service's own counters of its users' requests, probes apart, are to be counted."""
        return self._usage.setdefault(name, Usage())

    def usage(self, name: Name) -> Usage | None:
        """None when nobody ever told how much this service is used."""
        return self._usage.get(name)


def proxied_app(url: str) -> str | None:
    """The Fly.io app that a request to `url` would start, through Fly.io's proxy; None when none would be."""
    lowered = url.lower()
    if not any(suffix in lowered for suffix in _PROXIED):
        return None  # Asked for each look, and taking an address apart costs as much as the look.
    host = urlsplit(url).hostname or ""
    return host.partition(".")[0] if host.endswith(_PROXIED) else None
