"""How the fault suite looks: a kit, a target, a look, and servers that misbehave on the first byte."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

from checks.catalog import ProbeKit, kind
from checks.check import Check, Sentinel
from checks.clock import Clock, SystemClock
from checks.finding import Finding
from checks.observation import observe
from checks.reason import Reason
from checks.target import Kind, Target, TargetKey

_STEP_S = 0.03


class Names:
    """A resolver that knows addresses and a few names."""

    def __init__(self, **known: str) -> None:
        self._known = known

    def known(self, host: str) -> tuple[str, ...] | None:
        del host
        return None

    async def addresses(self, host: str) -> tuple[str, ...]:
        if host in self._known:
            return (self._known[host],)
        if host == "localhost":
            return ("127.0.0.1",)
        if host.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return (host,)


@dataclass(slots=True)
class Look:
    """One check on one target with its sentinel; `async with` closes it."""

    kind: str
    options: object
    env: str = "production"
    names: Names = field(default_factory=Names)
    clock: Clock = field(default_factory=SystemClock)
    check: Check = field(init=False)
    target: Target = field(init=False)
    kit: ProbeKit = field(init=False)

    def __post_init__(self) -> None:
        self.kit = ProbeKit(clock=self.clock, resolver=self.names)
        key = TargetKey(env=self.env, service=self.kind, check=self.kind, vantage="agent")
        self.target = Target(key=key, kind=Kind.DATABASE, address=self.kind)
        self.check = kind(self.kind).build(self.target, self.options, self.kit)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.check.close()

    async def look(self, times: int = 1) -> Finding:
        assert times > 0
        for _ in range(times):
            observed = await observe(self.check, self.target, deadline_s=8, clock=self.kit.clock)
            self._hold_to_the_contract(observed.finding)
        return observed.finding

    async def until(self, *reasons: Reason, within_s: float = 30) -> Finding:
        """The first look that gives one of these reasons."""
        never = asyncio.Event()
        found = await self.look()
        async with asyncio.timeout(within_s):
            while found.reason not in reasons:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_STEP_S):
                        await never.wait()
                found = await self.look()
        return found

    def _hold_to_the_contract(self, found: Finding) -> None:
        """Whatever is wrong: one sentence, declared series only, each once, no defect of ours."""
        declared = {name: labels for info in kind(self.kind).measures for name, labels in info.series.items()}
        for measure in found.measures:
            assert tuple(name for name, _ in measure.labels) == declared[measure.name], measure
        series = [(measure.name, measure.labels) for measure in found.measures]
        assert len(series) == len(set(series)), "a series twice"
        assert found.reason is not Reason.AGENT, found
        assert found.message
        assert "\n" not in found.message

    def sentinel(self) -> Sentinel:
        build = kind(self.kind).sentinel
        assert build is not None
        made = build(self.target, self.options, self.kit)
        assert made is not None
        return made

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[Suspicions]:
        suspicions = Suspicions()
        task = asyncio.create_task(self.sentinel().watch(suspicions.add))
        try:
            yield suspicions
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@dataclass(slots=True)
class Suspicions:
    """What a sentinel called out, and when."""

    words: list[str] = field(default_factory=list)
    raised: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, why: str) -> None:
        self.words.append(why)
        self.raised.set()

    async def first(self, *, within_s: float = 5.0) -> str:
        async with asyncio.timeout(within_s):
            await self.raised.wait()
        return self.words[0]


async def look_once(kind: str, options: object, *, env: str = "production") -> Finding:
    async with Look(kind, options, env=env) as one:
        return await one.look()


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def misbehaving(handler: Handler) -> AsyncIterator[int]:
    """A server on a free port whose every connection is `handler`'s; its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await handler(reader, writer)
        writer.transport.abort()
        tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    while await reader.read(4096):
        pass


async def closes(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def resets(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    writer.transport.abort()


async def speaks_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()
    await reader.read(4096)
