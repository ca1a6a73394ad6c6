"""OTLP/HTTP to the letter: what is asked for, what may be sent, and the answer once it is on disk.

opentelemetry-proto, docs/specification.md, "OTLP/HTTP". Clients of the Python SDK give up after 10 s and drop
at once on a long Retry-After or a 500: so we take to disk rather than refuse, and never answer 500.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from typing import Final

from msgspec.structs import replace

from agent.http_head import Head
from agent.telemetry import answers, schema
from agent.telemetry.answers import JSON, PROTOBUF
from agent.telemetry.client_limit import ClientLimit
from agent.telemetry.counting import Content, Counting
from agent.telemetry.durable_log import DurableLog
from agent.telemetry.http_server import Answer
from agent.telemetry.inflate import inflate
from agent.telemetry.options import IntakeOptions
from agent.telemetry.record import Head as RecordHead
from agent.telemetry.signals import Rejected, Signal
from checks.clock import Clock

logger = logging.getLogger(__name__)

_PATHS: Final = {f"/v1/{signal.value}": signal for signal in Signal}
_START_S: Final = 5.0
_THREAD_BYTES: Final = 256 * 1024


class Reception:
    """Answers requests; waits a little for `use` while the log is still being opened."""

    def __init__(self, options: IntakeOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._limit = ClientLimit(options.per_client) if options.per_client is not None else None
        self._usable = asyncio.Event()
        self._kept: tuple[DurableLog, Counting] | None = None
        self._workers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="telemetry-json")
        # Services counted since the rules were last told.
        self.touched: set[str] = set()
        # Requests answered with an error, by signal and code.
        self.refused: Counter[tuple[str, int]] = Counter()
        self.retried = 0

    def use(self, log: DurableLog, counting: Counting) -> None:
        """From now on requests are kept and counted here."""
        self._kept = (log, counting)
        self._usable.set()

    def close(self) -> None:
        """Give the worker back."""
        self._workers.shutdown(wait=False)

    def admit(self, head: Head, client: str) -> None:
        if head.path not in _PATHS:
            raise Rejected(404, f"there is nothing at {head.path[:80]}: post to {', '.join(_PATHS)}")
        if head.method != "POST":
            raise Rejected(405, f"{head.method} is not understood here: use POST")
        token = self._options.token
        if token is not None:
            given = head.headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode("latin-1", "replace"), token.reveal().encode()):
                raise Rejected(401, "a bearer token is needed")
        if _media_type(head) not in {PROTOBUF, JSON}:
            raise Rejected(415, f"send {PROTOBUF} or {JSON}")
        if head.headers.get("content-encoding", "identity").lower() not in {"identity", "gzip", ""}:
            raise Rejected(415, "only gzip is understood as Content-Encoding")
        self.limit(client)

    def limit(self, client: str, *, size: int = 0) -> None:
        """Count `size` bytes of a client, or raise Rejected 429 while it owes; nothing without a limit."""
        if self._limit is not None and size:
            self._limit.took(client, size, self._clock.monotonic_s())
        elif self._limit is not None:
            self._limit.admit(client, self._clock.monotonic_s())

    async def answer(self, head: Head, body: bytes, client: str) -> Answer:
        self.limit(client, size=len(body))
        signal = _PATHS[head.path]
        json = _media_type(head) == JSON
        gzip = head.headers.get("content-encoding", "").lower() == "gzip"
        try:
            invalid = await self.accept(signal, body, gzip=gzip, json=json)
        except Rejected as rejected:
            return self.refuse(head, rejected)
        except OSError as error:
            logger.warning("telemetry.log_failed", extra={"error": str(error)})
            return self.refuse(head, Rejected(503, "the disk cannot take it now", retry_after_s=1))
        if invalid:
            content = answers.partial(signal, invalid, answers.invalid_text(invalid), json=json)
        else:
            content = answers.success(json=json)
        return Answer(status=200, content_type=JSON if json else PROTOBUF, body=content)

    async def accept(self, signal: Signal, body: bytes, *, gzip: bool = False, json: bool = False) -> int:
        """Keep a body; the number of invalid spans left out. Returns once it is on disk.

        Raises Rejected, and OSError when the disk cannot take it.
        """
        plain = inflate(body, max_bytes=self._options.request) if gzip else body
        _, counting = await self._opened()
        if json:
            body = plain = await self._from_json(signal, plain)
            gzip = False
        content = await counting.look(signal, plain)
        if content.invalid:
            body, gzip = schema.without_invalid_spans(plain), False
        await self._append(content, body, gzip=gzip, digest=_digest(content, plain))
        return content.invalid

    async def keep_logs(self, plain: bytes, *, identity: bytes) -> None:
        """Keep an ExportLogsServiceRequest of our own making as if it had been pushed; again is once.

        Raises OSError when the disk cannot take it, Rejected while the log is not open.
        """
        await self.keep(Signal.LOGS, plain, identity)

    async def keep(self, signal: Signal, plain: bytes, identity: bytes) -> None:
        """The same for a request of any signal."""
        _, counting = await self._opened()
        content = replace(await counting.look(signal, plain), identity=identity)
        await self._append(content, plain, gzip=False, digest=_digest(content, plain))

    async def _append(self, content: Content, body: bytes, *, gzip: bool, digest: bytes) -> None:
        """Return once it is on disk and counted."""
        if content.items == 0:
            return
        log, counting = await self._opened()
        record = RecordHead(
            seq=0,
            received_ns=int(self._clock.wall_s() * 1e9),
            lane=content.lane,
            gzip=gzip,
            items=content.items,
            oldest_ns=content.oldest_ns,
            digest=digest,
        )
        if await log.append(record, body, apply=partial(self._counted, counting, content)) is None:
            self.retried += 1

    async def _opened(self) -> tuple[DurableLog, Counting]:
        if self._kept is None:
            try:
                async with asyncio.timeout(_START_S):
                    await self._usable.wait()
            except TimeoutError:
                raise Rejected(503, "the log is not open yet", retry_after_s=1) from None
        assert self._kept is not None
        return self._kept

    async def _from_json(self, signal: Signal, plain: bytes) -> bytes:
        from agent.telemetry.otlp_json import to_message

        if len(plain) > _THREAD_BYTES:
            loop = asyncio.get_running_loop()
            message = await loop.run_in_executor(self._workers, to_message, signal, plain)
        else:
            message = to_message(signal, plain)
        content: bytes = message.SerializeToString()
        return content

    def _counted(self, counting: Counting, content: Content, head: RecordHead) -> None:
        counting.apply(content, head)
        for tally in content.tallies:
            self.touched.update(tally.services)

    def refuse(self, head: Head | None, rejected: Rejected) -> Answer:
        """A google.rpc.Status in the request's own encoding; where that is neither, JSON for people."""
        signal = _PATHS.get(head.path) if head is not None else None
        self.refused[signal.value if signal else "", rejected.status] += 1
        json = head is None or _media_type(head) != PROTOBUF
        headers = ("Allow: POST",) if rejected.status == 405 else ()
        if rejected.status == 401:
            headers = ("WWW-Authenticate: Bearer",)
        if rejected.retry_after_s is not None:
            headers = (f"Retry-After: {rejected.retry_after_s}",)
        return Answer(
            status=rejected.status,
            content_type=JSON if json else PROTOBUF,
            body=answers.failure(rejected.status, rejected.text, json=json),
            headers=headers,
        )


def _media_type(head: Head) -> str:
    return head.headers.get("content-type", "").partition(";")[0].strip().lower()


def _digest(content: Content, plain: bytes) -> bytes:
    """What a retry shares with the first try. Over little, because hashing much would give up the GIL."""
    if not content.identity:
        return secrets.token_bytes(16)
    return sha256(b"%d.%d." % (content.items, len(plain)) + content.identity).digest()[:16]
