"""Several instances of one service: what they are together, said as how many of how many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from checks.finding import State
from checks.reason import Reason
from checks.target import Target, TargetKey
from checks.verdict import Verdict

# Other vantages are ways to one thing, such as its public address; these are the things themselves.
INSTANCE: Final = "instance_"
ANSWERING: Final = frozenset({State.UP, State.DEGRADED})
_NAMED: Final = 3
_ONE_AND_MORE: Final = {
    State.DOWN: ("does not answer", "do not answer"),
    State.DEGRADED: ("is degraded", "are degraded"),
    State.UNKNOWN: ("is not seen", "are not seen"),
    State.STARTING: ("is starting", "are starting"),
    State.ASLEEP: ("is asleep", "are asleep"),
    State.UP: ("answers", "answer"),
}

Part = tuple[Target, Verdict]


def groups(targets: Iterable[Target]) -> dict[TargetKey, tuple[Target, ...]]:
    """The instances of one thing under the key of the first, where there are two at least."""
    found: dict[tuple[str, str, str], list[Target]] = {}
    for target in targets:
        key = target.key
        if key.vantage.startswith(INSTANCE):
            found.setdefault((key.env, key.service, key.check), []).append(target)
    return {members[0].key: tuple(members) for members in found.values() if len(members) > 1}


def together(parts: Sequence[Part]) -> Verdict:
    """What all instances are: down only when none of those that are looked at is up or degraded.

    What is not looked at yet, or is starting, may still answer: until that is known nothing is down.
    """
    if any(verdict.state in ANSWERING for _, verdict in parts):
        return _some_answer(parts)
    down = _those(parts, State.DOWN)
    waiting = [part for part in parts if part[1].state is State.STARTING or part[1].reason is Reason.NOT_YET]
    if down and not waiting:
        return _verdict(parts, State.DOWN, max(down, key=_since_s))
    for state in (State.UNKNOWN, State.STARTING, State.ASLEEP):
        if of_it := _those(parts, state):
            return _verdict(parts, state, min(of_it, key=_since_s))
    return Verdict()


def _some_answer(parts: Sequence[Part]) -> Verdict:
    for state in (State.DOWN, State.DEGRADED):
        if of_it := _those(parts, state):
            return replace(_verdict(parts, state, min(of_it, key=_since_s)), state=State.DEGRADED)
    if unseen := _those(parts, State.UNKNOWN):
        return _verdict(parts, State.UNKNOWN, min(unseen, key=_since_s))
    # Asleep and starting instances need nobody as long as another one answers.
    return _verdict(parts, State.UP, max(_those(parts, State.UP), key=_since_s))


def _verdict(parts: Sequence[Part], state: State, decider: Part) -> Verdict:
    return replace(
        decider[1], state=state, message=_message(parts, state),
        doubt=max(verdict.doubt for _, verdict in parts),
    )  # fmt: skip


def _message(parts: Sequence[Part], state: State) -> str:
    """`1 of 3 instances does not answer: http://10.0.0.3:8003: nobody listens there`."""
    of_it = _those(parts, state)
    # Those that do not answer are said first, also while it is not known whether any other does.
    said = [state] if state is State.UP else [State.DOWN, state]
    counts = [
        f"{len(found)} of {len(parts)} instances {_verb(one, len(found))}"
        for one in dict.fromkeys(said)
        if (found := _those(parts, one))
    ]
    others = [
        f"{len(found)} {_verb(one, len(found))}"
        for one in (State.DEGRADED, State.UNKNOWN, State.STARTING, State.ASLEEP)
        if one not in said and (found := _those(parts, one))
    ]
    text = ", ".join((*counts, *others))
    if state in (State.UP, State.ASLEEP):
        return text
    named = [_named(*part) for part in (_those(parts, State.DOWN) or of_it)]
    more = f"; and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return f"{text}: {'; '.join(named[:_NAMED])}{more}"


def _named(target: Target, verdict: Verdict) -> str:
    place = target.address.partition("://")[2] or target.address
    if place.partition("/")[0] in verdict.message:
        return verdict.message
    return f"{target.address}: {verdict.message}"


def _verb(state: State, count: int) -> str:
    one, more = _ONE_AND_MORE[state]
    return one if count == 1 else more


def _those(parts: Sequence[Part], state: State) -> list[Part]:
    return [part for part in parts if part[1].state is state]


def _since_s(part: Part) -> float:
    return part[1].since_s
