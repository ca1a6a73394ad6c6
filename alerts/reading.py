"""What one evaluation of a rule's signal says: BAD, GOOD or UNKNOWN, with the number and its evidence."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Outcome(StrEnum):
    """What the evidence says. UNKNOWN is neither: it pauses clocks and never resolves."""

    BAD = "bad"
    GOOD = "good"
    UNKNOWN = "unknown"


class Unknown(StrEnum):
    """Why nothing is known."""

    STALE = "stale"
    NO_TRAFFIC = "no_traffic"
    INSUFFICIENT = "insufficient"
    EVAL_ERROR = "eval_error"
    ASLEEP = "asleep"
    AGENT_GAP = "agent_gap"
    ISOLATED = "isolated"


class Reading(Struct, frozen=True, kw_only=True):
    """One evaluation: the outcome, and what a person needs to believe it.

    `at_s` is when the newest evidence was seen (wall seconds): a reading is fresh when it is newer than the
    one before. `looks` is how many looks stand behind it (a confirmed verdict stands on two). `hard` says
    that the evidence is about this target alone, so no cause elsewhere explains it. `vouched` says that
    synthetic probes are good while there is no traffic.
    """

    outcome: Outcome
    at_s: float
    text: str = ""
    value: float | None = None
    threshold: float | None = None
    why: Unknown | None = None
    looks: int = 1
    hard: bool = False
    vouched: bool = False


def unknown(why: Unknown, at_s: float, text: str = "", *, vouched: bool = False) -> Reading:
    """A reading that says why nothing is known."""
    return Reading(outcome=Outcome.UNKNOWN, at_s=at_s, why=why, text=text, vouched=vouched)
