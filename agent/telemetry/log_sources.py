"""The structured logs that are fetched rather than pushed: files that grow, and Fly.io's stream."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar
from zlib import crc32

from agent.telemetry.durable_log import DurableLog
from agent.telemetry.error_logs import severity_of
from agent.telemetry.follow import Batch, Follower
from agent.telemetry.json_lines import Line, to_request
from agent.telemetry.options import IntakeOptions
from agent.telemetry.segments import write_whole
from agent.telemetry.signals import Rejected
from checks.clock import Clock

logger = logging.getLogger(__name__)

T = TypeVar("T")


class KeepLogs(Protocol):
    """Where requests of our own making go; the same `identity` again is the same request."""

    async def __call__(self, plain: bytes, *, identity: bytes) -> None: ...


class LogSources:
    """Runs every follower and the stream until cancelled."""

    def __init__(
        self, options: IntakeOptions, *, directory: Path, clock: Clock, keep: KeepLogs, log: DurableLog
    ) -> None:
        self._options = options
        self._directory = directory
        self._clock = clock
        self._keep = keep
        self._log = log
        self._least = severity_of(options.log_level)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="telemetry-follow")

    async def run(self) -> None:
        """Read until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for service, path in self._files():
                    follower = Follower(
                        Path(path),
                        state=self._directory / f"{service}-{crc32(path.encode()):08x}.place",
                        clock=self._clock,
                        take=self._take_batch,
                        keep=self._remember,
                        in_thread=self._in_thread,
                        service=service,
                    )
                    tasks.create_task(follower.run())
                if self._options.fly_logs is not None:
                    tasks.create_task(self._listen())
        finally:
            self._thread.shutdown(wait=False)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Followed files may lie on a disk that hangs: it must not be the log's thread that waits."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _files(self) -> Iterator[tuple[str, str]]:
        for service, paths in self._options.follow.items():
            for path in paths:
                yield service, path

    async def _listen(self) -> None:
        from agent.telemetry.fly_logs import FlyLogs
        from checks.nats.place import Place

        given = self._options.fly_logs
        assert given is not None
        place = Place(host=given.host, port=given.port, user=given.org, password=given.token)
        stream = FlyLogs(place, subject=given.subject, clock=self._clock, take=self._take_lines)
        await stream.run()

    async def _take_batch(self, batch: Batch) -> None:
        await self._take(batch.lines, batch.identity)

    async def _take_lines(self, lines: tuple[Line, ...]) -> None:
        await self._take(lines, secrets.token_bytes(16))

    async def _take(self, lines: tuple[Line, ...], identity: bytes) -> None:
        body = await self._in_thread(partial(to_request, lines, least_severity=self._least))
        try:
            await self._keep(body, identity=identity)
        except Rejected as rejected:
            raise OSError(rejected.text) from rejected

    async def _remember(self, path: Path, content: bytes) -> None:
        await self._log.in_thread(partial(write_whole, path, content))
