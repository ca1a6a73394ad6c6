"""Keeps the pools true: readiness of instances, their announcements, and the health of whole services."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

import msgspec

from services.gateway.pool import Instance, InstancePool
from services.instrumentation.client import CallFailedError, HttpClient
from services.instrumentation.health import Criticality, Dependency, Reading, Status
from services.instrumentation.kit import Instrumentation
from services.instrumentation.problem import ProblemError

logger = logging.getLogger(__name__)

_EVERY_S: Final = 1.0
_TIMEOUT_S: Final = 1.0
_BODY_BYTES: Final = 64 * 1024
_STATUS: Final = {"pass": Status.PASS, "warn": Status.WARN, "fail": Status.FAIL}
CRITICALITY: Final = {
    "auth": Criticality.REQUIRED,
    "asset": Criticality.DEGRADED,
    "chat": Criticality.DEGRADED,
}


class _Document(msgspec.Struct, frozen=True):
    status: str
    output: str = ""


class PoolWatch:
    """Asks each instance `/readyz` every second, and `/health` for the aggregate, off the request path."""

    def __init__(self, kit: Instrumentation, client: HttpClient, pool: InstancePool) -> None:
        self._kit = kit
        self._client = client
        self._pool = pool
        # A request to a machine that sleeps would start it: there, only traffic tells.
        self._asks = kit.settings.options.get("AUTO_STOP", "off").lower() in {"off", "false"}
        kit.depends_on(
            Dependency(
                name=f"{pool.name}:status",
                component_type="component",
                criticality=CRITICALITY[pool.name],
                probe=self.health,
                timeout_s=3.0,
            )
        )
        if self._asks:
            kit.in_background(f"readiness of {pool.name}", self.run)

    async def run(self) -> None:
        while True:
            await asyncio.gather(*(self._ask(instance) for instance in self._pool.instances))
            await asyncio.sleep(_EVERY_S)

    async def _ask(self, instance: Instance) -> None:
        before = instance.ready
        try:
            async with self._client.probe(instance.upstream.url.with_path("/readyz"), _TIMEOUT_S) as response:
                instance.ready = response.status == 200
        except ProblemError:
            instance.ready = False
        if before is not instance.ready and before is not None:
            logger.info(
                "instance.ready" if instance.ready else "instance.not_ready",
                extra={"upstream": self._pool.name, "address": instance.upstream.address},
            )
            self._kit.health.suspect(f"{self._pool.name}:status")

    async def health(self) -> Reading:
        """The service as a whole: the best of its instances decides, an unwell one is named."""
        now = time.monotonic()
        if not self._pool.instances:
            return Reading(status=Status.FAIL, output="no instance is known")
        if not self._asks:
            return self._by_traffic(now)
        start_s = time.monotonic()
        found = await asyncio.gather(*(self._document(instance) for instance in self._pool.instances))
        spent_ms = round((time.monotonic() - start_s) * 1000, 3)
        states = [status for status, _ in found]
        best = next(status for status in (Status.PASS, Status.WARN, Status.FAIL) if status in states)
        unwell = [
            f"{self._pool.name} {number} of {len(found)}: {output or status.value}"
            for number, (status, output) in enumerate(found, start=1)
            if status is not Status.PASS
        ]
        status = Status.WARN if best is Status.PASS and unwell else best
        notes = [*unwell, *self._breakers(now)]
        return Reading(status=status, output="; ".join(notes)[:500], value=spent_ms)

    async def _document(self, instance: Instance) -> tuple[Status, str]:
        try:
            async with self._client.probe(instance.upstream.url.with_path("/health"), 2.0) as response:
                body = await response.content.read(_BODY_BYTES)
        except CallFailedError as error:
            return Status.FAIL, error.failure.value
        except (ProblemError, OSError, TimeoutError) as error:
            return Status.FAIL, type(error).__name__
        try:
            document = msgspec.json.decode(body, type=_Document)
        except msgspec.DecodeError:
            return Status.FAIL, f"answered {response.status} without a health document"
        # The body is the better witness; a 5xx with a good body is still no pass.
        status = _STATUS.get(document.status, Status.FAIL)
        if status is not Status.FAIL and response.status >= 500:
            return Status.WARN, f"says {document.status} but answers {response.status}"
        return status, document.output

    def _breakers(self, now: float) -> list[str]:
        return [
            f"breaker {instance.upstream.breaker.state.value}"
            for instance in self._pool.instances
            if instance.upstream.breaker.retry_after_s(now) > 0
        ]

    def _by_traffic(self, now: float) -> Reading:
        open_ = self._breakers(now)
        if open_ and len(open_) == len(self._pool.instances):
            return Reading(status=Status.FAIL, output="every breaker is open")
        return Reading(
            status=Status.PASS, output="not asked: a request would wake it; traffic shows no failure"
        )
