"""The state of one alert over time, as a pure function: OK, PENDING, FIRING, RECOVERING.

Durations compare with >= exactly as Prometheus does (rules/alerting.go: `ts.Sub(ActiveAt) >= holdDuration`).
Where it deviates, it does so on purpose: missing evidence pauses every clock and never resolves.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from alerts.reading import Outcome, Reading, Unknown

_FLAP_CHANGES: Final = 4
FLAP_WINDOW_S: Final = 1800.0
_NO_TRAFFIC_RESOLVES_S: Final = 900.0
_VERIFY_TICKS: Final = 2
_AHEAD_S: Final = 5.0


class Phase(StrEnum):
    """Where an alert stands."""

    OK = "ok"
    PENDING = "pending"
    FIRING = "firing"
    RECOVERING = "recovering"


class Step(StrEnum):
    """What happened at one evaluation."""

    ACTIVE = "active"
    DROPPED = "dropped"
    FIRED = "fired"
    RECOVERING = "recovering"
    RELAPSED = "relapsed"
    FLAPPING = "flapping"
    RESOLVED = "resolved"


class Ended(StrEnum):
    """Why an alert was resolved; shown in every resolve."""

    RECOVERED = "recovered"
    NO_TRAFFIC = "no_traffic"
    RULE_REMOVED = "rule_removed"
    TARGET_REMOVED = "target_removed"
    EXPIRED = "expired"


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """All that is remembered of one alert. Times are wall seconds; 0 means never.

    `paused_s` is time within the present phase during which nothing was known; it never counts for `for`
    or `keep_firing_for`. `bads` and `goods` count fresh looks; `verify` the ticks still to wait after a gap.
    """

    phase: Phase = Phase.OK
    active_at_s: float = 0.0
    fired_at_s: float = 0.0
    keep_since_s: float = 0.0
    paused_s: float = 0.0
    unknown_since_s: float = 0.0
    last_eval_s: float = 0.0
    seen_at_s: float = 0.0
    bads: int = 0
    goods: int = 0
    verify: int = 0
    flapping: bool = False
    changes: tuple[float, ...] = ()
    ended: Ended | None = None

    @property
    def firing(self) -> bool:
        """Whether people would say that the alert is on."""
        return self.phase is Phase.FIRING or self.phase is Phase.RECOVERING


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """A rule's times. `parity` evaluates as Prometheus: unknown is good, gaps count, one look decides."""

    for_s: float = 0.0
    keep_firing_s: float = 0.0
    interval_s: float = 10.0
    window_s: float = 0.0
    min_good: int = 2
    min_bad: int = 2
    parity: bool = False


def step(before: Standing, reading: Reading, pace: Pace, now_s: float) -> tuple[Standing, Step | None]:
    """The next standing, and what happened if anything did."""
    if pace.parity:
        return _parity(before, reading, pace, now_s)
    if before.phase is Phase.OK and reading.outcome is not Outcome.BAD:
        return before, None
    standing = _rebase(before, pace, now_s)
    if standing.verify and reading.outcome is not Outcome.UNKNOWN and before.phase is not Phase.OK:
        standing = msgspec.structs.replace(standing, verify=standing.verify - 1)
        reading = Reading(outcome=Outcome.UNKNOWN, at_s=reading.at_s, why=Unknown.AGENT_GAP)
    match reading.outcome:
        case Outcome.BAD:
            after, happened = _bad(_count(standing, reading, now_s), pace, now_s)
        case Outcome.GOOD:
            after, happened = _good(_count(standing, reading, now_s), pace, now_s)
        case _:
            after, happened = _unknown(standing, reading, pace, now_s)
    return msgspec.structs.replace(after, last_eval_s=now_s), happened


def resumed(saved: Standing, now_s: float) -> Standing | None:
    """A standing read back after a restart: clocks minus the downtime; None when it is too old to keep.

    A clock that was set back meanwhile counts as in `step`: times that lie ahead must not hold anything up.
    """
    down_s = now_s - saved.last_eval_s
    if saved.phase is Phase.OK or (saved.phase is Phase.PENDING and down_s > 3600):
        return None
    return msgspec.structs.replace(
        saved,
        paused_s=saved.paused_s + down_s,
        last_eval_s=now_s,
        verify=_VERIFY_TICKS,
        unknown_since_s=0.0,
        seen_at_s=_seen_at_s(saved, down_s, now_s),
    )


def closed(standing: Standing, reason: Ended, now_s: float) -> Standing:
    """The standing after an end that no evaluation brought about, such as a removed rule."""
    return Standing(
        last_eval_s=now_s, fired_at_s=standing.fired_at_s, ended=reason, changes=(*standing.changes, now_s)
    )


def _rebase(standing: Standing, pace: Pace, now_s: float) -> Standing:
    """Take gaps of the agent and steps of the wall clock out of every running duration."""
    if standing.phase is Phase.OK or not standing.last_eval_s:
        return standing
    passed_s = now_s - standing.last_eval_s
    if 0 <= passed_s <= 3 * pace.interval_s:
        return standing
    return msgspec.structs.replace(
        standing,
        paused_s=standing.paused_s + passed_s,
        verify=_VERIFY_TICKS,
        unknown_since_s=0.0,
        seen_at_s=_seen_at_s(standing, passed_s, now_s),
    )


def _seen_at_s(standing: Standing, passed_s: float, now_s: float) -> float:
    """After a step back of the clock, fresh looks would seem older than the last one."""
    return min(standing.seen_at_s, now_s - 1e-3) if passed_s < 0 else standing.seen_at_s


def _count(standing: Standing, reading: Reading, now_s: float) -> Standing:
    """Count fresh looks and end a pause."""
    # What lies ahead was seen before the clock was set back, and must not make later looks seem old.
    ahead = reading.at_s > now_s + _AHEAD_S
    fresh = reading.looks if reading.at_s > standing.seen_at_s and not ahead else 0
    bad = reading.outcome is Outcome.BAD
    return msgspec.structs.replace(
        standing,
        seen_at_s=standing.seen_at_s if ahead else max(standing.seen_at_s, reading.at_s),
        bads=standing.bads + fresh if bad else 0,
        goods=0 if bad else standing.goods + fresh,
        paused_s=standing.paused_s + _unknown_for(standing, now_s),
        unknown_since_s=0.0,
    )


def _unknown_for(standing: Standing, now_s: float) -> float:
    return max(0.0, now_s - standing.unknown_since_s) if standing.unknown_since_s else 0.0


def _bad(standing: Standing, pace: Pace, now_s: float) -> tuple[Standing, Step | None]:
    match standing.phase:
        case Phase.OK:
            active = msgspec.structs.replace(
                standing, phase=Phase.PENDING, active_at_s=now_s, paused_s=0.0, ended=None
            )
            if pace.for_s <= 0:
                return _fire(active, now_s)
            return active, Step.ACTIVE
        case Phase.PENDING:
            held_s = now_s - standing.active_at_s - standing.paused_s
            if held_s >= pace.for_s and standing.bads >= pace.min_bad:
                return _fire(standing, now_s)
            return standing, None
        case Phase.RECOVERING:
            relapsed = msgspec.structs.replace(standing, phase=Phase.FIRING, keep_since_s=0.0, paused_s=0.0)
            return relapsed, Step.RELAPSED
        case _:
            return standing, None


def _fire(standing: Standing, now_s: float) -> tuple[Standing, Step | None]:
    fired = msgspec.structs.replace(
        standing,
        phase=Phase.FIRING,
        fired_at_s=now_s,
        paused_s=0.0,
        keep_since_s=0.0,
        changes=(*_recent(standing.changes, now_s), now_s),
    )
    return fired, Step.FIRED


def _good(standing: Standing, pace: Pace, now_s: float) -> tuple[Standing, Step | None]:
    match standing.phase:
        case Phase.PENDING:
            return _calm(standing), Step.DROPPED
        case Phase.FIRING:
            recovering = msgspec.structs.replace(
                standing, phase=Phase.RECOVERING, keep_since_s=now_s, paused_s=0.0
            )
            after, happened = _recover(recovering, pace, now_s)
            return after, happened or Step.RECOVERING
        case Phase.RECOVERING:
            return _recover(standing, pace, now_s)
        case _:
            return standing, None


def _recover(standing: Standing, pace: Pace, now_s: float) -> tuple[Standing, Step | None]:
    keep_s = max(pace.keep_firing_s, FLAP_WINDOW_S) if standing.flapping else pace.keep_firing_s
    kept_s = now_s - standing.keep_since_s - standing.paused_s
    if kept_s < keep_s or standing.goods < pace.min_good:
        return standing, None
    changes = _recent(standing.changes, now_s)
    # Two whole fires and recoveries are news each; the third recovery within the window is not believed.
    if not standing.flapping and len(changes) >= _FLAP_CHANGES:
        return msgspec.structs.replace(standing, flapping=True, changes=changes), Step.FLAPPING
    return _resolve(standing, Ended.RECOVERED, now_s)


def _resolve(standing: Standing, reason: Ended, now_s: float) -> tuple[Standing, Step | None]:
    changes = () if standing.flapping else (*_recent(standing.changes, now_s), now_s)
    calm = _calm(standing)
    return msgspec.structs.replace(
        calm, ended=reason, changes=changes, fired_at_s=standing.fired_at_s
    ), Step.RESOLVED


def _calm(standing: Standing) -> Standing:
    return Standing(
        last_eval_s=standing.last_eval_s,
        seen_at_s=standing.seen_at_s,
        goods=standing.goods,
        changes=standing.changes,
        verify=0,
    )


def _unknown(standing: Standing, reading: Reading, pace: Pace, now_s: float) -> tuple[Standing, Step | None]:
    since_s = standing.unknown_since_s or now_s
    held = msgspec.structs.replace(standing, unknown_since_s=since_s)
    unknown_s = now_s - since_s
    if standing.phase is Phase.PENDING:
        if unknown_s >= max(pace.window_s, 3 * pace.interval_s):
            return _calm(standing), Step.DROPPED
        return held, None
    quiet = reading.why is Unknown.NO_TRAFFIC and reading.vouched
    if quiet and unknown_s >= _NO_TRAFFIC_RESOLVES_S:
        return _resolve(held, Ended.NO_TRAFFIC, now_s)
    return held, None


def _recent(changes: tuple[float, ...], now_s: float) -> tuple[float, ...]:
    return tuple(at_s for at_s in changes if now_s - at_s <= FLAP_WINDOW_S)


def _parity(before: Standing, reading: Reading, pace: Pace, now_s: float) -> tuple[Standing, Step | None]:
    """Prometheus' `AlertingRule.Eval`, line for line in meaning."""
    if reading.outcome is not Outcome.BAD:
        if before.phase is Phase.PENDING:
            return Standing(), Step.DROPPED
        if before.phase is Phase.OK:
            return before, None
        keep_since_s = before.keep_since_s or now_s
        if pace.keep_firing_s > 0 and now_s - keep_since_s < pace.keep_firing_s:
            happened = None if before.phase is Phase.RECOVERING else Step.RECOVERING
            return msgspec.structs.replace(
                before, phase=Phase.RECOVERING, keep_since_s=keep_since_s
            ), happened
        return Standing(ended=Ended.RECOVERED), Step.RESOLVED
    if before.phase is Phase.RECOVERING:
        return msgspec.structs.replace(before, phase=Phase.FIRING, keep_since_s=0.0), Step.RELAPSED
    if before.phase is Phase.FIRING:
        return before, None
    active_at_s = now_s if before.phase is Phase.OK else before.active_at_s
    if now_s - active_at_s >= pace.for_s:
        return Standing(phase=Phase.FIRING, active_at_s=active_at_s, fired_at_s=now_s), Step.FIRED
    happened = Step.ACTIVE if before.phase is Phase.OK else None
    return Standing(phase=Phase.PENDING, active_at_s=active_at_s), happened
