"""What a service knows about itself: dependency checks in the background, one document of their results."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from services.instrumentation.cancellation import pass_cancellation_on
from services.instrumentation.logs import timestamp
from services.instrumentation.metrics import Metrics

logger = logging.getLogger(__name__)

_AGAIN_S: Final = 1.0
"""How soon a dependency that is not well is looked at again."""


class Status(StrEnum):
    PASS = "pass"  # noqa: S105 (a health status, not a password)
    WARN = "warn"
    FAIL = "fail"


class Criticality(StrEnum):
    """What a failing dependency does to the whole: fail it, degrade it to warn, or nothing."""

    REQUIRED = "required"
    DEGRADED = "degraded"
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One look at a dependency. `output` is shown to people: never put an address or a secret in it."""

    status: Status
    output: str = ""
    value: float | None = None
    unit: str = "ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """Something the service needs. `name` is `thing:measure`, as health+json wants it."""

    name: str
    component_type: str
    criticality: Criticality
    probe: Callable[[], Awaitable[Reading]]
    timeout_s: float = 2.0
    own: bool = False
    """Own critical resource: without it `/readyz` is 503. Not for neighbours: that would cascade."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The latest reading with its times (wall for the document, monotonic for its age)."""

    reading: Reading
    at_wall_s: float
    at_s: float


class Health:
    """Looks at every dependency in the background; a request only ever reads what is known."""

    def __init__(self, *, interval_s: float, metrics: Metrics) -> None:
        # The document is at most half the watcher's interval old, and never older than five seconds.
        self.period_s = min(5.0, interval_s / 2)
        self.dependencies: list[Dependency] = []
        self.results: dict[str, Result] = {}
        self.draining = False
        self.started = False
        self._startup: list[Callable[[], str | None]] = []
        self._suspected: dict[str, asyncio.Event] = {}
        self._metrics = metrics

    def add(self, dependency: Dependency) -> None:
        self.dependencies.append(dependency)
        self._suspected[dependency.name] = asyncio.Event()

    def add_startup(self, missing: Callable[[], str | None]) -> None:
        """`missing()` names what start-up still waits for, or returns None."""
        self._startup.append(missing)

    def suspect(self, name: str) -> None:
        """Look at `name` now: somebody just learned that something is wrong, or well again."""
        event = self._suspected.get(name)
        if event is not None:
            event.set()

    async def run(self) -> None:
        """Check until cancelled, each dependency at its own pace so that a hung one delays no other."""
        async with asyncio.TaskGroup() as group:
            for dependency in self.dependencies:
                group.create_task(self._watch(dependency), name=f"health {dependency.name}")

    async def _watch(self, dependency: Dependency) -> None:
        event = self._suspected[dependency.name]
        while True:
            event.clear()
            reading = await look(dependency)
            self._store(dependency, reading)
            wait_s = self.period_s if reading.status is Status.PASS else min(_AGAIN_S, self.period_s)
            try:
                async with asyncio.timeout(wait_s):
                    await event.wait()
            except TimeoutError:
                continue

    def _store(self, dependency: Dependency, reading: Reading) -> None:
        before = self.results.get(dependency.name)
        self.results[dependency.name] = Result(reading=reading, at_wall_s=time.time(), at_s=time.monotonic())
        value = {Status.PASS: 1.0, Status.WARN: 0.5, Status.FAIL: 0.0}[reading.status]
        self._metrics.health.labels(dependency.name).set(value)
        if before is None or before.reading.status is not reading.status:
            well = reading.status is Status.PASS
            if before is None and well:
                return
            # What is not there yet while we start is no news.
            starting = before is None or self.not_started() is not None
            logger.log(
                logging.INFO if well or starting else logging.WARNING,
                "dependency.recovered" if well else "dependency.unwell",
                extra={
                    "dependency": dependency.name,
                    "state": reading.status.value,
                    "reason": reading.output,
                },
            )

    def judged(self, dependency: Dependency, now_s: float) -> tuple[Status, str]:
        """Status and note of one dependency; never a pass for what is unknown or stale."""
        result = self.results.get(dependency.name)
        if result is None:
            return Status.WARN, "not looked at yet"
        if now_s - result.at_s > 3 * self.period_s + dependency.timeout_s:
            worst = Status.FAIL if result.reading.status is Status.FAIL else Status.WARN
            return worst, f"stale: last looked at {now_s - result.at_s:.0f} s ago"
        return result.reading.status, result.reading.output

    def overall(self) -> tuple[Status, tuple[str, ...]]:
        """The service's status and the dependencies that make it so."""
        now_s = time.monotonic()
        failing: list[str] = []
        warning: list[str] = []
        for dependency in self.dependencies:
            status, _ = self.judged(dependency, now_s)
            if status is Status.PASS or dependency.criticality is Criticality.INFO:
                continue
            if status is Status.FAIL and dependency.criticality is Criticality.REQUIRED:
                failing.append(dependency.name)
            else:
                warning.append(dependency.name)
        if failing:
            return Status.FAIL, tuple(failing)
        return (Status.WARN, tuple(warning)) if warning else (Status.PASS, ())

    def not_started(self) -> str | None:
        """What start-up waits for; None once everything was there (and from then on)."""
        if not self.started:
            for missing in self._startup:
                if (what := missing()) is not None:
                    return what
            self.started = True
        return None

    def not_ready(self) -> str | None:
        """Why this instance should get no traffic now: draining, starting, a resource gone; or None."""
        if self.draining:
            return "draining"
        if (what := self.not_started()) is not None:
            return what
        for dependency in self.dependencies:
            result = self.results.get(dependency.name)
            if dependency.own and result is not None and result.reading.status is Status.FAIL:
                return f"{dependency.name}: {result.reading.output}"
        return None


async def look(dependency: Dependency) -> Reading:
    """One look with its deadline; an exception is a failing reading.

    Cancellation passes through, even where the driver below makes a timeout of it.
    """
    start_s = time.monotonic()
    try:
        async with asyncio.timeout(dependency.timeout_s):
            return await dependency.probe()
    except TimeoutError:
        pass_cancellation_on()
        spent_ms = (time.monotonic() - start_s) * 1000
        return Reading(
            status=Status.FAIL,
            output=f"no answer within {dependency.timeout_s:g} s",
            value=round(spent_ms, 1),
        )
    except Exception as error:
        pass_cancellation_on()
        return Reading(status=Status.FAIL, output=type(error).__name__)


def checked_at(result: Result | None) -> str | None:
    return timestamp(result.at_wall_s) if result else None
