"""`gaia check`: look once, now, at some or all targets; nothing is recorded and nobody is called."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from agent.cli import DOWN, OK, PROBLEM, UNKNOWN, defaults
from agent.cli.words import clean
from agent.platform.problem import PlatformError
from agent.prober import Watch
from agent.settings import Settings, StartError
from agent.watches import watches
from checks.catalog import ProbeKit
from checks.clock import SystemClock
from checks.finding import SEVERITY, Finding, State
from checks.observation import Observation, Occasion, observe
from checks.reason import Reason
from checks.resolver import CachingResolver
from checks.units import Duration

_EXIT: Final = {State.UP: OK, State.ASLEEP: OK, State.DEGRADED: PROBLEM, State.DOWN: DOWN}
_WORDS: Final = {
    State.UP: "ok", State.DEGRADED: "warn", State.DOWN: "DOWN", State.ASLEEP: "zzz", State.STARTING: "wait",
    State.UNKNOWN: "??",
}  # fmt: skip
_COLOURS: Final = {State.UP: 32, State.DEGRADED: 33, State.DOWN: 31}
_AT_ONCE: Final = 50


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `gaia check`."""
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="TARGET",
        help="service, service/check, env/service/check, with @vantage if need be; * and ? match"
        " (default: all)",
    )
    parser.add_argument("--config", type=Path, default=defaults.config(), help="the platform file")
    parser.add_argument(
        "--overlay",
        type=Path,
        default=defaults.overlay(),
        help="a second file, laid key by key over the first",
    )
    parser.add_argument("--env", action="append", metavar="ENV", help="the environment; may be repeated")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of lines")


def run(args: argparse.Namespace) -> int:
    """The exit code is the worst state seen: 0 up or asleep, 1 degraded, 2 down, 3 unknown or usage."""
    settings = Settings(
        config=args.config,
        overlay=args.overlay,
        environments=tuple(args.env or filter(None, [defaults.environment()])),
    )
    try:
        _, scopes = settings.scopes(calls=False)
    except PlatformError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return UNKNOWN
    except StartError as error:
        print(f"gaia check: {error}", file=sys.stderr)
        return UNKNOWN
    kit = ProbeKit(clock=SystemClock(), resolver=CachingResolver())
    placed = [watch for scope in scopes for watch in watches(scope, kit)]
    chosen = [watch for watch in placed if _wanted(watch, args.targets)]
    if not chosen:
        names = ", ".join(dict.fromkeys(watch.target.key.service for watch in placed)) or "nothing"
        print(
            f"gaia check: no target matches {' '.join(args.targets) or 'this'}; there is {names}",
            file=sys.stderr,
        )
        return UNKNOWN
    seen = asyncio.run(_look(chosen))
    _print(seen, as_json=args.json)
    worst = min((look.finding.state for look in seen), key=SEVERITY.index)
    return _EXIT.get(worst, UNKNOWN)


def _wanted(watch: Watch, patterns: Sequence[str]) -> bool:
    return not patterns or any(watch.target.key.called(pattern) for pattern in patterns)


async def _look(chosen: Sequence[Watch]) -> list[Observation]:
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(watch: Watch) -> Observation:
        async with limit:
            try:
                return await observe(
                    watch.check,
                    watch.target,
                    deadline_s=watch.timeout_s,
                    clock=SystemClock(),
                    occasion=Occasion.MANUAL,
                )
            finally:
                await watch.check.close()

    return list(await asyncio.gather(*(one(watch) for watch in chosen)))


def _print(seen: Sequence[Observation], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(seen), indent=2) + b"\n")
        return
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    names = _names(seen)
    width = max(len(name) for name in names)
    for look, name in zip(seen, names, strict=True):
        finding = look.finding
        word = "slow" if finding.reason is Reason.SLOW else _WORDS[finding.state]
        word = f"{word:<5}"
        if colour and finding.state in _COLOURS:
            word = f"\x1b[{_COLOURS[finding.state]}m{word}\x1b[0m"
        print(f"{word} {name:<{width}}  {clean(finding.message)}  ({finding.reason.value})")
        for line in proof_lines(finding):
            print(f"      {'':<{width}}  {line}")


def proof_lines(finding: Finding) -> Iterator[str]:
    """The phases that happened, and the evidence where it is not well."""
    if finding.phases:
        parts = (f"{part.phase} {Duration(float(f'{part.duration_s:.3g}'))}" for part in finding.phases)
        yield " · ".join(parts)
    if finding.state not in (State.UP, State.ASLEEP):
        yield from (clean(f"{fact.name}: {fact.value}") for fact in finding.evidence)


def _names(seen: Sequence[Observation]) -> list[str]:
    """`env/service/check`, with the vantage where that alone would name two."""
    short = [str(look.target.key).rpartition("@")[0] for look in seen]
    return [
        str(look.target.key) if short.count(name) > 1 else name
        for look, name in zip(seen, short, strict=True)
    ]
