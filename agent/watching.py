"""The eyes: targets, looks and verdicts. Needs little, so that it is the first part to run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import TYPE_CHECKING, Final

from agent.board import Board, EventKind
from agent.platform.scope import Scope
from agent.prober import Look, Prober, Watch
from agent.start_order import early, imports, late
from agent.telemetry_watches import destination_watches
from agent.watches import watches
from alerts.requests import RequestSample
from checks.apps import Ask, Asker, proxied_app
from checks.catalog import ProbeKit
from checks.clock import Clock
from checks.observation import Occasion
from checks.resolver import CachingResolver
from checks.target import Kind, TargetKey

if TYPE_CHECKING:
    from agent.telemetry.figures import Figures

logger = logging.getLogger(__name__)

_FIRST_LOOKS_S: Final = 0.05


class Watching:
    """Looks at every target of some environments. What it sees is kept until somebody follows it."""

    def __init__(self, scopes: Iterable[Scope], clock: Clock, *, soon: bool = False) -> None:
        """`soon`: only what needs no further import is watched at once, the rest as soon as `run` has it."""
        placed = tuple(scopes)
        self._scopes = placed
        self._late = tuple(late(scope) for scope in placed) if soon else ()
        self.board = Board()
        self._clock = clock
        self.kit = ProbeKit(clock=clock, resolver=CachingResolver())
        # What the telemetry intake says of its ledger, once there is one: it is looked at as a target.
        self.figures: Callable[[], Figures | None] = lambda: None
        self.watches = self._built(early(scope) for scope in placed) if soon else self._built(placed)
        self._on_fly = _on_fly(self.watches)
        self._unseen = {watch.target.key for watch in self.watches}
        self._whole = asyncio.Event()
        self._all_seen = asyncio.Event()
        self._waiting: list[Look] = []
        self._told: Callable[[Look], None] = self._waiting.append
        self._prober = Prober(self.board, clock, self._looked)

    async def run(self) -> None:
        """Look until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._prober.run(self.watches))
            await self._complete()
            self._whole.set()

    async def _complete(self) -> None:
        """Build what was left for later, and watch it too; what is looked at already goes on."""
        needed = imports(self._late)
        if needed:
            # Imports take the interpreter from the looks: the first of those end sooner alone.
            await self._seen(_FIRST_LOOKS_S)
            with ThreadPoolExecutor(1, thread_name_prefix="checks") as thread:
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(thread, lambda: [import_module(name) for name in needed])
            more = tuple(watch for scope in self._late for watch in watches(scope, self.kit))
            self._unseen |= {watch.target.key for watch in more}
            self._all_seen.clear()
            self.watches = _in_order((*self.watches, *more), self._scopes)
            self._on_fly = _on_fly(self.watches)
            await self._prober.place(self.watches)
        self._late = ()

    async def first_pass(self, *, within_s: float) -> None:
        """Wait until every target is watched, then until each was looked at, but that at most `within_s`."""
        await self._whole.wait()
        await self._seen(within_s)

    async def _seen(self, within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                await self._all_seen.wait()
        except TimeoutError:
            return

    def follow(self, told: Callable[[Look], None]) -> None:
        """Hand every look to `told` from now on, those taken before first."""
        self._told = told
        for look in self._waiting:
            told(look)
        self._waiting.clear()

    async def place(self, scopes: Iterable[Scope]) -> None:
        """Take over a new configuration; verdicts and unchanged connections stay."""
        self.watches = self._built(scopes)
        self._on_fly = _on_fly(self.watches)
        await self._prober.place(self.watches)

    def of(self, env: str) -> tuple[Watch, ...]:
        """What is watched in one environment."""
        return tuple(watch for watch in self.watches if watch.target.key.env == env)

    def look_again(self, key: TargetKey) -> None:
        """Look at one target now, because somebody needs to know."""
        self._prober.look_now(key, Occasion.CONFIRMATION)

    def _built(self, scopes: Iterable[Scope]) -> tuple[Watch, ...]:
        placed = tuple(scopes)
        own = destination_watches(placed[0], self._clock, self._ledger) if placed else ()
        return (*(watch for scope in placed for watch in watches(scope, self.kit)), *own)

    def _ledger(self) -> Figures | None:
        return self.figures()

    def _looked(self, look: Look) -> None:
        self._unseen.discard(look.observation.target.key)
        if not self._unseen:
            self._all_seen.set()
        if look.verdict.state is not look.before.state:
            self._changed(look)
        self._note_requests(look)
        self._told(look)

    def requests(self, sample: RequestSample) -> None:
        """Take in what a service counted of its users' requests: it tells whether they woke it."""
        name = (sample.env, sample.service)
        if name in self._on_fly:
            self.kit.apps.used(name).count(
                sample.source, sample.incarnation, sample.total, at_s=sample.at_s, born_s=sample.born_s
            )

    def _note_requests(self, look: Look) -> None:
        """Tell the machines check which of our requests may have started a machine."""
        if not self._on_fly or look.row.target.kind is not Kind.SERVICE:
            return
        key, at_s = look.observation.target.key, look.observation.at_s
        apps, name = self.kit.apps, (key.env, key.service)
        if name in self._on_fly and proxied_app(look.row.target.address) is not None:
            apps.asked(name, Ask(at_s=at_s, by=Asker.AGENT, what=key.service))
        for service in look.row.depends_on:
            if (key.env, service) in self._on_fly:
                apps.asked((key.env, service), Ask(at_s=at_s, by=Asker.HEALTH, what=key.service))

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
        # One instance of several that falls is not the service.
        told = self.board.verdict(key) or verdict
        self.board.emit(
            EventKind.TARGET,
            at_s=self._clock.wall_s(),
            env=key.env,
            subject=key.service,
            state=told.state.value,
            text=told.message,
            facts={"check": key.check, "vantage": key.vantage, "reason": verdict.reason.value},
        )


def _on_fly(watches: Iterable[Watch]) -> frozenset[tuple[str, str]]:
    """The services whose machines are looked after: only of those is it asked who woke them."""
    return frozenset(
        (watch.target.key.env, watch.target.key.service) for watch in watches if watch.kind == "machines"
    )


def _in_order(built: Iterable[Watch], scopes: tuple[Scope, ...]) -> tuple[Watch, ...]:
    """In the order of gaia.yaml, whichever was built first."""
    names = (
        (scope.environment_name, name)
        for scope in scopes
        for name in (*scope.services, *scope.databases, *scope.brokers, *scope.hosts)
    )
    order = {name: number for number, name in enumerate(names)}
    return tuple(
        sorted(
            built, key=lambda watch: order.get((watch.target.key.env, watch.target.key.service), len(order))
        )
    )
