"""Fly.io's own log stream, which is NATS: every app's standard output, with no shipper in between.

`logs.<app>.<region>.<machine>` at `[fdaa::3]:4223`; the user is the organisation's slug, the password a
read-only token (superfly/fly-log-shipper, README).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from agent.telemetry.json_lines import Line
from checks.clock import Clock
from checks.nats.link import Link, LinkRefusedError, NotNatsError, Reply, TlsMissingError
from checks.nats.place import Place

logger = logging.getLogger(__name__)

_MAX_WAITING: Final = 10_000
_BATCH: Final = 500
_LINGER_S: Final = 0.2
_ENTER_S: Final = 5.0
_PING_S: Final = 20.0
_AGAIN_S: Final = 15.0


class _App(msgspec.Struct):
    name: str = ""
    instance: str = ""


class _Fly(msgspec.Struct):
    app: _App = msgspec.field(default_factory=_App)
    region: str = ""


class _Log(msgspec.Struct):
    level: str = ""


class _Event(msgspec.Struct):
    message: str = ""
    timestamp: str = ""
    fly: _Fly = msgspec.field(default_factory=_Fly)
    log: _Log = msgspec.field(default_factory=_Log)


class FlyLogs:
    """Subscribes and hands lines on in batches. The stream keeps nothing: what comes while away is lost.

    Beyond 10,000 waiting lines the newest are dropped and counted.
    """

    def __init__(
        self,
        place: Place,
        *,
        subject: str,
        clock: Clock,
        take: Callable[[tuple[Line, ...]], Awaitable[None]],
    ) -> None:
        self._place = place
        self._subject = subject
        self._clock = clock
        self._take = take
        self._lines: asyncio.Queue[Line] = asyncio.Queue(_MAX_WAITING)
        self.dropped = 0
        self.connected = False

    async def run(self) -> None:
        """Read until cancelled, connecting again with jitter whenever it breaks."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pass_on())
            while True:
                try:
                    await self._listen()
                except (OSError, LinkRefusedError, NotNatsError, TlsMissingError) as error:
                    if self.connected:
                        logger.warning("fly_logs.lost", extra={"error": str(error)[:200]})
                    self.connected = False
                await asyncio.sleep(random.uniform(1.0, _AGAIN_S))  # noqa: S311  # jitter

    async def _listen(self) -> None:
        async with asyncio.timeout(_ENTER_S):
            link = await Link.connect(self._place.host, self._place.port)
            try:
                await link.enter(self._place)
            except BaseException:
                link.close()
                raise
        try:
            link.subscribe(self._subject, self._heard)
            self.connected = True
            logger.info("fly_logs.listening", extra={"subject": self._subject})
            while True:
                async with asyncio.timeout(_PING_S):
                    await link.ping()
                await asyncio.sleep(_PING_S)
        finally:
            link.close()

    def _heard(self, reply: Reply) -> None:
        line = line_of(reply.data, read_ns=int(self._clock.wall_s() * 1e9))
        if line is None:
            self.dropped += 1
            return
        try:
            self._lines.put_nowait(line)
        except asyncio.QueueFull:
            self.dropped += 1

    async def _pass_on(self) -> None:
        while True:
            batch = [await self._lines.get()]
            await asyncio.sleep(_LINGER_S)
            while len(batch) < _BATCH and not self._lines.empty():
                batch.append(self._lines.get_nowait())
            try:
                await self._take(tuple(batch))
            except OSError as error:
                self.dropped += len(batch)
                logger.warning("fly_logs.not_taken", extra={"lines": len(batch), "error": str(error)})


def line_of(data: bytes, *, read_ns: int) -> Line | None:
    """The line inside one message of the stream; None when it is none."""
    try:
        event = msgspec.json.decode(data, type=_Event)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    text = event.message.encode("utf-8", "replace")
    if not text.lstrip().startswith(b"{"):
        # A bare line: Fly's own level and time are all there is.
        said = {"message": event.message, "level": event.log.level, "timestamp": event.timestamp}
        text = msgspec.json.encode(said)
    resource = {
        "service.name": event.fly.app.name,
        "service.instance.id": event.fly.app.instance,
        "cloud.region": event.fly.region,
        "cloud.provider": "fly_io",
    }
    return Line(
        text=text, read_ns=read_ns, resource=tuple((key, value) for key, value in resource.items() if value)
    )
