"""From single looks to a confirmed state: pure, so that a verdict can be replayed from its observations."""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from checks.finding import State
from checks.observation import Observation, Occasion
from checks.reason import Reason

# Silence seen twice: the held connection went quiet and a fresh look got no answer either.
_SILENCE: Final = frozenset({Reason.TIMEOUT, Reason.PG_FROZEN, Reason.PG_ACCEPT_STALLED, Reason.NATS_FROZEN})
# States read from a control plane or spoken by the server itself; they need no second look.
_SPOKEN: Final = frozenset({State.ASLEEP, State.STARTING})


class ConfirmPolicy(Struct, frozen=True, kw_only=True):
    """How many fresh looks decide, and how soon they follow (seconds).

    Hard evidence (refused, 57P03, -ERR) is decided by the second look, soft evidence (timeout, slow, 5xx)
    by the third, at about +0.25 s and +1 s after the first; a recovery by the second good look.
    Source: DESIGN §4.
    """

    hard_looks: int = 2
    soft_looks: int = 3
    recovery_looks: int = 2
    hard_after_s: float = 0.05
    soft_after_s: tuple[float, ...] = (0.25, 0.75)
    recovery_after_s: float = 0.25


class Verdict(Struct, frozen=True, kw_only=True):
    """The confirmed state of one target, and how far the next one is confirmed.

    `since_s` is the wall second of the first look that showed this state. `observation` is the latest look
    that agrees with the state; None before the first. `doubt` counts the looks in a row that disagree and
    `doubt_since_s` is when they began.
    """

    state: State = State.UNKNOWN
    reason: Reason = Reason.NOT_YET
    message: str = "no look has finished yet"
    since_s: float = 0.0
    observation: Observation | None = None
    doubt: int = 0
    doubt_since_s: float = 0.0

    @property
    def in_doubt(self) -> bool:
        """Whether the latest look disagrees with the confirmed state."""
        return self.doubt > 0


def step(verdict: Verdict, observation: Observation, policy: ConfirmPolicy) -> tuple[Verdict, float | None]:
    """The next verdict, and in how many seconds a further look should confirm (None: at the next slot)."""
    finding = observation.finding
    if finding.state == verdict.state:
        return _settled(verdict, observation, since_s=verdict.since_s), None
    doubt = verdict.doubt + _weight(observation)
    since_s = verdict.doubt_since_s if verdict.doubt else observation.at_s
    if doubt >= _needed(verdict, observation, policy):
        return _settled(verdict, observation, since_s=since_s), None
    doubted = replace(verdict, doubt=doubt, doubt_since_s=since_s)
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
        return 1 if verdict.reason is Reason.NOT_YET else policy.recovery_looks
    if finding.hard or _weight(observation) > 1:
        return policy.hard_looks
    return policy.soft_looks


def _confirm_after_s(doubt: int, observation: Observation, policy: ConfirmPolicy) -> float:
    if observation.finding.state is State.UP:
        return policy.recovery_after_s
    if observation.finding.hard:
        return policy.hard_after_s
    return policy.soft_after_s[min(doubt, len(policy.soft_after_s)) - 1]
