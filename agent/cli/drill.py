"""`gaia drill`: break parts of the running local platform on purpose, measure what the agent makes of it."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from agent.cli import OK, PROBLEM, UNKNOWN, defaults
from agent.cli.api import Api, ApiError
from agent.local.child import LocalError, descendants, signal_all
from agent.local.events import Happening, happenings
from agent.local.running import Running, read_running
from agent.web.answers import AlertsAnswer, StatusAnswer
from agent.web.source import ActiveAlert

_DEFAULT: Final = ("asset", "nats", "postgres")
_SEEN_WITHIN_S: Final = 30.0
_CALLED_WITHIN_S: Final = 15.0
_BACK_WITHIN_S: Final = 60.0
_ASK_EVERY_S: Final = 0.02
# What production promises from the fault to the page, the evidence being hard (kill) or soft (freeze).
_PROMISED_S: Final = {"kill": 5.0, "freeze": 10.0}


class Measured(msgspec.Struct, kw_only=True):
    """One drill. Seconds since the break; None when it did not happen in time, or was not to happen."""

    part: str
    broken_by: str
    seen_s: float | None = None
    seen_as: str = ""
    called_s: float | None = None
    called: tuple[str, ...] = ()
    affected: tuple[str, ...] = ()
    also_called_for: tuple[str, ...] = ()
    back_s: float | None = None
    resolved_s: float | None = None

    @property
    def kept(self) -> bool:
        """Whether it was seen and called for in time, and for nothing else."""
        promised_s = _PROMISED_S[self.broken_by]
        return self.called_s is not None and self.called_s <= promised_s and not self.also_called_for


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `gaia drill`."""
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"what to break (default {' '.join(_DEFAULT)})"
    )
    parser.add_argument(
        "--freeze", action="store_true", help="stop the process (SIGSTOP) instead of killing it"
    )
    parser.add_argument(
        "--data", type=Path, default=defaults.data(), help="the folder of the running `gaia up`"
    )
    parser.add_argument("--json", action="store_true", help="the measurements as JSON")


def run(args: argparse.Namespace) -> int:
    """0 when each break was called for in time and for nothing else, 1 when not, 3 when it cannot be done."""

    def say(text: str) -> None:
        print(text, file=sys.stderr if args.json else sys.stdout, flush=True)

    try:
        results = asyncio.run(_drills(args, say))
    except (LocalError, ApiError) as error:
        print(f"gaia drill: {error}", file=sys.stderr)
        return UNKNOWN
    if args.json:
        print(msgspec.json.encode(results).decode())
    else:
        print(_table(results))
    return OK if all(result.kept for result in results) else PROBLEM


async def _drills(args: argparse.Namespace, say: Callable[[str], None]) -> list[Measured]:
    parts = tuple(args.parts) or _DEFAULT
    for part in parts:
        read_running(args.data).pid(part)  # All names are checked before anything is broken.
    return [await _Drill(args.data, part, say).run(freeze=args.freeze) for part in parts]


class _Drill:
    """One break, from the signal to the resolve."""

    def __init__(self, folder: Path, part: str, say: Callable[[str], None]) -> None:
        self._running: Running = read_running(folder)
        self._part = part
        self._pid = self._running.pid(part)
        self._say = say
        self._api = Api(self._running.page.rstrip("/"))
        self._broken_s = 0.0

    async def run(self, *, freeze: bool) -> Measured:
        """Raises LocalError when the platform is not well to begin with: nothing could be told from noise."""
        status = await self._well()
        port = urlsplit(self._running.page).port or 0
        result = Measured(part=self._part, broken_by="freeze" if freeze else "kill")
        async with aclosing(happenings(port, after=status.seq)) as events:
            victims = (self._pid, *descendants(self._pid)) if freeze else (self._pid,)
            self._broken_s = time.time()
            signal_all(victims, signal.SIGSTOP if freeze else signal.SIGKILL)
            self._say(f"{self._part}: {'frozen' if freeze else 'killed'}, pid {self._pid}")
            try:
                await self._until_called(events, result)
            finally:
                if freeze:
                    signal_all(victims, signal.SIGCONT)
            if result.seen_s is not None and (freeze or self._running.restart_after_s is not None):
                await self._until_resolved(events, result)
        return result

    async def _well(self) -> StatusAnswer:
        end = time.monotonic() + _BACK_WITHIN_S
        while True:
            status = await asyncio.to_thread(self._api.get, "/api/v1/status", StatusAnswer)
            # What already recovers is only watched a while longer: it hides nothing of what is broken next.
            firing = [alert for alert in status.alerts if alert.state == "firing"]
            bad = [
                part
                for env in status.environments
                for part in env.components
                if part.state not in {"up", "asleep"}
            ]
            if not firing and not bad:
                return status
            if time.monotonic() > end:
                names = ", ".join(
                    sorted({part.service for part in bad} | {alert.service for alert in firing})
                )
                raise LocalError(f"the platform is not well ({names}): wait, or see {self._running.page}")
            await asyncio.sleep(0.5)

    async def _until_called(self, events: AsyncIterator[Happening], result: Measured) -> None:
        seen = await self._event(events, {"down", "degraded"}, within_s=_SEEN_WITHIN_S)
        if seen is None:
            self._say(f"  not seen within {_SEEN_WITHIN_S:g} s")
            return
        result.seen_s, result.seen_as = seen.at_s - self._broken_s, seen.text
        self._say(f"  seen after {_s(result.seen_s)}: {seen.text}")
        end = time.monotonic() + _CALLED_WITHIN_S
        while time.monotonic() < end:
            mine = [
                alert
                for alert in await self._alerts(result)
                if alert.service == self._part and alert.notified
            ]
            if mine:
                result.called_s = time.time() - self._broken_s
                result.called = mine[0].notified
                result.affected = mine[0].affected
                self._say(f"  called after {_s(result.called_s)}: {', '.join(mine[0].notified)}")
                return
            await asyncio.sleep(_ASK_EVERY_S)
        self._say(f"  nobody was called within {_CALLED_WITHIN_S:g} s")

    async def _until_resolved(self, events: AsyncIterator[Happening], result: Measured) -> None:
        back = await self._event(
            events, {"up"}, within_s=_BACK_WITHIN_S + (self._running.restart_after_s or 0)
        )
        if back is None:
            self._say("  did not come back")
            return
        result.back_s = back.at_s - self._broken_s
        end = time.monotonic() + _BACK_WITHIN_S
        while any(alert.service == self._part for alert in await self._alerts(result)):
            if time.monotonic() > end:
                self._say(f"  back after {_s(result.back_s)}, not resolved within {_BACK_WITHIN_S:g} s more")
                return
            await asyncio.sleep(_ASK_EVERY_S)
        result.resolved_s = time.time() - self._broken_s
        self._say(f"  back after {_s(result.back_s)}, resolved after {_s(result.resolved_s)}")

    async def _alerts(self, result: Measured) -> tuple[ActiveAlert, ...]:
        answer = await asyncio.to_thread(self._api.get, "/api/v1/alerts", AlertsAnswer)
        new = (alert for alert in answer.alerts if (alert.fired_s or 0.0) > self._broken_s and alert.notified)
        others = {f"{alert.service} ({alert.name})" for alert in new if alert.service != self._part}
        result.also_called_for = tuple(sorted({*result.also_called_for, *others}))
        return tuple(alert for alert in answer.alerts if alert.state != "pending")

    async def _event(
        self, events: AsyncIterator[Happening], states: set[str], *, within_s: float
    ) -> Happening | None:
        try:
            async with asyncio.timeout(within_s):
                async for event in events:
                    if event.kind == "target" and event.subject == self._part and event.state in states:
                        return event
        except TimeoutError:
            pass
        return None


def _table(results: list[Measured]) -> str:
    head = f"{'part':<10} {'broken by':<9} {'seen':>9} {'called':>9} {'back':>9} {'resolved':>9}  affects"
    lines = [
        f"{one.part:<10} {one.broken_by:<9} {_s(one.seen_s):>9} {_s(one.called_s):>9} {_s(one.back_s):>9} "
        f"{_s(one.resolved_s):>9}  {', '.join(one.affected) or '-'}"
        + (f"; ALSO CALLED FOR {', '.join(one.also_called_for)}" if one.also_called_for else "")
        for one in results
    ]
    return "\n".join([head, *lines])


def _s(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
