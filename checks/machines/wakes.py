"""Who wakes what sleeps, how often, and what being awake for nobody costs: pure, from what was seen.

Each start is paired with what came just before it: a request of the agent through the proxy, a look at the
health of a service that depends on this one and may have asked on, or users' requests.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Final

from msgspec import Struct

from checks.apps import HOUR_S, HOURS_KEPT, Ask, Asker, Usage
from checks.machines.api import Machine
from checks.machines.price import dollars_per_hour

_WAKING: Final = frozenset({"start", "resume"})
_DAY_S: Final = 86400.0
# A machine is started within two seconds of the request that needs it; its clock may be a little off.
_BEFORE_S: Final = 2.0
_AFTER_S: Final = 0.5
# Users' requests are known by their service's own counter, which is read every half minute at best.
_COUNTED_WITHIN_S: Final = 45.0
_RESTART_WITHIN_S: Final = 60.0
_LONGEST_GAP_S: Final = 300.0
_MOST: Final = 5000


class Waker(StrEnum):
    """What came just before a start; a metric label."""

    AGENT = "agent"
    HEALTH = "health"
    USERS = "users"
    OPERATOR = "operator"
    RESTART = "restart"
    UNKNOWN = "unknown"


class Wake(Struct, frozen=True, kw_only=True):
    """One start of one machine (wall second), what came before it, and the service asked then."""

    machine: str
    at_s: float
    by: Waker
    what: str = ""


class Start(Struct, frozen=True, kw_only=True, order=True):
    """One start as the API tells it. `restart`: the machine had just ended by itself."""

    at_s: float
    machine: str
    source: str = ""
    restart: bool = False


class Report(Struct, frozen=True, kw_only=True):
    """The last day, as far as it was watched. None: it cannot be known without the users' requests."""

    wakes: dict[Waker, int]
    last_by_health: Wake | None
    awake_s: float
    idle_s: float | None
    idle_dollars: float | None


class _Hour(Struct):
    awake_s: float = 0.0
    dollars: float = 0.0


class WakeAudit:
    """Remembers a day of starts and of being awake."""

    def __init__(self) -> None:
        self._known: deque[Start] = deque(maxlen=_MOST)
        self._pending: list[Start] = []
        self._wakes: deque[Wake] = deque(maxlen=_MOST)
        self._hours: dict[int, _Hour] = {}
        self._taken_s: float | None = None

    def take(
        self, machines: Sequence[Machine], asks: Sequence[Ask], usage: Usage | None, *, now_s: float
    ) -> tuple[Start, ...]:
        """One look at the list (wall second). Gives the starts not seen before, oldest first."""
        fresh = self._fresh(machines, now_s)
        self._known.extend(fresh)
        self._pending += fresh
        self._settle(asks, usage, now_s)
        self._stay(machines, now_s)
        return fresh

    def report(self, usage: Usage | None, *, now_s: float) -> Report:
        """What is known of the last day. Starts of the last seconds may not have a cause yet."""
        since_s = now_s - _DAY_S
        wakes = [wake for wake in self._wakes if wake.at_s >= since_s]
        first = int(since_s // HOUR_S) + 1
        hours = {hour: spent for hour, spent in self._hours.items() if hour >= first}
        idle = None
        if usage is not None and usage.since_s is not None:
            # Only hours that were heard from their first minute on can be told to have had no request.
            heard = usage.since_s // HOUR_S + (usage.since_s % HOUR_S > 0)
            idle = [
                spent
                for hour, spent in hours.items()
                if hour >= heard and not usage.by_hour.get(hour) and spent.awake_s
            ]
        return Report(
            wakes=dict(Counter(wake.by for wake in wakes)),
            last_by_health=max(
                (wake for wake in wakes if wake.by is Waker.HEALTH), key=lambda wake: wake.at_s, default=None
            ),
            awake_s=sum(spent.awake_s for spent in hours.values()),
            idle_s=None if idle is None else sum(spent.awake_s for spent in idle),
            idle_dollars=None if idle is None else sum(spent.dollars for spent in idle),
        )

    def by_agent(self, *, since_s: float) -> Wake | None:
        """The latest start since then that a request of the agent itself caused."""
        return next(
            (wake for wake in reversed(self._wakes) if wake.by is Waker.AGENT and wake.at_s >= since_s), None
        )

    def _fresh(self, machines: Sequence[Machine], now_s: float) -> tuple[Start, ...]:
        known = {(start.machine, start.at_s) for start in self._known}
        found = [start for machine in machines for start in starts(machine)]
        return tuple(
            sorted(
                start
                for start in found
                if start.at_s > now_s - _DAY_S and (start.machine, start.at_s) not in known
            )
        )

    def _settle(self, asks: Sequence[Ask], usage: Usage | None, now_s: float) -> None:
        waiting: list[Start] = []
        for start in self._pending:
            wake = attribute(start, asks, usage)
            if wake.by is Waker.UNKNOWN and now_s - start.at_s < _COUNTED_WITHIN_S:
                # The counter that would tell of its users may not have been read yet.
                waiting.append(start)
            else:
                self._wakes.append(wake)
        self._pending = waiting

    def _stay(self, machines: Sequence[Machine], now_s: float) -> None:
        before_s, self._taken_s = self._taken_s, now_s
        if before_s is None or not 0 < now_s - before_s <= _LONGEST_GAP_S:
            return
        hour = int(before_s // HOUR_S)
        spent = self._hours.setdefault(hour, _Hour())
        for machine in machines:
            if machine.state == "started":
                spent.awake_s += now_s - before_s
                spent.dollars += (now_s - before_s) / HOUR_S * dollars_per_hour(machine.config.guest)
        for old in [one for one in self._hours if one <= hour - HOURS_KEPT]:
            del self._hours[old]


def starts(machine: Machine) -> Iterator[Start]:
    """The starts among a machine's events."""
    exits = [at_s for at_s, how in machine.exits() if not how.requested_stop]
    for event in machine.events or ():
        if event.type in _WAKING:
            restart = any(0 <= event.at_s - at_s <= _RESTART_WITHIN_S for at_s in exits)
            yield Start(at_s=event.at_s, machine=machine.id, source=event.source, restart=restart)


def attribute(start: Start, asks: Sequence[Ask], usage: Usage | None) -> Wake:
    """The most direct of what came before: ours to this app, a person, a crash, its users, a health look."""
    near = [ask for ask in asks if -_AFTER_S <= start.at_s - ask.at_s <= _BEFORE_S]
    own = next((ask for ask in reversed(near) if ask.by is Asker.AGENT), None)
    health = next((ask for ask in reversed(near) if ask.by is Asker.HEALTH), None)
    if own is not None:
        by, what = Waker.AGENT, own.what
    elif start.source == "user":
        by, what = Waker.OPERATOR, ""
    elif start.restart:
        by, what = Waker.RESTART, ""
    elif usage is not None and usage.counted_between(start.at_s - _BEFORE_S, start.at_s + _COUNTED_WITHIN_S):
        by, what = Waker.USERS, ""
    elif health is not None:
        by, what = Waker.HEALTH, health.what
    else:
        by, what = Waker.UNKNOWN, ""
    return Wake(machine=start.machine, at_s=start.at_s, by=by, what=what)
