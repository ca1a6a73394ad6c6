"""A connection held to an HTTP service: a death or a freeze is told at once, between two probes.

End of file on the idle connection, or a heartbeat without an answer, is suspicion; a fresh probe decides.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from checks.catalog import ProbeKit
from checks.http.answer import Answer
from checks.http.exchange import exchange
from checks.http.login import Login
from checks.http.options import HttpOptions
from checks.http.request import request_of
from checks.target import Target
from checks.units import Duration
from checks.wire.dial import connect, resolve, secure
from checks.wire.fault import Fault, NoSocketLeft
from checks.wire.journey import Journey
from checks.wire.stream import Stream, Wire

# Fly Proxy stands in front of these: a held connection would be one to the proxy, and its heartbeat would
# keep awake, or wake, a machine that may sleep.
_BEHIND_PROXY: Final = (".flycast", ".fly.dev")
_FIRST_BACKOFF_S: Final = 0.25
_LAST_BACKOFF_S: Final = 5.0
# Servers that close after each answer cannot be watched this way; see again later whether that changed.
_UNHELD_BACKOFF_S: Final = 30.0
# Heartbeats of all sentinels fall on one grid, so that one wake-up of the agent serves many of them.
_GRID_S: Final = 0.05
_LEAST_PATIENCE_S: Final = 0.75
_PATIENCE_FACTOR: Final = 5.0
_FADING: Final = 0.98


def can_hold(options: HttpOptions) -> bool:
    """Whether a connection may be held open to the target, and says something about it."""
    host = (urlsplit(options.url).hostname or "").rstrip(".")
    return bool(options.heartbeat) and not host.endswith(_BEHIND_PROXY)


class HttpSentinel:
    """Watches `options.url` through one kept connection with a light request each `options.heartbeat`."""

    def __init__(self, target: Target, options: HttpOptions, kit: ProbeKit) -> None:
        self._target = target
        self._options = options
        self._kit = kit
        self._login = Login(options.auth, kit, options)
        self._request = request_of(
            options.url,
            private=tuple((name, value.reveal()) for name, value in options.headers.items()),
        )

    async def watch(self, suspect: Callable[[str], None]) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while True:
            held = False
            try:
                held = await self._hold(suspect)
                backoff_s = _FIRST_BACKOFF_S if held else _UNHELD_BACKOFF_S
            except (OSError, Fault, NoSocketLeft):
                # Nobody there: the probes say so; here only the next attempt counts.
                backoff_s = min(backoff_s * 2, _LAST_BACKOFF_S)
            await asyncio.sleep(backoff_s)

    async def _hold(self, suspect: Callable[[str], None]) -> bool:
        """Hold one connection to its end. True when it was one that can be held."""
        async with asyncio.timeout(self._options.timeout):
            wire, stream = await self._open()
        patience = Patience(self._options.timeout)
        try:
            while True:
                try:
                    async with asyncio.timeout(patience.limit_s):
                        answer, took_s = await self._beat(stream)
                except TimeoutError:
                    why = f"has not answered its heartbeat for {Duration(round(patience.limit_s, 3))}"
                except (Fault, OSError) as error:
                    why = error.message if isinstance(error, Fault) else "broke the held connection"
                else:
                    patience.learn(took_s)
                    if not answer.reusable:
                        return patience.answers > 1
                    if not await self._ended_in_pause(wire):
                        continue
                    why = "closed the held connection"
                if patience.answers:
                    suspect(f"{self._target.address} {why}")
                # One that ended before its second beat was never held: a server that hangs up after each
                # answer without saying so must not be looked at four times a second for ever.
                return patience.answers > 1
        finally:
            stream.close()

    async def _open(self) -> tuple[Wire, Stream]:
        origin, journey = self._request.origin, Journey()
        addresses = await resolve(origin.host, self._options.ip, self._kit.resolver, journey)
        wire = await connect(addresses, origin.port, journey)
        wire.hold(user_timeout_s=self._options.timeout)
        if origin.scheme != "https":
            return wire, wire
        return wire, (await secure(wire, origin.host, self._options.tls, journey))[0]

    async def _beat(self, stream: Stream) -> tuple[Answer, float]:
        request = await self._login.authorized(self._request)
        journey = Journey()
        answer = await exchange(
            stream,
            request.head(keep=True) + b"\r\n",
            method="GET",
            body_limit=self._options.body_limit,
            journey=journey,
            plain=True,
        )
        return answer, journey.latency_s or 0.0

    async def _ended_in_pause(self, wire: Wire) -> bool:
        """Wait for the next beat; True as soon as the server ends the connection."""
        now_s = asyncio.get_running_loop().time()
        beat_s = math.ceil((now_s + self._options.heartbeat) / _GRID_S) * _GRID_S
        try:
            async with asyncio.timeout_at(beat_s):
                await wire.ended()
        except TimeoutError:
            return False
        return True


class Patience:
    """How long a heartbeat may take: far longer than this service ever took, yet short."""

    __slots__ = ("_most_s", "_slowest_s", "answers")

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        self._slowest_s = 0.0
        self.answers = 0

    @property
    def limit_s(self) -> float:
        if not self.answers:
            return self._most_s
        return min(self._most_s, max(_LEAST_PATIENCE_S, _PATIENCE_FACTOR * self._slowest_s))

    def learn(self, took_s: float) -> None:
        """A beat was answered after `took_s`; old slowness fades within a minute or so."""
        self.answers += 1
        self._slowest_s = max(took_s, self._slowest_s * _FADING)
