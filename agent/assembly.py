"""The agent put together: every part with its owner, started in the order that names a fault soonest."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.metadata import version
from typing import Final

from agent.board import Board, EventKind
from agent.exposition.agent_series import AgentSeries
from agent.exposition.document import Document
from agent.exposition.metrics import METRICS
from agent.exposition.notification_series import NotificationSeries
from agent.exposition.target_series import TargetSeries
from agent.history import History
from agent.judgement import Judgement
from agent.live import Applied, LiveSource, digest, part_of
from agent.log import LogWriter, log_level
from agent.platform.problem import PlatformError
from agent.platform.scope import Platform, Scope
from agent.prober import Look, Prober, Watch
from agent.scraping import Scraping
from agent.secrets import secrets
from agent.settings import Settings, StartError
from agent.telemetry.scrape import Scraped, Scraper
from agent.telemetry.traffic import Traffic, Witness
from agent.vitals import Gap, Vitals
from agent.watches import watches
from agent.web.source import AgentPart, Change
from alerts.view import Transition
from checks.catalog import MeasureInfo, ProbeKit, kind
from checks.clock import SystemClock
from checks.observation import Occasion
from checks.resolver import CachingResolver

logger = logging.getLogger(__name__)

_TICK_S: Final = 1.0
# Enough for a first look at everything near; what is imported after it takes a tenth of a second or more.
_FIRST_PASS_S: Final = 0.2


class Agent:
    """One running agent. Build it, `run()` it; `ask_reload()` may be called at any time in between."""

    def __init__(
        self, settings: Settings, platform: Platform, scopes: tuple[Scope, ...], log: LogWriter
    ) -> None:
        self._settings = settings
        self._log = log
        self._data = settings.data_dir(scopes[0])
        self._clock = SystemClock()
        self._kit = ProbeKit(clock=self._clock, resolver=CachingResolver())
        self._board = Board()
        self._watches = _watched(scopes, self._kit)
        self._history = History(self._data / "history.db", self._clock)
        self._vitals = Vitals(self._clock, self._gap)
        self._document = Document(metric.family for metric in METRICS)
        self._target_series = TargetSeries(
            self._document, _measures(self._watches), edges_s=scopes[0].latency_edges_s
        )
        self._agent_series = AgentSeries(self._document)
        self._judgements = {scope.environment_name: self._judgement(scope) for scope in scopes}
        self._traffic = {scope.environment_name: _traffic(scope) for scope in scopes}
        self._prober = Prober(self._board, self._clock, self._looked)
        self._scraping = Scraping(self._clock, self._scraped)
        self._reload = asyncio.Event()
        self._imports = ThreadPoolExecutor(1, thread_name_prefix="imports")
        self._ready = False
        self._source = LiveSource(
            clock=self._clock,
            applied=Applied(
                platform=platform.name,
                version=version("gaia-agent"),
                scopes=scopes,
                loaded_s=self._clock.wall_s(),
                digest=digest(scopes),
                checked_s=self._clock.wall_s(),
            ),
            board=self._board,
            document=self._document,
            history=self._history,
            vitals=self._vitals,
            judgements=self._judgements,
            traffic=self._traffic,
            target_series=self._target_series,
            agent_series=self._agent_series,
            notification_series=NotificationSeries(self._document),
            ready=lambda: self._ready,
            parts=self._parts,
        )

    async def run(self) -> None:
        """Run until cancelled. Raises StartError when a part cannot start."""
        scopes = self._source.applied.scopes
        logger.info(
            "agent.started", extra={"targets": len(self._watches), "config": self._source.applied.digest}
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._prober.run(self._watches))
                tasks.create_task(self._vitals.run())
                tasks.create_task(self._tick())
                tasks.create_task(self._history.run())
                for judgement in self._judgements.values():
                    tasks.create_task(judgement.deliver())
                await asyncio.sleep(_FIRST_PASS_S)
                tasks.create_task(self._scraping.run(scopes))
                tasks.create_task(self._reloads())
                await self._source.restore()
                await self._serve(scopes[0])
        except BaseExceptionGroup as group:
            cause = group.subgroup(StartError)
            if cause is not None:
                raise StartError(str(_first(cause))) from group
            raise

    def ask_reload(self) -> None:
        """Read the file again soon; states stay, a bad file changes nothing."""
        self._reload.set()

    # What comes in.

    def _looked(self, look: Look) -> None:
        observation = look.observation
        self._history.add(observation)
        if observation.occasion is Occasion.SCHEDULED:
            self._vitals.looked(look.lag_s, look.missed)
        self._target_series.looked(look)
        self._judgements[observation.target.key.env].looked(look)
        if look.verdict.state is not look.before.state:
            self._changed(look)

    def _changed(self, look: Look) -> None:
        key, verdict = look.observation.target.key, look.verdict
        logger.info(
            "target.changed",
            extra={
                "environment": key.env,
                "service": key.service,
                "check": key.check,
                "target": look.row.target.address,
                "state": verdict.state.value,
                "reason": verdict.reason.value,
                "duration_s": round(look.observation.duration_s, 4),
            },
        )
        self._board.emit(
            EventKind.TARGET,
            at_s=self._clock.wall_s(),
            env=key.env,
            subject=key.service,
            state=verdict.state.value,
            text=verdict.message,
            facts={"check": key.check, "vantage": key.vantage, "reason": verdict.reason.value},
        )

    def _scraped(self, scraper: Scraper, scraped: Scraped) -> None:
        if scraped.totals is None:
            return
        sample = self._traffic[scraper.env].take(
            service=scraper.service, witness=Witness.SCRAPE, source=scraper.source, totals=scraped.totals
        )
        if sample is not None:
            self._judgements[scraper.env].requests(sample)
            self._history.add_requests(sample)

    def _decided(self, transition: Transition) -> None:
        alert = next((one for one in self._source.alerts() if one.id == transition.fingerprint), None)
        if alert is not None:
            self._agent_series.transition(alert, transition.what.value)

    def _gap(self, gap: Gap) -> None:
        logger.warning(
            "agent.gap", extra={"lost_s": round(gap.lost_s, 3), "stepped_s": round(gap.stepped_s, 3)}
        )
        now_s = self._clock.wall_s()
        for judgement in self._judgements.values():
            judgement.judge.agent_gap(now_s)

    # What goes on beside the looks.

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            for judgement in self._judgements.values():
                judgement.tick()
                for key in judgement.judge.suspects():
                    self._prober.look_now(key, Occasion.CONFIRMATION)

    async def _serve(self, scope: Scope) -> None:
        """Bring up the web last: importing its library takes longer than everything before."""
        host, port = self._settings.address(scope)
        server = await asyncio.get_running_loop().run_in_executor(
            self._imports, import_module, "agent.web.server"
        )
        options = server.WebOptions(host=host, port=port, token=scope.agent.token)
        try:
            async with server.serving(self._source, options):
                self._ready = True
                # One collection now, and what lives for ever is never looked at again.
                gc.collect()
                gc.freeze()
                await asyncio.get_running_loop().create_future()
        except OSError as error:
            raise StartError(
                f"cannot serve on {host}:{port}: {error.strerror or error}; choose another with --listen"
            ) from error

    # Reload.

    async def _reloads(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            applied = self._source.applied
            try:
                platform, scopes = await asyncio.get_running_loop().run_in_executor(
                    self._imports, self._settings.scopes
                )
                await self._apply(platform, scopes)
            except (PlatformError, StartError) as error:
                applied.problem = str(error)
                logger.error("config.refused", extra={"error": str(error)})  # noqa: TRY400 - a mistake in a file
                self._tell_reload("refused", f"configuration refused, the old one stays: {error}")
            applied.checked_s = self._clock.wall_s()

    async def _apply(self, platform: Platform, scopes: tuple[Scope, ...]) -> None:
        if {scope.environment_name for scope in scopes} != self._judgements.keys():
            raise StartError("the environments of a running agent cannot change: restart it")
        placed = _watched(scopes, self._kit)
        self._target_series.declare(_measures(placed))
        self._watches = placed
        await self._prober.place(placed)
        self._target_series.place(self._board.rows())
        self._scraping.place(scopes)
        for scope in scopes:
            judgement = self._judgements[scope.environment_name]
            judgement.reload(scope, _of(placed, scope.environment_name))
        self._log.reconfigure(level=log_level(scopes), secrets=secrets(scopes))
        applied = self._source.applied
        before = applied.digest
        applied.platform, applied.scopes, applied.problem = platform.name, scopes, None
        applied.loaded_s, applied.digest = self._clock.wall_s(), digest(scopes)
        logger.info("config.loaded", extra={"config": applied.digest, "before": before})
        self._tell_reload("reload", f"configuration reloaded: {before} is now {applied.digest}")

    def _tell_reload(self, state: str, text: str) -> None:
        if state == "reload":
            self._source.note(
                Change(at_s=self._clock.wall_s(), env="", service="gaia.yaml", kind=state, text=text)
            )
            return
        self._board.emit(
            EventKind.AGENT, at_s=self._clock.wall_s(), env="", subject="gaia.yaml", state=state, text=text
        )

    # What is seen of the agent itself.

    def _parts(self) -> tuple[AgentPart, ...]:
        parts = [
            part_of(
                "configuration", self._source.applied.problem, f"{self._source.applied.digest} is in force"
            ),
            part_of("history", self._history.trouble, "written"),
        ]
        for env, judgement in self._judgements.items():
            parts.append(part_of(f"journal {env}", judgement.journal.trouble, "written"))
            for lane in judgement.lanes():
                stuck = lane.last_error if lane.queued and lane.last_error else None
                parts.append(part_of(f"receiver {lane.channel}", stuck, f"{lane.sent} sent"))
        for (_, service, source), why in self._scraping.failing.items():
            parts.append(part_of(f"metrics of {service} ({source})", why, ""))
        return tuple(parts)

    def _judgement(self, scope: Scope) -> Judgement:
        return Judgement(
            scope,
            _of(self._watches, scope.environment_name),
            path=self._data / f"alerts-{scope.environment_name}.db",
            clock=self._clock,
            board=self._board,
            decided=self._decided,
        )


def _first(group: BaseException) -> BaseException:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first


def _watched(scopes: Iterable[Scope], kit: ProbeKit) -> tuple[Watch, ...]:
    return tuple(watch for scope in scopes for watch in watches(scope, kit))


def _of(placed: Iterable[Watch], env: str) -> tuple[Watch, ...]:
    return tuple(watch for watch in placed if watch.target.key.env == env)


def _measures(placed: Iterable[Watch]) -> tuple[MeasureInfo, ...]:
    return tuple(
        info for name in dict.fromkeys(watch.kind for watch in placed) for info in kind(name).measures
    )


def _traffic(scope: Scope) -> Traffic:
    return Traffic(
        env=scope.environment_name,
        slower_than_s={name: service.slower_than for name, service in scope.services.items()},
    )
