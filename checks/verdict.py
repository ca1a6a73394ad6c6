"""From single looks to a confirmed state: pure, so that a verdict can be replayed from its observations."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct
from msgspec.structs import replace

from checks.finding import State
from checks.observation import Observation, Occasion
from checks.reason import Reason
from checks.units import Duration

Looks = Annotated[int, Meta(ge=1, le=20)]

_MOST_TIMES: Final = 19
# Closer looks would see the same instant twice.
_LEAST_GAP_S: Final = 0.01
# Silence seen twice: the held connection went quiet and a fresh look got no answer either.
_SILENCE: Final = frozenset({Reason.TIMEOUT, Reason.PG_FROZEN, Reason.PG_ACCEPT_STALLED, Reason.NATS_FROZEN})
# States read from a control plane or spoken by the server itself; they need no second look.
_SPOKEN: Final = frozenset({State.ASLEEP, State.STARTING})


class ConfirmPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many looks alike decide, and when fresh ones follow the first that disagrees.

    Hard evidence (refused, 57P03, -ERR) is decided by the second look, soft evidence (timeout, slow, 5xx)
    by the third, a recovery by the second good look, unless told otherwise. `*_after` are the times of the
    confirming looks after the first, which took what it took; when more are needed than are listed, the
    regular looks decide. An empty list leaves it to them altogether.
    """

    soft_failures: Looks = 3
    soft_after: tuple[Duration, ...] = (Duration(0.25), Duration(1))
    hard_failures: Looks = 2
    hard_after: tuple[Duration, ...] = (Duration(0.05),)
    recoveries: Looks = 2
    recovery_after: tuple[Duration, ...] = (Duration(0.25),)

    def __post_init__(self) -> None:
        for name, times in self.times():
            if len(times) > _MOST_TIMES:
                raise ValueError(f"{name} lists more than {_MOST_TIMES} times")
            for before, after in zip((Duration(0), *times), times, strict=False):
                if after - before < _LEAST_GAP_S:
                    what = f"{after} follows {before}" if before else f"{after} is too soon"
                    raise ValueError(
                        f"{name}: {what}: the times count from the first look, ascend, and are at least"
                        f" {Duration(_LEAST_GAP_S)} apart"
                    )

    def times(self) -> tuple[tuple[str, tuple[Duration, ...]], ...]:
        """Each list of times under its key."""
        return (
            ("soft_after", self.soft_after),
            ("hard_after", self.hard_after),
            ("recovery_after", self.recovery_after),
        )


class Verdict(Struct, frozen=True, kw_only=True):
    """The confirmed state of one target, and how far the next one is confirmed.

    `since_s` is the wall second of the first look that showed this state. `observation` is the latest look
    that agrees with the state; None before the first. `doubt` counts the looks in a row that disagree,
    `doubt_since_s` is when they began, and `doubt_good` whether they were good ones.
    """

    state: State = State.UNKNOWN
    reason: Reason = Reason.NOT_YET
    message: str = "no look has finished yet"
    since_s: float = 0.0
    observation: Observation | None = None
    doubt: int = 0
    doubt_since_s: float = 0.0
    doubt_good: bool = False

    @property
    def in_doubt(self) -> bool:
        """Whether the latest look disagrees with the confirmed state."""
        return self.doubt > 0


def step(verdict: Verdict, observation: Observation, policy: ConfirmPolicy) -> tuple[Verdict, float | None]:
    """The next verdict, and in how many seconds a further look should confirm (None: at the next slot)."""
    finding = observation.finding
    if finding.state == verdict.state:
        return _settled(verdict, observation, since_s=verdict.since_s), None
    good = finding.state is State.UP
    # Bad looks of different kinds count together; a good one begins anew, and so does a bad one after it.
    goes_on = verdict.doubt > 0 and verdict.doubt_good == good
    doubt = _weight(observation) + (verdict.doubt if goes_on else 0)
    since_s = verdict.doubt_since_s if goes_on else observation.at_s
    if doubt >= _needed(verdict, observation, policy):
        return _settled(verdict, observation, since_s=since_s), None
    doubted = replace(verdict, doubt=doubt, doubt_since_s=since_s, doubt_good=good)
    return doubted, _confirm_after_s(doubt, observation, policy)


def _settled(verdict: Verdict, observation: Observation, *, since_s: float) -> Verdict:
    finding = observation.finding
    return replace(
        verdict,
        state=finding.state,
        reason=finding.reason,
        message=finding.message,
        since_s=since_s,
        observation=observation,
        doubt=0,
        doubt_since_s=0.0,
        doubt_good=False,
    )


def _weight(observation: Observation) -> int:
    """A look called by a sentinel has the sentinel as its first witness."""
    if observation.occasion is not Occasion.SENTINEL or observation.finding.state is State.UP:
        return 1
    return 2 if observation.finding.hard or observation.finding.reason in _SILENCE else 1


def _needed(verdict: Verdict, observation: Observation, policy: ConfirmPolicy) -> int:
    finding = observation.finding
    if finding.state in _SPOKEN:
        return 1
    if finding.state is State.UP:
        # Nothing bad was ever confirmed before the first verdict, so one good look says it.
        return 1 if verdict.reason is Reason.NOT_YET else policy.recoveries
    if finding.hard or _weight(observation) > 1:
        return policy.hard_failures
    return policy.soft_failures


def _confirm_after_s(doubt: int, observation: Observation, policy: ConfirmPolicy) -> float | None:
    if observation.finding.state is State.UP:
        times = policy.recovery_after
    elif observation.finding.hard:
        times = policy.hard_after
    else:
        times = policy.soft_after
    if doubt > len(times):
        return None
    return times[doubt - 1] - (times[doubt - 2] if doubt > 1 else 0.0)
