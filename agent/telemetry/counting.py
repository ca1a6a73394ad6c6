"""What the durable log says happened: requests, log levels and errors, exact across restarts.

Every count belongs to a record of the log. The checkpoint holds the counts up to one sequence number, and
what comes after it is counted again from the log on start, so a restart is neither a reset nor a gap.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from agent.telemetry import checkpoint, schema, split
from agent.telemetry.checkpoint import Checkpoint
from agent.telemetry.durable_log import DurableLog
from agent.telemetry.error_logs import ERROR, LogTable, LogTally
from agent.telemetry.inflate import inflate
from agent.telemetry.pushed import PushedRequests, PushTally
from agent.telemetry.record import Head
from agent.telemetry.red import RequestTotals
from agent.telemetry.segments import write_whole
from agent.telemetry.series import EDGES, SeriesTable
from agent.telemetry.signals import Lane, Rejected, Signal
from agent.telemetry.spans import SpanCounter, SpanTally
from agent.telemetry.trails import Trails

_PIECE_BYTES: Final = 256 * 1024
_PIECE_ITEMS: Final = 1000
_REPLAY_BYTES: Final = 1024 * 1024
_MAX_PLAIN: Final = 1 << 30


class Content(Struct):
    """A valid request body, looked through: what it holds and what it will add to the counts."""

    lane: Lane
    items: int
    invalid: int = 0
    oldest_ns: int = 0
    tallies: tuple[SpanTally | LogTally | PushTally, ...] = ()
    # The same for the same request sent again, empty where two equal requests may be two events.
    identity: bytes = b""


class Counting:
    """The tables and their checkpoint. Belongs to one event loop."""

    def __init__(
        self,
        directory: Path,
        *,
        env: str,
        names: dict[str, str],
        envs: frozenset[str],
        slower_than_s: Iterable[float] = (),
    ) -> None:
        self._path = directory / "counts"
        self._names = names
        slower_than_s = tuple(slower_than_s)
        self.requests = SeriesTable(edges=(*EDGES, *slower_than_s))
        self.trails = Trails(env=env, slow_s=min(slower_than_s, default=2.0))
        self.logs = LogTable(self.trails, env=env)
        self.pushed = PushedRequests(names=names, envs=envs)
        self._spans = SpanCounter(self.requests, self.trails, names=names)
        saved = checkpoint.load(self._path)
        self.seq = saved.seq
        self.saved_seq = saved.seq
        self.born = saved.born or secrets.token_hex(8)
        self.requests.load(saved.requests)
        self.logs.levels.update(saved.levels)
        self.logs.errors.update(saved.errors)
        self.received_items = {signal: saved.received_items.get(signal, 0) for signal in Signal}
        self.received_bytes = {signal: saved.received_bytes.get(signal, 0) for signal in Signal}
        self._replayed = False

    async def look(self, signal: Signal, body: bytes) -> Content:
        """Validate and tally `body`, giving way to others every 256 KiB. Raises Rejected 400."""
        parts = [self._look(signal, part) async for part in _parts(body)]
        if not parts:
            schema.parse(signal, body)
            return Content(_LANES[signal], 0)
        if len(parts) == 1:
            return parts[0]
        return Content(
            lane=max(part.lane for part in parts),
            items=sum(part.items for part in parts),
            invalid=sum(part.invalid for part in parts),
            oldest_ns=min((part.oldest_ns for part in parts if part.oldest_ns), default=0),
            tallies=tuple(tally for part in parts for tally in part.tallies),
            identity=b"".join(part.identity for part in parts)
            if all(part.identity for part in parts)
            else b"",
        )

    def _look(self, signal: Signal, body: bytes) -> Content:
        message = schema.parse(signal, body)
        match signal:
            case Signal.TRACES:
                spans = self._spans.tally(schema.parse_slim_traces(body))
                return Content(
                    lane=Lane.TRACES,
                    items=spans.spans - spans.invalid,
                    invalid=spans.invalid,
                    tallies=(spans,),
                    identity=spans.identity,
                )
            case Signal.METRICS:
                pushed = self.pushed.tally(message.resource_metrics)
                return Content(Lane.METRICS, sum(_points(message)), tallies=(pushed,))
            case Signal.LOGS:
                logs = self.logs.tally(message.resource_logs, self._names)
                lane = Lane.ERRORS if logs.worst >= ERROR else Lane.LOGS
                # Only a clock's reading is finer than a millisecond: no two events share it and every byte.
                precise = logs.oldest_ns % 1_000_000
                identity = sha256(body).digest() if precise else b""
                return Content(
                    lane, logs.records, oldest_ns=logs.oldest_ns, tallies=(logs,), identity=identity
                )

    def apply(self, content: Content, head: Head) -> None:
        """Count what is now on disk."""
        at_s = head.received_ns / 1e9
        for tally in content.tallies:
            tally.apply(at_s)
        self.received_items[head.lane.signal] += head.items
        self.received_bytes[head.lane.signal] += head.payload_bytes
        self.seq = max(self.seq, head.seq)

    async def replay(self, log: DurableLog, up_to_seq: int) -> int:
        """Count the records after the checkpoint that were on disk at start; how many there were."""
        begin, count = self.saved_seq, 0
        for lane in Lane:
            at = begin
            while found := await log.read(lane, at, max_bytes=_REPLAY_BYTES):
                for head, content in found:
                    at = head.seq
                    if at > up_to_seq:
                        break
                    count += 1
                    if content is not None:
                        await self._recount(head, content)
                if at >= up_to_seq:
                    break
        self.seq = max(self.seq, up_to_seq)
        self._replayed = True
        return count

    async def _recount(self, head: Head, content: bytes) -> None:
        try:
            body = inflate(content, max_bytes=_MAX_PLAIN) if head.gzip else content
            self.apply(await self.look(head.lane.signal, body), head)
        except Rejected:
            # It was valid when it was taken in: only a damaged disk comes here, and the log counts that.
            return

    async def save(self, log: DurableLog) -> None:
        """Write a checkpoint if there is news, on the log's thread. Raises OSError."""
        if not self._replayed or self.seq == self.saved_seq:
            return
        seq = self.seq
        state = Checkpoint(
            seq=seq,
            born=self.born,
            requests=self.requests.dump(),
            levels=list(self.logs.levels.items()),
            errors=list(self.logs.errors.items()),
            received_items={signal.value: count for signal, count in self.received_items.items()},
            received_bytes={signal.value: count for signal, count in self.received_bytes.items()},
        )
        content = checkpoint.encode(state)
        await log.in_thread(partial(write_whole, self._path, content))
        self.saved_seq = seq

    def totals(self, service: str, *, envs: frozenset[str], at_s: float) -> RequestTotals:
        """One service's counters as the rules take them."""
        return RequestTotals(
            at_s=at_s, incarnation=self.born, routes=self.requests.routes(service, envs=envs)
        )


_LANES: Final = {Signal.TRACES: Lane.TRACES, Signal.METRICS: Lane.METRICS, Signal.LOGS: Lane.LOGS}


async def _parts(body: bytes) -> AsyncIterator[bytes]:
    """The body itself, or bounded pieces of a large one with a turn for everybody else in between."""
    if len(body) <= _PIECE_BYTES:
        if body:
            yield body
        return
    try:
        for piece in split.pieces(body, max_bytes=_PIECE_BYTES, max_items=_PIECE_ITEMS):
            yield piece
            await asyncio.sleep(0)
    except split.SplitError as error:
        raise Rejected(400, f"the body is not valid protobuf: {error}") from None


def _points(message: Any) -> Iterator[int]:
    for resource in message.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                data = metric.WhichOneof("data")
                yield len(getattr(metric, data).data_points) if data else 0
