"""Replays what was seen through rules: when each would have fired, for how long, and how often it flapped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import merge
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from alerts.journal import Journal
from alerts.judge import Judge
from alerts.machine import Step
from alerts.plan import JudgePlan
from alerts.requests import RequestSample
from alerts.view import Transition
from checks.observation import Observation
from checks.target import TargetKey
from checks.verdict import ConfirmPolicy, Verdict, step

_TICK_S: Final = 5.0
_SLEPT_S: Final = 600.0


class WouldHave(Struct, frozen=True, kw_only=True):
    """One episode a rule would have had. `resolved_s` None: still on at the end."""

    alertname: str
    component: str
    active_s: float
    fired_s: float
    resolved_s: float | None
    text: str


class Replay(Struct, frozen=True, kw_only=True):
    """What came of it. `from_s` and `to_s` bound what was seen."""

    episodes: tuple[WouldHave, ...]
    looks: int
    samples: int
    from_s: float
    to_s: float

    def flaps(self, *, within_s: float = 1800.0) -> int:
        """Episodes of the same alert that began soon after the one before ended."""
        last: dict[tuple[str, str], float] = {}
        count = 0
        for one in self.episodes:
            key = (one.alertname, one.component)
            if key in last and one.fired_s - last[key] < within_s:
                count += 1
            if one.resolved_s is not None:
                last[key] = one.resolved_s
        return count


def backtest(
    plan: JudgePlan,
    looks: Iterable[Observation],
    samples: Iterable[RequestSample],
    *,
    confirm: Mapping[TargetKey, ConfirmPolicy],
) -> Replay:
    """Judge the past as it was seen, both in order of time. Nobody is called and nothing is written.

    `confirm` holds how each target's looks become its verdict.
    """
    judge: Judge | None = None
    verdicts: dict[TargetKey, Verdict] = {}
    story = _Story()
    counted = {True: 0, False: 0}
    now_s = began_s = 0.0
    for at_s, thing in merge(_timed(looks), _timed(samples), key=lambda pair: pair[0]):
        if judge is None:
            began_s = now_s = at_s
            judge = Judge(replace(plan, receivers={}), Journal(None), now_s=at_s)
        now_s = _run(judge, story, now_s, at_s)
        counted[isinstance(thing, Observation)] += 1
        if isinstance(thing, RequestSample):
            judge.requests(thing)
            continue
        key = thing.target.key
        before = verdicts.get(key, Verdict())
        verdicts[key], _ = step(before, thing, confirm.get(key, ConfirmPolicy()))
        judge.observe(thing, verdicts[key])
        if verdicts[key].state is not before.state:
            story.take(judge.look(key, at_s))
    return Replay(
        episodes=story.episodes(), looks=counted[True], samples=counted[False], from_s=began_s, to_s=now_s
    )


def _timed(
    things: Iterable[Observation] | Iterable[RequestSample],
) -> Iterable[tuple[float, Observation | RequestSample]]:
    return ((thing.at_s, thing) for thing in things)


def _run(judge: Judge, story: _Story, now_s: float, until_s: float) -> float:
    if until_s - now_s > _SLEPT_S:
        # Nothing was seen for long: the agent did not run, and nothing is judged in between.
        judge.agent_gap(until_s)
        return until_s
    while now_s + _TICK_S <= until_s:
        now_s += _TICK_S
        story.take(judge.tick(now_s))
    return now_s


class _Story:
    def __init__(self) -> None:
        self._open: dict[str, tuple[float, Transition]] = {}
        self._active: dict[str, float] = {}
        self._done: list[WouldHave] = []

    def take(self, transitions: Iterable[Transition]) -> None:
        for one in transitions:
            if one.what is Step.ACTIVE:
                self._active[one.fingerprint] = one.at_s
            elif one.what is Step.FIRED:
                self._open[one.fingerprint] = (self._active.pop(one.fingerprint, one.at_s), one)
            elif one.what is Step.RESOLVED and one.fingerprint in self._open:
                self._done.append(_episode(*self._open.pop(one.fingerprint), one.at_s))

    def episodes(self) -> tuple[WouldHave, ...]:
        still = [_episode(active_s, fired, None) for active_s, fired in self._open.values()]
        return tuple(sorted([*self._done, *still], key=lambda one: one.fired_s))


def _episode(active_s: float, fired: Transition, resolved_s: float | None) -> WouldHave:
    return WouldHave(
        alertname=fired.alertname,
        component=fired.component,
        active_s=active_s,
        fired_s=fired.at_s,
        resolved_s=resolved_s,
        text=fired.text,
    )
