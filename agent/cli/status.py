"""`gaia status`: how the platform is, from the running agent, in lines for people or as JSON."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from agent.cli import DOWN, OK, PROBLEM, UNKNOWN
from agent.cli.api import Api, ApiError, add_arguments
from agent.cli.words import clean
from agent.web.answers import ComponentAnswer, EnvironmentAnswer, StatusAnswer
from agent.web.overview import SLOW, lasting
from checks.finding import State

_PATH: Final = "/api/v1/status"
_EVERY_S: Final = 2.0
_EXIT: Final = {State.DOWN: DOWN, State.DEGRADED: PROBLEM, State.UNKNOWN: UNKNOWN}
_WORDS: Final = {
    State.UP: "ok", State.DEGRADED: "poor", State.DOWN: "DOWN", State.ASLEEP: "zzz", State.STARTING: "wait",
    State.UNKNOWN: "??",
}  # fmt: skip
_COLOURS: Final = {State.UP: 32, State.DEGRADED: 33, State.DOWN: 31}
_MESSAGE_COLUMNS: Final = 100


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `gaia status`."""
    add_arguments(parser)
    parser.add_argument("--env", metavar="ENV", help="only this environment")
    parser.add_argument("--watch", action="store_true", help="show it again every two seconds until Ctrl-C")


def run(args: argparse.Namespace) -> int:
    """0 all well, 1 degraded, 2 down, 3 not seen or no agent answers."""
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    while True:
        try:
            code, text = _look(args, colour=colour)
        except ApiError as error:
            code, text = UNKNOWN, ""
            print(f"gaia status: {error}", file=sys.stderr)
        if args.watch and sys.stdout.isatty():
            print("\x1b[H\x1b[2J", end="")
        if text:
            print(text, flush=True)
        if not args.watch:
            return code
        time.sleep(_EVERY_S)


def _look(args: argparse.Namespace, *, colour: bool) -> tuple[int, str]:
    api = Api(args.url)
    status = api.get(_PATH, StatusAnswer)
    shown = [environment for environment in status.environments if args.env in (None, environment.name)]
    if not shown:
        names = ", ".join(environment.name for environment in status.environments)
        raise ApiError(f"no environment {args.env!r} is watched; there are {names}")
    state = shown[0].state if args.env is not None else status.state
    text = api.call("GET", _PATH).decode() if args.json else "\n".join(lines(status, shown, colour=colour))
    return _EXIT.get(state, OK), text


def lines(status: StatusAnswer, shown: list[EnvironmentAnswer], *, colour: bool) -> Iterator[str]:
    """The answer for people: the sentence, then each environment, what is not up first."""
    now_s = status.as_of_s
    yield _painted(clean(status.headline), status.state, colour=colour)
    yield clean(status.detail)
    for environment in shown:
        yield ""
        total = len(environment.components)
        well = sum(component.state is State.UP for component in environment.components)
        word = _painted(f"{environment.state.value:<9}", environment.state, colour=colour)
        yield f"{clean(environment.name):<12} {word} {well} of {total} up   as of {_clock(now_s)}"
        for component in environment.components:
            if component.state is not State.UP:
                yield _row(component, now_s, colour=colour)
        fine = [clean(part.service) for part in environment.components if part.state is State.UP]
        if fine:
            yield f"  {_painted(f'{_WORDS[State.UP]:<5}', State.UP, colour=colour)} {' '.join(fine)}"
    for alert in status.alerts:
        since = lasting(now_s - (alert.fired_s or alert.since_s))
        value = f" {alert.value} (limit {alert.threshold})" if alert.value else ""
        yield clean(f"alert  {alert.state:<10} {alert.title}{value}, {since}")
    yield ""
    agent = status.agent
    late = f"{agent.late_probes} late" if agent.late_probes else "none late"
    waiting = f"{agent.undelivered} undelivered" if agent.undelivered else "nothing undelivered"
    facts = (agent.version, f"{agent.targets} checks", late, waiting, f"config {agent.config_hash}")
    yield f"agent        {', '.join(facts)}"
    if agent.config_problem:
        yield clean(f"the last reload was refused: {agent.config_problem}")


def _row(component: ComponentAnswer, now_s: float, *, colour: bool) -> str:
    slow = component.state is State.DEGRADED and component.reason in SLOW
    word = _painted(f"{'slow' if slow else _WORDS[component.state]:<5}", component.state, colour=colour)
    since = f"   {lasting(now_s - component.since_s)}" if component.since_s else ""
    message = clean(component.message)[:_MESSAGE_COLUMNS]
    return f"  {word} {clean(component.service):<11} {message}{since}"


def _painted(text: str, state: State, *, colour: bool) -> str:
    code = _COLOURS.get(state)
    return f"\x1b[{code}m{text}\x1b[0m" if colour and code else text


def _clock(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, tz=UTC):%H:%M:%SZ}"
