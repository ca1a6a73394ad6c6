"""The address that services push to: the port first, then the log; counts to the rules, bytes onward."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from agent.telemetry import cursor
from agent.telemetry.counting import Counting
from agent.telemetry.durable_log import DurableLog, LogLimits
from agent.telemetry.figures import Figures
from agent.telemetry.forwarder import Forwarder
from agent.telemetry.grpc_server import GrpcServer, require_grpc
from agent.telemetry.http_server import HttpServer, ServerLimits, Site
from agent.telemetry.ledger import Account
from agent.telemetry.log_sources import LogSources
from agent.telemetry.options import IntakeOptions, fitted, place_of
from agent.telemetry.post import HttpPost
from agent.telemetry.reception import Reception
from agent.telemetry.red import RequestTotals
from agent.telemetry.reserve import Reserve, is_full
from agent.telemetry.segments import Segment
from agent.telemetry.signals import Lane, Signal
from agent.telemetry.traffic import Traffic, Witness
from alerts.requests import ErrorLog, RequestExample, RequestSample
from checks.clock import Clock

logger = logging.getLogger(__name__)

_TICK_S: Final = 1.0
_QUIET_TICKS: Final = 10
_CHECKPOINT_TICKS: Final = 5
SOURCE: Final = "otlp"


class Intake:
    """Takes telemetry in, keeps it, counts it. Build it, then `run()`; `opened` is set when the port is.

    `requests`, `error_logs` and `examples` are called on the event loop with what the rules judge.
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
        examples: Callable[[RequestExample], None] = lambda _: None,
        aliases: frozenset[str] = frozenset(),
        names: Mapping[str, str] | None = None,
    ) -> None:
        self._options = fitted(options, memory_bytes=_memory_bytes())
        self._clock = clock
        self._envs = aliases | {env}
        self._traffic = traffic
        self._requests = requests
        self._error_logs = error_logs
        self._examples = examples
        self._directory = directory
        self._env = env
        self._names = dict(names or {})
        self._fed: dict[str, RequestTotals] = {}
        self.reception = Reception(self._options, clock)
        self._server = HttpServer(
            Site(admit=self.reception.admit, answer=self.reception.answer, refuse=self.reception.refuse),
            ServerLimits(request_bytes=self._options.request, in_flight_bytes=self._options.in_flight),
        )
        self._grpc = GrpcServer(
            self.reception.accept,
            limit=self.reception.limit,
            token=self._options.token,
            request_bytes=self._options.request,
            in_flight_bytes=self._options.in_flight,
        )
        self._log: DurableLog | None = None
        self._counting: Counting | None = None
        self._replay_to = 0
        self._reserve = Reserve(directory)
        self.forwarders: dict[str, Forwarder] = {}
        self._accounts: dict[tuple[str, Signal], Account] = {}
        self._oldest: dict[tuple[str, Signal], float] = {}
        self.opened = asyncio.Event()
        self.port = self.grpc_port = 0

    async def run(self) -> None:
        """Serve until cancelled, then finish what was accepted.

        Raises OSError if a port is taken, GrpcMissingError where gRPC is asked for and not installed.
        """
        if self._options.grpc_listen is not None:
            require_grpc()
        try:
            await self._listen()
            while self._log is None:
                try:
                    await self._open_log()
                except OSError as error:
                    logger.error("telemetry.log_unusable", extra={"error": str(error)})  # noqa: TRY400  # says all
                    await asyncio.sleep(_TICK_S)
            await self._serve()
        finally:
            await self._server.close()
            await self._grpc.close()
            self.reception.close()
            await self._close()

    async def _listen(self) -> None:
        if self._options.listen is not None:
            self.port = await self._server.open(*place_of(self._options.listen))
        if self._options.grpc_listen is not None:
            self.grpc_port = await self._grpc.open(self._options.grpc_listen)
        self.opened.set()
        logger.info("telemetry.listening", extra={"port": self.port, "grpc_port": self.grpc_port})

    async def _open_log(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        counting = Counting(
            self._directory,
            env=self._env,
            names=self._names,
            envs=self._envs,
            slower_than_s=self._options.slower_than,
        )
        limits = LogLimits(disk_bytes=self._options.disk, free_bytes=self._options.keep_free)
        log = DurableLog(self._directory, limits)
        await log.open(after_seq=max(counting.seq, cursor.highest(self._directory)))
        await log.in_thread(self._reserve.hold)
        self._log, self._counting = log, counting
        self._replay_to = log.last_seq
        now_s = self._clock.wall_s()
        for service in counting.requests.services():
            # What was counted before this start is the baseline for what is counted after it.
            self._fed[service] = counting.totals(service, envs=self._envs, at_s=now_s)
            self._take(service, Witness.SPANS, SOURCE, self._fed[service])
        self.reception.use(log, counting)

    async def _serve(self) -> None:
        log, counting = self._parts()
        await counting.replay(log, self._replay_to)
        self.reception.touched.update(counting.requests.services())
        async with asyncio.TaskGroup() as tasks:
            for name, destination in self._options.destinations.items():
                post = HttpPost(timeout_s=destination.timeout)
                forwarder = Forwarder(
                    name, destination, log=log, directory=self._directory, clock=self._clock, post=post,
                    received=counting.received_items.__getitem__,
                )  # fmt: skip
                self.forwarders[name] = forwarder
                tasks.create_task(self._forward(forwarder, post))
            log.on_evict = self._evict
            sources = LogSources(
                self._options,
                directory=self._directory,
                clock=self._clock,
                keep=self.reception.keep_logs,
                log=log,
            )
            tasks.create_task(sources.run())
            await self._tick()

    async def _forward(self, forwarder: Forwarder, post: HttpPost) -> None:
        try:
            while True:
                try:
                    await forwarder.run()
                except Exception:
                    logger.exception("telemetry.forwarder_defect", extra={"destination": forwarder.name})
                    await asyncio.sleep(_TICK_S)
        finally:
            await post.close()

    def _evict(self, lane: Lane, segment: Segment) -> None:
        for forwarder in self.forwarders.values():
            forwarder.evict(lane, segment)

    async def _tick(self) -> None:
        ticks = 0
        while True:
            self._feed(everything=ticks % _QUIET_TICKS == 0)
            if ticks % _CHECKPOINT_TICKS == 0:
                await self._save()
                await self._audit()
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
            await self._checkpoint(log, counting)
        except OSError as error:
            logger.warning("telemetry.checkpoint_failed", extra={"error": str(error)})
            return
        for lane in Lane:
            places = [forwarder.seq(lane) for forwarder in self.forwarders.values()]
            log.release(lane, min([counting.saved_seq, *(seq for seq in places if seq is not None)]))
        # After the segments that were released, on the same thread.
        await log.in_thread(self._reserve.hold)

    async def _checkpoint(self, log: DurableLog, counting: Counting) -> None:
        """Write it, on a full disk into the room kept for it. Raises OSError."""
        try:
            await counting.save(log)
        except OSError as error:
            if not is_full(error):
                raise
            await log.in_thread(self._reserve.give)
            await counting.save(log)

    def _feed(self, *, everything: bool) -> None:
        """Give the rules what was counted since the last time; now and then all, so that none looks stale."""
        _, counting = self._parts()
        now_s = self._clock.wall_s()
        for service in counting.requests.services() if everything else tuple(self.reception.touched):
            totals = self._fed.get(service)
            if totals is None:
                # Our counters begin at 0: a service's first error is an increase, not a baseline.
                nothing = RequestTotals(at_s=now_s - _TICK_S, incarnation=counting.born, routes={})
                self._take(service, Witness.SPANS, SOURCE, nothing)
            if totals is None or service in self.reception.touched:
                totals = counting.totals(service, envs=self._envs, at_s=now_s)
            self._fed[service] = totals
            now = RequestTotals(at_s=now_s, incarnation=totals.incarnation, routes=totals.routes)
            self._take(service, Witness.SPANS, SOURCE, now)
        for service, source, totals in counting.pushed.drain(now_s):
            self._take(service, Witness.METRICS, source, totals)
        self.reception.touched.clear()
        for event in counting.logs.drain():
            self._error_logs(event)
        for example in counting.trails.drain():
            self._examples(example)

    def _take(self, service: str, witness: Witness, source: str, totals: RequestTotals) -> None:
        sample = self._traffic.take(service=service, witness=witness, source=source, totals=totals)
        if sample is not None:
            self._requests(sample)

    async def _audit(self) -> None:
        """Draw up the ledger; say once when it does not balance."""
        before = self._accounts
        self._accounts = {
            (name, signal): await forwarder.account(signal)
            for name, forwarder in self.forwarders.items()
            for signal in forwarder.options.signals
        }
        now_s = self._clock.wall_s()
        self._oldest = {
            (name, signal): await forwarder.oldest_unsent_s(signal, now_s)
            for name, forwarder in self.forwarders.items()
            for signal in forwarder.options.signals
        }
        for (name, signal), account in self._accounts.items():
            known = before.get((name, signal))
            if account.missing and (known is None or known.missing != account.missing):
                logger.error(
                    "telemetry.ledger_unbalanced",
                    extra={"destination": name, "signal": signal.value, "items": account.missing},
                )

    @property
    def counting(self) -> Counting | None:
        """The tables; None until the log is open."""
        return self._counting

    def figures(self) -> Figures | None:
        """What the intake says of itself; None until the log is open."""
        if self._log is None or self._counting is None:
            return None
        requests = self._counting.requests
        folded = {service: requests.folded(service) for service in requests.services()}
        return Figures(
            received=dict(self._counting.received_items),
            error_logs=self._counting.logs.errors_by_service(),
            accounts=self._accounts,
            refused=dict(self.reception.refused),
            retried=self.reception.retried,
            log_bytes=self._log.disk_bytes,
            damaged_bytes=self._log.damaged_bytes,
            failed_writes=self._log.failures,
            in_flight_bytes=self._server.in_flight_bytes,
            folded={service: routes for service, (_, routes) in folded.items() if routes},
            folded_requests={service: count for service, (count, _) in folded.items() if count},
            log_records=dict(self._counting.logs.levels),
            oldest_unsent_s=self._oldest,
            destinations={name: each.backend.paused for name, each in self.forwarders.items()},
            away={name: each.backend.away for name, each in self.forwarders.items() if each.backend.away},
        )


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
