"""`gaia backtest`: when a rule would have fired on what was really seen, how long, and how it flapped."""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
from msgspec.structs import replace

from agent.cli import OK, UNKNOWN, defaults
from agent.judgement import plan_of
from agent.platform.problem import PlatformError
from agent.watches import watches
from alerts.backtest import Replay, WouldHave, backtest
from alerts.plan import JudgePlan
from alerts.requests import RequestSample
from alerts.rule import Rule
from alerts.words import clock, day, span
from checks.catalog import ProbeKit
from checks.clock import SystemClock
from checks.finding import Finding, State
from checks.observation import Observation
from checks.reason import Reason
from checks.resolver import CachingResolver
from checks.target import Target, TargetKey
from checks.units import Duration
from checks.verdict import ConfirmPolicy

_NIGHT: Final = range(7)  # From 0 to 7 o'clock, UTC.
_REASONS: Final = {reason.value: reason for reason in Reason}
# What is kept of a look says neither whether its evidence was hard; these reasons always are.
_HARD: Final = frozenset({
    Reason.CONNECTION_REFUSED, Reason.CONNECTION_RESET, Reason.CONNECTION_CLOSED, Reason.PG_REFUSED,
    Reason.PG_SHUTTING_DOWN, Reason.NATS_REFUSED,
})  # fmt: skip


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    alertname: str
    service: str
    began_s: float
    fired_s: float
    resolved_s: float | None
    text: str


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `gaia backtest`."""
    parser.add_argument("--rule", action="append", metavar="NAME", help="a rule's name (default: all)")
    parser.add_argument("--rules", type=Path, help="a file with an alternative `alerts` section to try")
    parser.add_argument("--last", default="7d", help="how far back (default 7d)")
    parser.add_argument(
        "--env", default=defaults.environment() or "production", help="the environment (default %(default)s)"
    )
    parser.add_argument("--config", type=Path, default=defaults.config(), help="the platform file")
    parser.add_argument(
        "--overlay",
        type=Path,
        default=defaults.overlay(),
        help="a second file, laid key by key over the first",
    )
    parser.add_argument("--data", type=Path, default=defaults.data(), help="the agent's data directory")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of lines")


def run(args: argparse.Namespace) -> int:
    """0 when the past was replayed, 3 when there is none, or the file or a rule is wrong."""
    path = (args.data / "history.db").absolute()
    try:
        plan, confirm = _plan(args)
        since_s = time.time() - Duration.parse(args.last)
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
            replay = backtest(
                plan,
                _looks(database, plan, since_s),
                _samples(database, plan.env, since_s),
                confirm=confirm,
            )
    except PlatformError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return UNKNOWN
    except sqlite3.OperationalError as error:
        print(
            f"gaia backtest: {args.data / 'history.db'}: {error}; --data names its directory", file=sys.stderr
        )
        return UNKNOWN
    except (ValueError, sqlite3.Error) as error:
        print(f"gaia backtest: {error}", file=sys.stderr)
        return UNKNOWN
    if args.json:
        print(msgspec.json.encode([_row(one) for one in replay.episodes]).decode())
    else:
        _print(replay, plan)
    return OK


def _plan(args: argparse.Namespace) -> tuple[JudgePlan, dict[TargetKey, ConfirmPolicy]]:
    """What is judged, and how each target's failures are confirmed."""
    from agent.platform.load import load

    overlay = args.rules if args.rules is not None else args.overlay
    platform = load(args.config, overlay=overlay, environ=os.environ)
    scope = platform.scope(platform.name_of(args.env), calls=False)
    kit = ProbeKit(clock=SystemClock(), resolver=CachingResolver())
    watched = tuple(watches(scope, kit))
    plan = plan_of(scope, watched)
    chosen: dict[str, Rule] = dict(plan.rules)
    if args.rule:
        known = {**scope.alerts.rules, **scope.rules}
        missing = [name for name in args.rule if name not in known]
        if missing:
            raise ValueError(f'there is no rule "{missing[0]}"; there are: {", ".join(known)}')
        chosen = {name: known[name] for name in args.rule}
    return replace(plan, rules=chosen), {watch.target.key: watch.confirm for watch in watched}


def _looks(database: sqlite3.Connection, plan: JudgePlan, since_s: float) -> Iterator[Observation]:
    targets = {
        (target.key.env, target.key.service, target.key.check, target.key.vantage): target
        for target in plan.targets
    }
    ids: dict[int, Target] = {}
    for number, env, service, check, vantage in database.execute(
        'SELECT id, env, service, "check", vantage FROM targets'
    ):
        target = targets.get((env, service, check, vantage))
        if target is not None:
            ids[number] = target
    rows = database.execute(
        "SELECT target, at_ms, state, reason, latency_us FROM looks WHERE at_ms >= ? ORDER BY at_ms",
        (int(since_s * 1000),),
    )
    for number, at_ms, state, reason, latency_us in rows:
        if number in ids:
            why = _REASONS.get(reason, Reason.AGENT)
            yield Observation(
                target=ids[number],
                at_s=at_ms / 1000,
                duration_s=0.0,
                finding=Finding(
                    state=State(state),
                    reason=why,
                    message=why.sentence,
                    hard=why in _HARD,
                    latency_s=None if latency_us is None else latency_us / 1e6,
                ),
            )


def _samples(database: sqlite3.Connection, env: str, since_s: float) -> Iterator[RequestSample]:
    for (sample,) in database.execute(
        "SELECT sample FROM requests WHERE env = ? AND at_ms >= ? ORDER BY at_ms", (env, int(since_s * 1000))
    ):
        yield msgspec.msgpack.decode(sample, type=RequestSample)


def _print(replay: Replay, plan: JudgePlan) -> None:
    seen = f"{replay.looks} looks and {replay.samples} counter samples of {span(replay.to_s - replay.from_s)}"
    print(f"{plan.env}: {len(plan.rules)} rules over {seen}")
    for one in replay.episodes:
        end = f"resolved after {span(one.resolved_s - one.fired_s)}" if one.resolved_s else "still on"
        print(
            f"  {day(one.fired_s)} {clock(one.fired_s)}  {one.alertname} {one.component}: {one.text}; "
            f"fired {span(one.fired_s - one.active_s)} after it began, {end}"
        )
    print(_sum(replay))


def _sum(replay: Replay) -> str:
    """`3 would have fired, 1 of them soon after the one before, 2 at night; 40 s after it began (median)`."""
    count = len(replay.episodes)
    night = sum(int(one.fired_s % 86400 // 3600) in _NIGHT for one in replay.episodes)
    said = f"{count} would have fired, {replay.flaps()} of them soon after the one before, {night} at night"
    if not count:
        return said
    delay_s = median(one.fired_s - one.active_s for one in replay.episodes)
    return f"{said}; {span(delay_s)} after it began (median)"


def _row(one: WouldHave) -> _Row:
    return _Row(
        alertname=one.alertname,
        service=one.component,
        began_s=one.active_s,
        fired_s=one.fired_s,
        resolved_s=one.resolved_s,
        text=one.text,
    )
