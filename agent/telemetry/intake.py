"""The address that services push to: OTLP/HTTP, answered only when what was sent is on disk.

opentelemetry-proto, docs/specification.md, "OTLP/HTTP". Clients of the Python SDK give up after 10 s and drop
at once on a long Retry-After or a 500: so we take to disk rather than refuse, open the port before anything
else, and never answer 500.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final

from agent.telemetry import answers, schema
from agent.telemetry.answers import JSON, PROTOBUF
from agent.telemetry.counting import Content, Counting
from agent.telemetry.durable_log import DurableLog, LogLimits
from agent.telemetry.http_head import Head
from agent.telemetry.http_server import Answer, HttpServer, ServerLimits, Site
from agent.telemetry.inflate import inflate
from agent.telemetry.options import IntakeOptions, fitted
from agent.telemetry.record import Head as RecordHead
from agent.telemetry.red import RequestTotals
from agent.telemetry.signals import Lane, Rejected, Signal
from agent.telemetry.traffic import Traffic, Witness
from alerts.requests import ErrorLog, RequestSample
from checks.clock import Clock

logger = logging.getLogger(__name__)

_PATHS: Final = {f"/v1/{signal.value}": signal for signal in Signal}
_TICK_S: Final = 1.0
_QUIET_TICKS: Final = 10
_CHECKPOINT_TICKS: Final = 5
_START_S: Final = 5.0
_THREAD_BYTES: Final = 256 * 1024
SOURCE: Final = "otlp"


class Intake:
    """Takes telemetry in, keeps it, counts it. Build it, then `run()`; `opened` is set when the port is.

    `requests` and `error_logs` are called on the event loop with what the rules judge.
    """

    def __init__(  # noqa: PLR0913  # the intake's whole surroundings, all by name
        self,
        options: IntakeOptions,
        *,
        directory: Path,
        env: str,
        clock: Clock,
        traffic: Traffic,
        requests: Callable[[RequestSample], None],
        error_logs: Callable[[ErrorLog], None],
        aliases: frozenset[str] = frozenset(),
        names: Mapping[str, str] | None = None,
    ) -> None:
        self._options = fitted(options, memory_bytes=_memory_bytes())
        self._clock = clock
        self._envs = aliases | {env}
        self._traffic = traffic
        self._requests = requests
        self._error_logs = error_logs
        self._directory = directory
        self._env = env
        self._names = dict(names or {})
        self._touched: set[str] = set()
        self._fed: dict[str, RequestTotals] = {}
        self._server = HttpServer(
            Site(admit=self._admit, answer=self._answer, refuse=self._refuse),
            ServerLimits(request_bytes=self._options.request, in_flight_bytes=self._options.in_flight),
        )
        self._usable = asyncio.Event()
        self._log: DurableLog | None = None
        self._counting: Counting | None = None
        self._replay_to = 0
        self._workers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="telemetry-json")
        self.opened = asyncio.Event()
        self.port = 0
        # Requests answered with an error, by signal and code.
        self.refused: Counter[tuple[str, int]] = Counter()
        self.retried = 0

    async def run(self) -> None:
        """Serve until cancelled, then finish what was accepted. Raises OSError if the port is taken."""
        self.port = await self._server.open(self._options.host, self._options.port)
        self.opened.set()
        logger.info("telemetry.listening", extra={"port": self.port})
        try:
            while not self._usable.is_set():
                try:
                    await self._open_log()
                except OSError as error:
                    logger.error("telemetry.log_unusable", extra={"error": str(error)})  # noqa: TRY400  # says all
                    await asyncio.sleep(_TICK_S)
            await self._serve()
        finally:
            await self._server.close()
            await self._close()

    async def _open_log(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        counting = Counting(
            self._directory, env=self._env, names=self._names, slower_than_s=self._options.slower_than
        )
        limits = LogLimits(disk_bytes=self._options.disk, free_bytes=self._options.keep_free)
        log = DurableLog(self._directory, limits)
        await log.open(after_seq=counting.seq)
        self._log, self._counting = log, counting
        self._replay_to = log.last_seq
        now_s = self._clock.wall_s()
        for service in counting.requests.services():
            # What was counted before this start is the baseline for what is counted after it.
            self._fed[service] = counting.totals(service, envs=self._envs, at_s=now_s)
            self._take(service, self._fed[service])
        self._usable.set()

    async def _serve(self) -> None:
        log, counting = self._parts()
        await counting.replay(log, self._replay_to)
        self._touched.update(counting.requests.services())
        ticks = 0
        while True:
            self._feed(everything=ticks % _QUIET_TICKS == 0)
            if ticks % _CHECKPOINT_TICKS == 0:
                await self._save()
            ticks += 1
            await asyncio.sleep(_TICK_S)

    def _parts(self) -> tuple[DurableLog, Counting]:
        assert self._log is not None
        assert self._counting is not None
        return self._log, self._counting

    async def _close(self) -> None:
        if self._log is None or self._counting is None:
            return
        await self._log.settle()
        self._feed(everything=False)
        await self._save()
        await self._log.close()

    async def _save(self) -> None:
        log, counting = self._parts()
        try:
            await counting.save(log)
        except OSError as error:
            logger.warning("telemetry.checkpoint_failed", extra={"error": str(error)})
            return
        for lane in Lane:
            log.release(lane, counting.saved_seq)

    def _feed(self, *, everything: bool) -> None:
        """Give the rules what was counted since the last time; now and then all, so that none looks stale."""
        _, counting = self._parts()
        now_s = self._clock.wall_s()
        for service in counting.requests.services() if everything else tuple(self._touched):
            totals = self._fed.get(service)
            if totals is None:
                # Our counters begin at 0: a service's first error is an increase, not a baseline.
                self._take(service, RequestTotals(at_s=now_s - _TICK_S, incarnation=counting.born, routes={}))
            if totals is None or service in self._touched:
                totals = counting.totals(service, envs=self._envs, at_s=now_s)
            self._fed[service] = totals
            self._take(
                service, RequestTotals(at_s=now_s, incarnation=totals.incarnation, routes=totals.routes)
            )
        self._touched.clear()
        for event in counting.logs.drain():
            self._error_logs(event)

    def _take(self, service: str, totals: RequestTotals) -> None:
        sample = self._traffic.take(service=service, witness=Witness.SPANS, source=SOURCE, totals=totals)
        if sample is not None:
            self._requests(sample)

    def _admit(self, head: Head) -> None:
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

    async def _answer(self, head: Head, body: bytes) -> Answer:
        signal = _PATHS[head.path]
        json = _media_type(head) == JSON
        try:
            invalid = await self._accept(signal, head, body)
        except Rejected as rejected:
            return self._refuse(head, rejected)
        except OSError as error:
            logger.warning("telemetry.log_failed", extra={"error": str(error)})
            return self._refuse(head, Rejected(503, "the disk cannot take it now", retry_after_s=1))
        if invalid:
            text = f"{invalid} spans have no valid trace id and span id"
            content = answers.partial(signal, invalid, text, json=json)
        else:
            content = answers.success(json=json)
        return Answer(status=200, content_type=JSON if json else PROTOBUF, body=content)

    async def _accept(self, signal: Signal, head: Head, body: bytes) -> int:
        """Keep a body; the number of invalid spans left out. Returns once it is on disk."""
        gzip = head.headers.get("content-encoding", "").lower() == "gzip"
        # A retry is the same bytes but for gzip's header, which holds the time of compression.
        digest = sha256(body[10:] if gzip else body).digest()[:16]
        plain = inflate(body, max_bytes=self._options.request) if gzip else body
        await self._until_usable()
        log, counting = self._parts()
        if _media_type(head) == JSON:
            body = plain = await self._from_json(signal, plain)
            gzip = False
        content = await counting.look(signal, plain)
        if content.invalid:
            body, gzip = schema.without_invalid_spans(plain), False
        if content.items == 0:
            return content.invalid
        record = RecordHead(
            seq=0,
            received_ns=int(self._clock.wall_s() * 1e9),
            lane=content.lane,
            gzip=gzip,
            items=content.items,
            oldest_ns=content.oldest_ns,
            digest=digest if _has_identity(content) else secrets.token_bytes(16),
        )
        if await log.append(record, body, apply=partial(self._counted, content)) is None:
            self.retried += 1
        return content.invalid

    async def _until_usable(self) -> None:
        if self._usable.is_set():
            return
        try:
            async with asyncio.timeout(_START_S):
                await self._usable.wait()
        except TimeoutError:
            raise Rejected(503, "the log is not open yet", retry_after_s=1) from None

    async def _from_json(self, signal: Signal, plain: bytes) -> bytes:
        from agent.telemetry.otlp_json import to_message

        if len(plain) > _THREAD_BYTES:
            loop = asyncio.get_running_loop()
            message = await loop.run_in_executor(self._workers, to_message, signal, plain)
        else:
            message = to_message(signal, plain)
        content: bytes = message.SerializeToString()
        return content

    def _counted(self, content: Content, head: RecordHead) -> None:
        _, counting = self._parts()
        counting.apply(content, head)
        for tally in content.tallies:
            self._touched.update(tally.services)

    def _refuse(self, head: Head | None, rejected: Rejected) -> Answer:
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


def _has_identity(content: Content) -> bool:
    """Whether equal bodies must be one sent twice: spans have ids, and a clock's reading is nearly one."""
    return content.lane is Lane.TRACES or bool(content.oldest_ns % 1_000_000)


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
