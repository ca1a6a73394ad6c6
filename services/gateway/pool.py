"""The instances of one service: which gets the next request, and which is put aside for a while."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from services.instrumentation.breaker import BreakerState
from services.instrumentation.client import Upstream

# Envoy's outlier detection, with its defaults.
_CONSECUTIVE: Final = 5
_EJECTION_S: Final = 30.0
_EJECTION_MAX_S: Final = 300.0
_EJECTED_SHARE: Final = 0.10
_PANIC_SHARE: Final = 0.50


@dataclass(slots=True, eq=False)
class Instance:
    """One instance and what traffic and checks have shown of it."""

    upstream: Upstream
    ready: bool | None = None
    """What its `/readyz` or its own announcement said last; None while unknown."""
    in_flight: int = 0
    failures: int = 0
    ejections: int = 0
    ejected_until_s: float = 0.0


class InstancePool:
    """Chooses among instances: ready before unknown, never an ejected one unless most are ejected."""

    def __init__(
        self, name: str, *, on_ejection: Callable[[Instance], None] = lambda _instance: None
    ) -> None:
        self.name = name
        self.instances: list[Instance] = []
        self._turn = 0
        self._on_ejection = on_ejection

    def replace(self, upstreams: list[Upstream]) -> None:
        """The instances are now these; what is known of those that stay is kept."""
        known = {instance.upstream.url: instance for instance in self.instances}
        self.instances = [known.get(upstream.url) or Instance(upstream) for upstream in upstreams]

    def choose(self, now: float, tried: set[Instance]) -> Instance | None:
        """The least busy usable instance not in `tried`, in turn among equals; None when there is none."""
        usable = self._usable(now)
        if tried:
            usable = [instance for instance in usable if instance not in tried]
        if not usable:
            # An instance that is leaving or was put aside may still answer; nobody surely does not.
            usable = [instance for instance in self.instances if instance not in tried]
        if len(usable) < 2:
            return usable[0] if usable else None
        self._turn += 1
        start = self._turn % len(usable)
        return min(usable[start:] + usable[:start], key=attrgetter("in_flight"))

    def _usable(self, now: float) -> list[Instance]:
        for instance in self.instances:
            if (
                instance.ready is False
                or instance.ejected_until_s > now
                or instance.upstream.breaker.state is BreakerState.OPEN
            ):
                return self._selected(now)
        return self.instances  # The usual case: all are well.

    def _selected(self, now: float) -> list[Instance]:
        candidates = [i for i in self.instances if i.ready is not False] or self.instances
        kept = [i for i in candidates if i.ejected_until_s <= now]
        if len(candidates) - len(kept) > _PANIC_SHARE * len(candidates):
            kept = candidates  # Better a bad answer than all traffic on one survivor.
        calling = [
            i for i in kept if i.upstream.breaker.state is not BreakerState.OPEN
            or i.upstream.breaker.retry_after_s(now) == 0
        ]  # fmt: skip
        return calling or kept

    def succeeded(self, instance: Instance) -> None:
        instance.failures = 0

    def failed(self, instance: Instance, now: float) -> None:
        """Count a 5xx or a broken call; enough in a row eject the instance, longer each time."""
        instance.failures += 1
        if instance.failures < _CONSECUTIVE or instance.ejected_until_s > now or len(self.instances) < 2:
            return
        ejected = sum(1 for i in self.instances if i.ejected_until_s > now)
        if ejected >= max(1, int(_EJECTED_SHARE * len(self.instances))):
            return
        instance.ejections += 1
        instance.failures = 0
        instance.ejected_until_s = now + min(_EJECTION_S * instance.ejections, _EJECTION_MAX_S)
        self._on_ejection(instance)
