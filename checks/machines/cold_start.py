"""How long woken machines take until they are healthy: a histogram of its own, not the app's latency."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable
from typing import Final

from checks.finding import Measure
from checks.machines.api import Machine, seconds
from checks.machines.wakes import Start

NAME: Final = "gaia_machine_cold_start_seconds"
_EDGES_S: Final = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_LONGEST_S: Final = 900.0
_PASSING: Final = "passing"


class ColdStarts:
    """Follows each start until its machine is healthy; counts since the agent began."""

    def __init__(self) -> None:
        self._waiting: dict[str, Start] = {}
        self._buckets = [0] * (len(_EDGES_S) + 1)
        self._sum_s = 0.0

    def began(self, starts: Iterable[Start]) -> None:
        """Machines started just now. A crash that is restarted is no cold start."""
        for start in starts:
            if not start.restart:
                self._waiting[start.machine] = start

    def started_at(self, machine: str) -> float | None:
        """The wall second of a start whose machine has not been healthy since."""
        start = self._waiting.get(machine)
        return None if start is None else start.at_s

    def look(self, machines: Iterable[Machine], answered: Collection[str], *, now_s: float) -> None:
        """`answered`: the machines that answered the agent at this wall second."""
        by_id = {machine.id: machine for machine in machines}
        for id_, start in tuple(self._waiting.items()):
            machine = by_id.get(id_)
            if machine is None or machine.state != "started" or now_s - start.at_s > _LONGEST_S:
                del self._waiting[id_]
                continue
            healthy_s = _healthy_at(machine, start, now_s if id_ in answered else None)
            if healthy_s is not None:
                del self._waiting[id_]
                self._count(healthy_s - start.at_s)

    def measures(self) -> tuple[Measure, ...]:
        """The histogram's parts; empty before the first."""
        count = self._buckets[-1]
        if not count:
            return ()
        edges = (*map(str, _EDGES_S), "+Inf")
        return (
            *(
                Measure(name=f"{NAME}_bucket", value=float(many), labels=(("le", edge),))
                for edge, many in zip(edges, self._buckets, strict=True)
            ),
            Measure(name=f"{NAME}_count", value=float(count)),
            Measure(name=f"{NAME}_sum", value=self._sum_s),
        )

    def _count(self, took_s: float) -> None:
        for index in range(bisect_left(_EDGES_S, took_s), len(self._buckets)):
            self._buckets[index] += 1
        self._sum_s += took_s


def _healthy_at(machine: Machine, start: Start, answered_s: float | None) -> float | None:
    """By the platform's own checks, which know to the second; else by the first answer we got."""
    checks = machine.checks or ()
    changed = [seconds(check.updated_at) for check in checks]
    if checks and all(check.status == _PASSING for check in checks) and None not in changed:
        latest = max(at_s for at_s in changed if at_s is not None)
        if latest >= start.at_s:
            return latest
    return answered_s
