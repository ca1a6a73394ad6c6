"""What services push is taken in for one environment, through reloads: a new table gets a new intake."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agent.own_telemetry import OwnTelemetry
from agent.platform.scope import Scope
from agent.prober import Look
from agent.settings import Settings, StartError
from agent.telemetry.figures import Figures
from agent.telemetry.grpc_server import GrpcMissingError
from agent.telemetry.intake import Intake
from agent.telemetry.series import SeriesTable
from agent.telemetry.traffic import Traffic
from agent.telemetry.trails import Trail
from alerts.requests import ErrorLog, RequestExample, RequestSample
from checks.clock import Clock

logger = logging.getLogger(__name__)

_AGAIN_S: Final = 5.0


class Receiving:
    """Build it, `place` the configuration, then `run`. Each agent serves one machine: one environment."""

    def __init__(  # noqa: PLR0913  # its whole surroundings, all by name
        self,
        settings: Settings,
        *,
        directory: Path,
        clock: Clock,
        traffic: Traffic,
        requests: Callable[[RequestSample], None],
        error_logs: Callable[[ErrorLog], None],
        examples: Callable[[RequestExample], None],
        copied: Callable[[str | None], deque[bytes]],
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._clock = clock
        self._traffic = traffic
        self._requests = requests
        self._error_logs = error_logs
        self._examples = examples
        # Where the agent's own log lines from a level on are put.
        self._copied = copied
        self._own: OwnTelemetry | None = None
        self._wanted: Scope | None = None
        self._changed = asyncio.Event()
        self._intake: Intake | None = None
        self._trouble: str | None = None

    def place(self, scope: Scope) -> None:
        """Take over a configuration. What is kept and counted stays; the port is closed for a moment."""
        before = self._wanted
        self._wanted = scope
        if before is None or self._differ(before, scope):
            self._changed.set()

    async def run(self) -> None:
        """Take in until cancelled. Raises StartError when the first configuration cannot be followed."""
        first = True
        while True:
            await self._changed.wait()
            self._changed.clear()
            while not self._changed.is_set():
                try:
                    await self._until_changed()
                except StartError as error:
                    if first:
                        raise
                    # The agent goes on without: a reload must not end it.
                    logger.error("telemetry.not_taken", extra={"error": str(error)})  # noqa: TRY400  # says all
                    self._trouble = str(error)
                    await asyncio.sleep(_AGAIN_S)
                first = False

    def looked(self, look: Look) -> None:
        """Take in one of the agent's own looks."""
        if self._own is not None:
            self._own.looked(look)

    def figures(self) -> Figures | None:
        """What the intake says of itself; None while there is none."""
        return self._intake.figures() if self._intake is not None else None

    def trail(self, trace_id: str) -> Trail | None:
        """What is remembered of a trace's requests and log lines; None when nothing is."""
        counting = self._intake.counting if self._intake is not None else None
        return counting.trails.trail(trace_id) if counting is not None else None

    def counted(self) -> SeriesTable | None:
        """The requests counted from spans; None while there is no intake."""
        counting = self._intake.counting if self._intake is not None else None
        return counting.requests if counting is not None else None

    @property
    def asked(self) -> bool:
        """Whether the configuration names anything to take in."""
        return self._wanted is not None and not self._settings.telemetry(self._wanted).idle

    @property
    def trouble(self) -> str | None:
        """One sentence when a person must look."""
        figures = self.figures()
        return figures.trouble if figures is not None else self._trouble

    async def _until_changed(self) -> None:
        assert self._wanted is not None
        intake = self._built(self._wanted)
        if intake is None:
            await self._changed.wait()
            return
        changed = asyncio.ensure_future(self._changed.wait())
        running = asyncio.ensure_future(self._receive(intake, self._wanted))
        own = asyncio.ensure_future(self._pass_on(intake, self._wanted))
        self._intake = intake
        try:
            await asyncio.wait((changed, running), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running
        finally:
            self._intake = self._own = None
            for task in (changed, running, own):
                task.cancel()
            await asyncio.gather(changed, running, own, return_exceptions=True)

    async def _pass_on(self, intake: Intake, scope: Scope) -> None:
        """The agent's own looks and log lines, where they are asked for."""
        options = self._settings.telemetry(scope)
        lines = self._copied(options.own_logs)
        if options.own_traces or options.own_logs:
            self._own = OwnTelemetry(
                share=options.own_traces,
                lines=lines,
                env=scope.environment_name,
                keep=intake.reception.keep,
            )
            await self._own.run()

    async def _receive(self, intake: Intake, scope: Scope) -> None:
        try:
            await intake.run()
        except GrpcMissingError as error:
            raise StartError(str(error)) from error
        except OSError as error:
            places = " and ".join(filter(None, (scope.agent.otlp_listen, scope.agent.otlp_grpc_listen)))
            raise StartError(
                f"cannot take telemetry on {places}: {error.strerror or error};"
                " choose another agent.otlp_listen, or null for none"
            ) from error

    def _built(self, scope: Scope) -> Intake | None:
        options = self._settings.telemetry(scope)
        if options.idle:
            return None
        return Intake(
            options,
            directory=self._directory,
            env=scope.environment_name,
            clock=self._clock,
            traffic=self._traffic,
            requests=self._requests,
            error_logs=self._error_logs,
            examples=self._examples,
            aliases=frozenset({scope.environment.alias}),
            names=_names(scope),
        )

    def _differ(self, before: Scope, after: Scope) -> bool:
        return (self._settings.telemetry(before), before.environment.alias, _names(before)) != (
            self._settings.telemetry(after),
            after.environment.alias,
            _names(after),
        )


def _names(scope: Scope) -> dict[str, str]:
    """As what services are known where they are deployed, to their names in gaia.yaml."""
    return {f"{scope.platform}-{name}": name for name in scope.services}
