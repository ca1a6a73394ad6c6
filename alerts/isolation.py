"""Is it us? When nearly nothing answers, nor does any place outside, the agent holds its tongue. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from alerts.canary import Canary
from checks.finding import State
from checks.reason import Reason
from checks.target import Kind, Target, TargetKey
from checks.verdict import Verdict

_SHARE: Final = 0.8
_A_FEW: Final = 2
# A canary that does not say anything either way must not hold a page for long.
_ANSWER_WITHIN_S: Final = 5.0
_ASK_EVERY_S: Final = 5.0
_BELIEVED_S: Final = 10.0
_TRY_EVERY_S: Final = 60.0
# A look may last as long as its timeout, and is then confirmed.
_CONFIRMED_WITHIN_S: Final = 10.0
_NOTHING_CAME_BACK: Final = frozenset({
    Reason.AGENT, Reason.TIMEOUT, Reason.DNS, Reason.CONNECTION_REFUSED, Reason.CONNECTION_RESET,
    Reason.CONNECTION_CLOSED, Reason.UNREACHABLE, Reason.PG_REFUSED, Reason.PG_DNS, Reason.PG_UNREACHABLE,
    Reason.PG_FROZEN, Reason.NATS_REFUSED, Reason.NATS_DNS, Reason.NATS_UNREACHABLE, Reason.NATS_FROZEN,
    Reason.NET_DNS_TIMEOUT, Reason.NET_BLACKHOLE, Reason.FLY_CONTROL_PLANE,
})  # fmt: skip
_UNDECIDED: Final = frozenset({State.ASLEEP, State.STARTING})


class Reach(StrEnum):
    """What is known of the agent's own reach."""

    CLEAR = "clear"
    ASKING = "asking"
    CUT_OFF = "cut_off"
    RETURNING = "returning"


class Isolation:
    """Counts silent targets and weighs what the canaries answer. Changed only by the judge.

    While `holds`, nobody is told anything new; while `blind`, nothing that is seen counts as evidence.
    `since_s` is when `reach` became what it is, `cut_off_s` when it was last found to be cut off.
    """

    def __init__(self, targets: Iterable[Target], canaries: tuple[Canary, ...], interval_s: float) -> None:
        self.reach = Reach.CLEAR
        self.since_s = self.cut_off_s = 0.0
        self._silent: set[TargetKey] = set()
        self._undecided: set[TargetKey] = set()
        self._heard = False
        self._proven = False
        self._asked_s = self._believed_s = 0.0
        # Since when something outside answers again; looks before that say nothing.
        self.back_s = 0.0
        self.replan(targets, canaries, interval_s)

    def replan(self, targets: Iterable[Target], canaries: tuple[Canary, ...], interval_s: float) -> None:
        """Take over the targets and canaries of a plan."""
        self._afar = frozenset(target.key for target in targets if _afar(target))
        self._silent &= self._afar
        self._undecided &= self._afar
        self._interval_s = interval_s
        self._proven = self._proven and bool(canaries)
        self.canaries = canaries

    @property
    def blind(self) -> bool:
        """Whether what is seen now says more about the agent than about anything else."""
        return self.reach in (Reach.CUT_OFF, Reach.RETURNING)

    @property
    def holds(self) -> bool:
        """Whether nobody may be told of anything new."""
        return self.reach is not Reach.CLEAR

    @property
    def everything(self) -> bool:
        """Whether nearly nothing answers, of more than a few targets: one fault, whosever it is."""
        return len(self._silent) > _A_FEW and self._nearly_all_silent()

    def may_be_us(self, key: TargetKey) -> bool:
        """Whether nothing came back from this one of several targets: the others may be about to follow."""
        return key in self._silent and len(self._afar) > _A_FEW

    def saw(self, target: Target, verdict: Verdict, last: Reason) -> None:
        """Count one look: what it found (`last`) and the verdict it led to."""
        key = target.key
        if verdict.state is State.UP and not verdict.doubt:
            self._heard = True
            if self._silent or self._undecided:
                self._silent.discard(key)
                self._undecided.discard(key)
            return
        if key not in self._afar:
            return
        quiet = last in _NOTHING_CAME_BACK
        self._heard = self._heard or not quiet
        (self._silent.add if quiet else self._silent.discard)(key)
        (self._undecided.add if verdict.state in _UNDECIDED else self._undecided.discard)(key)

    def weigh(self, now_s: float, *, seen_again: bool = False) -> bool:
        """Go on with what is known at `now_s`; True when the canaries should be looked at now.

        `seen_again`: every target was looked at, and settled, since something outside answered again.
        """
        if not self._usable:
            self._to(Reach.CLEAR, now_s)
            return bool(self.canaries) and self._due(now_s, _TRY_EVERY_S)
        silent = self._nearly_all_silent()
        match self.reach:
            case Reach.CLEAR if silent and not _within(now_s, self._believed_s, _BELIEVED_S):
                return self._ask(now_s)
            case Reach.CLEAR:
                return not self._proven and self._due(now_s, _TRY_EVERY_S)
            case Reach.ASKING:
                if not silent or not _within(now_s, self.since_s, _ANSWER_WITHIN_S):
                    self._believe(now_s)
                return False
            case Reach.CUT_OFF if silent:
                return self._due(now_s, _ASK_EVERY_S)
            case Reach.CUT_OFF:
                self._return(now_s)
                return False
            case _:
                if not seen_again and _within(now_s, self.back_s, self._interval_s + _CONFIRMED_WITHIN_S):
                    return False
                if silent:
                    return self._ask(now_s)
                self._believe(now_s)
                return False

    def answered(self, *, reachable: bool, now_s: float) -> None:
        """What the canaries said: `reachable` when any of them answered."""
        self._proven = self._proven or reachable
        if self.reach is Reach.ASKING:
            if reachable:
                self._believe(now_s)
            else:
                self._to(Reach.CUT_OFF, now_s)
        elif self.reach is Reach.CUT_OFF and reachable:
            self._return(now_s)

    def silent(self) -> tuple[TargetKey, ...]:
        """The targets from which nothing came back at the last look."""
        return tuple(self._silent)

    def said(self) -> str:
        """One sentence for people while it is cut off; empty otherwise."""
        if not self.blind:
            return ""
        if self.reach is Reach.RETURNING:
            return "was cut off; everything is looked at again before anything is judged"
        places = ", ".join(map(str, self.canaries[:4]))
        return (
            f"the agent is cut off: {len(self._silent)} of {len(self._afar)} targets do not answer, nor does "
            f"{places}; nothing is judged and nobody is called until one does: look at the agent's network"
        )

    def lacks(self) -> str:
        """What the guard has to do without, in one sentence; empty when it has what it needs."""
        if not self.canaries:
            return "no canary is configured, so the agent cannot tell when it is cut off: set alerts.canaries"
        if not self._usable:
            places = ", ".join(map(str, self.canaries[:4]))
            return f"no canary ever answered though targets do, so none is believed: mend {places}"
        return ""

    @property
    def _usable(self) -> bool:
        """A canary that never answered while targets did is broken: it must not hold back a page."""
        return bool(self.canaries) and (self._proven or not self._heard)

    def _nearly_all_silent(self) -> bool:
        counted = len(self._afar) - len(self._undecided)
        silent = len(self._silent - self._undecided) if self._undecided else len(self._silent)
        return 0 < _SHARE * counted <= silent

    def _due(self, now_s: float, every_s: float) -> bool:
        if _within(now_s, self._asked_s, every_s):
            return False
        self._asked_s = now_s
        return True

    def _ask(self, now_s: float) -> bool:
        self._asked_s = now_s
        self._to(Reach.ASKING, now_s)
        return True

    def _believe(self, now_s: float) -> None:
        self._believed_s = now_s
        self._to(Reach.CLEAR, now_s)

    def _return(self, now_s: float) -> None:
        self.back_s = now_s
        self._to(Reach.RETURNING, now_s)

    def _to(self, reach: Reach, now_s: float) -> None:
        if reach is not self.reach:
            if reach is Reach.CUT_OFF:
                self.cut_off_s = now_s
            self.since_s = now_s
            self.reach = reach


def _within(now_s: float, began_s: float, lasts_s: float) -> bool:
    """Whether `now_s` lies in the time that began then; a clock that was set back ends it."""
    return 0 <= now_s - began_s < lasts_s


def _afar(target: Target) -> bool:
    """Whether a target is reached over the network: what has no host and port is looked at right here."""
    return target.kind is not Kind.HOST and ":" in target.address
