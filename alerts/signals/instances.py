"""What a rule says of several instances of one service: one reading that names those it is about."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from alerts.reading import Outcome, Reading, Unknown, unknown
from alerts.rule import SlowProbesRule, TargetStateRule
from alerts.signals import looks
from alerts.signals.looks import judged, stale
from alerts.watch import Watch
from checks.finding import State
from checks.instances import ANSWERING, together


def state(rule: TargetStateRule, watches: Sequence[Watch], now_s: float, *, firing: bool) -> Reading:
    """Their joint state is one of the rule's; that one of them is not seen hides nothing of the others."""
    parts = [(watch.target, watch.now(now_s)) for watch in watches]
    looked = [watch.latest.at_s for watch in watches if watch.latest is not None and watch.fresh(now_s)]
    if not looked:
        return stale(watches[0], now_s)
    verdict = together(parts)
    failing = [part.reason for _, part in parts if part.state in (State.DOWN, State.DEGRADED)]
    reading = judged(rule, verdict, max(looked), failing or [verdict.reason], firing=firing)
    answers = any(part.state in ANSWERING for _, part in parts)
    if reading.outcome is Outcome.UNKNOWN and answers and State.DEGRADED not in rule.states:
        return Reading(outcome=Outcome.GOOD, at_s=max(looked), text=verdict.message, looks=2)
    return reading


def slow_probes(rule: SlowProbesRule, watches: Sequence[Watch], now_s: float, *, firing: bool) -> Reading:
    """One of them is slow, or fails now and then; what one is that is down, its state says."""
    readings = [
        unknown(Unknown.STALE, watch.known_at_s, watch.verdict.message)
        if watch.verdict.state is State.DOWN
        else looks.slow_probes(rule, watch, now_s, firing=firing, since_s=watch.verdict.since_s)
        for watch in watches
    ]
    return each(watches, readings)


def each(watches: Sequence[Watch], readings: Sequence[Reading]) -> Reading:
    """Bad if one of them is, and good only if all are known to be; the number is that of the worst."""
    bad = [pair for pair in zip(watches, readings, strict=True) if pair[1].outcome is Outcome.BAD]
    if bad:
        said = "; ".join(f"{watch.target.address}: {reading.text}" for watch, reading in bad[:3])
        more = f"; and {len(bad) - 3} more" if len(bad) > 3 else ""
        worst = max((reading for _, reading in bad), key=_beyond)
        text = f"{len(bad)} of {len(watches)} instances: {said}{more}"
        return replace(worst, text=text, at_s=max(reading.at_s for _, reading in bad))
    dark = [reading for reading in readings if reading.outcome is Outcome.UNKNOWN]
    if dark:
        text = f"nothing is known of {len(dark)} of {len(readings)} instances: {dark[0].text}"
        return unknown(dark[0].why or Unknown.STALE, dark[0].at_s, text)
    # Fresh evidence of all of them, not of the one that was looked at last.
    return min(readings, key=lambda one: one.at_s)


def _beyond(reading: Reading) -> float:
    """How far the number is from its threshold, above or below."""
    return abs((reading.value or 0.0) - (reading.threshold or 0.0))
