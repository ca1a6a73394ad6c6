"""One thing that is not as it should be; the worst of them is the finding's, the others its evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from checks.finding import SEVERITY, Evidence, Finding, Measure, PhaseTime, State
from checks.limits import Limit
from checks.reason import Reason


class Problem(Struct, frozen=True, kw_only=True):
    """A state with its reason and sentence. `urgent` marks a critical limit: it is told before a warning."""

    state: State
    reason: Reason
    message: str
    urgent: bool = False
    hard: bool = False


_RANK: Final = {state: rank for rank, state in enumerate(SEVERITY)}


def worst_first(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Down before degraded, critical before warning, otherwise in the order they were found."""
    return tuple(sorted(problems, key=lambda problem: (_RANK[problem.state], not problem.urgent)))


def over(
    limit: Limit | None,
    value: float | None,
    reason: Reason,
    message: Callable[[float], str],
    *,
    warn_state: State = State.DEGRADED,
    critical_state: State = State.DEGRADED,
) -> tuple[Problem, ...]:
    """A problem when `value` reaches a limit; `message` gets the limit that was reached."""
    if limit is None or value is None:
        return ()
    if limit.critical is not None and value >= limit.critical:
        return (Problem(state=critical_state, reason=reason, message=message(limit.critical), urgent=True),)
    if limit.warn is not None and value >= limit.warn:
        return (Problem(state=warn_state, reason=reason, message=message(limit.warn)),)
    return ()


def finding_of(
    problems: Iterable[Problem],
    *,
    fine: str,
    latency_s: float | None = None,
    phases: tuple[PhaseTime, ...] = (),
    measures: tuple[Measure, ...] = (),
    evidence: tuple[Evidence, ...] = (),
) -> Finding:
    """The worst problem as the finding, the next five as its evidence; `fine` is said when there is none."""
    ordered = worst_first(problems)
    first = ordered[0] if ordered else Problem(state=State.UP, reason=Reason.OK, message=fine)
    return Finding(
        state=first.state,
        reason=first.reason,
        message=first.message,
        hard=first.hard,
        latency_s=latency_s,
        phases=phases,
        measures=measures,
        evidence=evidence
        + tuple(Evidence(name=str(problem.reason), value=problem.message) for problem in ordered[1:6]),
    )
