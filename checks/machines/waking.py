"""One app's waking as its check follows it: the audit, cold starts, and leaving idle machines alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from checks.apps import Name, Usage
from checks.catalog import ProbeKit
from checks.finding import Measure, State
from checks.machines.api import Machine
from checks.machines.cold_start import ColdStarts
from checks.machines.options import MachinesOptions
from checks.machines.seen import Seen
from checks.machines.wakes import Report, WakeAudit, Waker
from checks.problem import Problem
from checks.reason import Reason

_IDLE_CYCLES: Final = 3
_OWN_TOLD_S: Final = 600.0
# From as many a day on, and when they are the larger part, wakes by health looks are worth a word.
_MANY_WAKES: Final = 24
_LONG_IDLE_S: Final = 6 * 3600.0


class Waking:
    """What the check remembers of its app's starts, and says of them."""

    def __init__(self, options: MachinesOptions, kit: ProbeKit, name: Name) -> None:
        self._options = options
        self._kit = kit
        self._name = name
        self._audit = WakeAudit()
        self._cold = ColdStarts()
        self._idle = 0
        self._looked_s = float("-inf")
        self._started: frozenset[str] = frozenset()

    def listed(self, machines: tuple[Machine, ...]) -> None:
        """A fresh list of the machines."""
        now_s = self._kit.clock.wall_s()
        starts = self._audit.take(machines, self._kit.apps.asks(self._name), self._usage, now_s=now_s)
        self._cold.began(starts)

    def healthy(self, seen: Seen, answered: Collection[str]) -> None:
        """The end of a look: which machines answered."""
        self._cold.look(seen.machines or (), answered, now_s=seen.at_s)

    def may_ask(self, seen: Seen) -> bool:
        """False for an app that may sleep and has met no user for three looks: then its state is enough.

        A request to it, or another machine started, ends that. Where requests are not known, it is asked.
        """
        started = frozenset(machine.id for machine in seen.machines or () if machine.state == "started")
        changed, self._started = started != self._started, started
        before_s, self._looked_s = self._looked_s, seen.at_s
        usage = self._usage
        if self._options.minimum > 0 or usage is None:
            return True
        used = usage.last_s is not None and usage.last_s >= before_s
        self._idle = 0 if used or changed else self._idle + 1
        return self._idle <= _IDLE_CYCLES

    def age_s(self, machine: str, seen: Seen) -> float | None:
        """Seconds since a machine that has not been healthy yet was started; None for the others."""
        started_s = self._cold.started_at(machine)
        return None if started_s is None else max(seen.at_s - started_s, 0.0)

    def problems(self, seen: Seen) -> Iterator[Problem]:
        """What is worth saying of who wakes the app; only the agent's own doing is a fault."""
        own = self._audit.by_agent(since_s=seen.at_s - _OWN_TOLD_S)
        if own is not None and self._options.minimum == 0:
            words = (
                f"the agent itself woke {seen.app}: machine {own.machine} was started within 2 s of a probe "
                f"of {own.what} through the proxy; remove wake: true, or probe it over the private network"
            )
            yield Problem(state=State.DEGRADED, reason=Reason.FLY_WOKEN_BY_AGENT, message=words, urgent=True)
        if self._options.minimum > 0:
            return
        report = self._audit.report(self._usage, now_s=seen.at_s)
        yield from _by_health(report, seen.app)
        if report.idle_s is not None and report.idle_s >= _LONG_IDLE_S:
            words = (
                f"{seen.app} was awake for {report.idle_s / 3600:.1f} machine hours of the last day without "
                f"one user request (about ${report.idle_dollars or 0:.2f}): see what keeps it awake"
            )
            yield Problem(state=State.UP, reason=Reason.FLY_WOKEN, message=words)

    def measures(self) -> Iterator[Measure]:
        """The audit's numbers; nothing before the first list."""
        report = self._audit.report(self._usage, now_s=self._kit.clock.wall_s())
        for waker in Waker:
            if waker in report.wakes:
                labels = (("by", waker.value),)
                yield Measure(
                    name="gaia_machine_wakes_last_day", value=float(report.wakes[waker]), labels=labels
                )
        numbers = (
            ("gaia_machine_awake_seconds_last_day", report.awake_s or None),
            ("gaia_machine_idle_seconds_last_day", report.idle_s),
            ("gaia_machine_idle_dollars_last_day", report.idle_dollars),
        )
        yield from (Measure(name=name, value=value) for name, value in numbers if value is not None)
        yield from self._cold.measures()

    @property
    def _usage(self) -> Usage | None:
        return self._kit.apps.usage(self._name)


def _by_health(report: Report, app: str) -> Iterator[Problem]:
    by_health, total = report.wakes.get(Waker.HEALTH, 0), sum(report.wakes.values())
    if by_health < _MANY_WAKES or by_health * 2 < total:
        return
    assert report.last_by_health is not None, "one of those that were counted"
    words = (
        f"{app} was woken {total} times in the last day, {by_health} of them within 2 s of a look at "
        f"{report.last_by_health.what}'s health: that service must answer from what is known, not ask on"
    )
    yield Problem(state=State.UP, reason=Reason.FLY_WOKEN, message=words)
