"""The agent put together: every part with its owner, started in the order that names a fault soonest."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from typing import Final

from agent import VERSION
from agent.board import EventKind
from agent.desk_routes import desk_routes
from agent.exposition.agent_series import AgentSeries
from agent.exposition.document import Document
from agent.exposition.metrics import METRICS
from agent.exposition.notification_series import NotificationSeries
from agent.exposition.request_series import RequestPage
from agent.exposition.target_series import TargetSeries
from agent.exposition.telemetry_series import TelemetrySeries
from agent.history import History, Kept
from agent.incident_routes import incident_routes
from agent.judgement import Judgement
from agent.live import Applied, LiveSource, digest, part_of
from agent.log import LogWriter, log_level
from agent.platform.problem import PlatformError
from agent.platform.scope import Platform, Scope
from agent.probe_endpoint import ProbeEndpoint, places_of
from agent.probe_route import probe_route
from agent.prober import Look, Watch
from agent.receiving import Receiving
from agent.scraping import Scraping
from agent.secrets import secrets
from agent.settings import Settings, StartError
from agent.telemetry.scrape import Scraped, Scraper
from agent.telemetry.traffic import Traffic, Witness
from agent.telemetry_watches import COMPONENT
from agent.trace_path import trace_route
from agent.vitals import Gap, Vitals
from agent.watching import Watching
from agent.web.source import AgentPart, Change
from alerts.requests import RequestSample
from checks.catalog import MeasureInfo, kind
from checks.clock import Clock
from checks.observation import Occasion

logger = logging.getLogger(__name__)

_TICK_S: Final = 1.0


class Agent:
    """Everything but the looks themselves, over the looks of a `Watching`."""

    def __init__(
        self,
        settings: Settings,
        platform: Platform,
        scopes: tuple[Scope, ...],
        *,
        watching: Watching,
        clock: Clock,
        log: LogWriter,
    ) -> None:
        self._settings = settings
        self._log = log
        self._data = settings.data_dir(scopes[0])
        self._clock = clock
        self._watching = watching
        self._board = watching.board
        self._history = History(self._data / "history.db", self._clock, _kept(scopes))
        self._vitals = Vitals(self._clock, self._gap)
        self._document = Document(metric.family for metric in METRICS)
        self._target_series = TargetSeries(
            self._document, _measures(watching.watches), edges_s=scopes[0].latency_edges_s
        )
        self._agent_series = AgentSeries(self._document)
        self._judgements = {scope.environment_name: self._judgement(scope) for scope in scopes}
        self._traffic = {scope.environment_name: _traffic(scope) for scope in scopes}
        self._scraping = Scraping(self._clock, self._scraped)
        self._imports = ThreadPoolExecutor(1, thread_name_prefix="imports")
        self._ready = False
        self._receiving = self._receiving_for(scopes[0])
        self._probing = _probing(watching, scopes[0])
        self._source = LiveSource(
            clock=self._clock,
            applied=Applied(
                platform=platform.name,
                version=VERSION,
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
            telemetry_series=TelemetrySeries(self._document),
            request_page=RequestPage(self._document),
            telemetry=self._receiving.figures,
            trail=self._receiving.trail,
            counted=self._receiving.counted,
            ready=lambda: self._ready,
            parts=self._parts,
        )

    async def run(self, reload_asked: asyncio.Event) -> None:
        """Run until cancelled; each time `reload_asked` is set, read the file again.

        Raises an ExceptionGroup with StartError when a part cannot start.
        """
        self._watching.follow(self._looked)
        scopes = self._source.applied.scopes
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._vitals.run())
            tasks.create_task(self._tick())
            tasks.create_task(self._history.run())
            for judgement in self._judgements.values():
                tasks.create_task(judgement.deliver())
            tasks.create_task(self._receiving.run())
            tasks.create_task(self._scraping.run(scopes))
            tasks.create_task(self._reloads(reload_asked))
            await self._source.restore()
            await self._serve(scopes[0])

    # What comes in.

    def _looked(self, look: Look) -> None:
        observation = look.observation
        self._history.add(observation)
        if observation.occasion is Occasion.SCHEDULED:
            self._vitals.looked(look.lag_s, look.missed)
        self._target_series.looked(look)
        self._receiving.looked(look)
        self._judgements[observation.target.key.env].looked(look)

    def _scraped(self, scraper: Scraper, scraped: Scraped) -> None:
        if scraped.totals is None:
            return
        sample = self._traffic[scraper.env].take(
            service=scraper.service, witness=Witness.SCRAPE, source=scraper.source, totals=scraped.totals
        )
        if sample is not None:
            self._counted(sample)

    def _counted(self, sample: RequestSample) -> None:
        self._judgements[sample.env].requests(sample)
        self._history.add_requests(sample)
        self._watching.requests(sample)

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
                for key in judgement.wanted():
                    self._watching.look_again(key)

    async def _serve(self, scope: Scope) -> None:
        """Bring up the web last: importing its library takes longer than everything before."""
        host, port = self._settings.address(scope)
        server = await asyncio.get_running_loop().run_in_executor(
            self._imports, import_module, "agent.web.server"
        )
        options = server.WebOptions(host=host, port=port, token=scope.agent.token)
        try:
            desks = desk_routes(lambda: tuple(self._judgements.values()))
            incidents = incident_routes(lambda: tuple(self._judgements.values()), lambda: options.token)
            asked = (probe_route(lambda: self._probing), trace_route(self._receiving.trail))
            more = (*desks, *incidents, *asked)
            async with server.serving(self._source, options, more=more):
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

    async def _reloads(self, asked: asyncio.Event) -> None:
        while True:
            await asked.wait()
            asked.clear()
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
        await self._watching.place(scopes)
        self._target_series.declare(_measures(self._watching.watches))
        self._target_series.place(self._board.rows())
        self._scraping.place(scopes)
        self._history.keep(_kept(scopes))
        self._receiving.place(scopes[0])
        self._probing = _probing(self._watching, scopes[0])
        for scope in scopes:
            judgement = self._judgements[scope.environment_name]
            judgement.reload(scope, self._watching.of(scope.environment_name))
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
            parts.append(part_of(f"reach {env}", *judgement.reach()))
            for lane in judgement.lanes():
                stuck = lane.last_error if lane.queued and lane.last_error else None
                parts.append(part_of(f"receiver {lane.channel}", stuck, f"{lane.sent} sent"))
        if self._receiving.asked:
            parts.append(part_of("telemetry", self._receiving.trouble, "kept, counted and passed on"))
        for (_, service, source), why in self._scraping.failing.items():
            parts.append(part_of(f"metrics of {service} ({source})", why, ""))
        return tuple(parts)

    def _receiving_for(self, scope: Scope) -> Receiving:
        env = scope.environment_name
        receiving = Receiving(
            self._settings,
            directory=self._data / "telemetry",
            clock=self._clock,
            traffic=self._traffic[env],
            requests=self._counted,
            error_logs=self._judgements[env].logged,
            examples=self._judgements[env].example,
            copied=self._log.copy,
        )
        receiving.place(scope)
        self._watching.figures = receiving.figures
        return receiving

    def _judgement(self, scope: Scope) -> Judgement:
        return Judgement(
            scope,
            self._watching.of(scope.environment_name),
            path=self._data / f"alerts-{scope.environment_name}.db",
            clock=self._clock,
            kit=self._watching.kit,
            board=self._board,
            decided=partial(self._agent_series.transition, env=scope.environment_name),
        )


def _probing(watching: Watching, scope: Scope) -> ProbeEndpoint:
    allowed = scope.probe_targets or places_of(watch.target.address for watch in watching.watches)
    return ProbeEndpoint.of(watching.kit, allowed=allowed, modules=scope.probe_modules)


def _measures(placed: Iterable[Watch]) -> tuple[MeasureInfo, ...]:
    # What the agent looks at in itself is no kind of check, and its numbers are metrics anyway.
    kinds = dict.fromkeys(watch.kind for watch in placed if watch.kind != COMPONENT)
    return tuple(info for name in kinds for info in kind(name).measures)


def _kept(scopes: Iterable[Scope]) -> dict[str, Kept]:
    return {
        scope.environment_name: Kept(
            looks_s=float(scope.environment.retention.history),
            failures_s=float(scope.environment.retention.incidents),
        )
        for scope in scopes
    }


def _traffic(scope: Scope) -> Traffic:
    return Traffic(
        env=scope.environment_name,
        slower_than_s={name: service.slower_than for name, service in scope.services.items()},
    )
