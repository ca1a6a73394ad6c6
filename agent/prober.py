"""Takes the looks: on schedule, to confirm, and when a sentinel cries; never two at once at one target."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from msgspec import Struct

from agent.board import Board, Row
from agent.scheduler import Due, Scheduler
from checks.check import Check, Sentinel
from checks.clock import Clock
from checks.finding import Finding
from checks.observation import Observation, Occasion, observe, observe_in_flight
from checks.target import Target, TargetKey
from checks.verdict import ConfirmPolicy, Verdict, step
from checks.wire.flight import Flight

logger = logging.getLogger(__name__)

# Long enough for a healthy answer, short enough that a freeze is named within 2.5 s of happening.
_SENTINEL_LOOK_S: Final = 1.0
# A target that always takes long must not be called frozen for it.
_SENTINEL_PATIENCE: Final = 3.0
# A peer that accepts and closes at once must not turn its sentinel into a flood of looks.
_SENTINEL_PAUSE_S: Final = 0.2


class Watch(Struct, frozen=True, kw_only=True):
    """One target with its check. Two watches with equal `kind`, `options` and times are the same work."""

    target: Target
    kind: str
    options: msgspec.Struct
    check: Check
    sentinel: Sentinel | None
    interval_s: float
    timeout_s: float
    slower_than_s: float | None
    depends_on: tuple[str, ...] = ()
    confirm: ConfirmPolicy = ConfirmPolicy()
    taskless: bool = False

    def same_work(self, other: Watch) -> bool:
        """Whether a reload may keep this watch's open connections."""
        return (
            self.target == other.target
            and self.kind == other.kind
            and self.options == other.options
            and (self.interval_s, self.timeout_s) == (other.interval_s, other.timeout_s)
            and self.confirm == other.confirm
        )


class Look(Struct, frozen=True, kw_only=True):
    """What a finished look led to: the verdict `before` it and the `verdict` with it."""

    row: Row
    observation: Observation
    before: Verdict
    verdict: Verdict
    lag_s: float
    missed: int


class Prober:
    """Runs every watch. `told` is called on the event loop after each look and must not block."""

    def __init__(
        self,
        board: Board,
        clock: Clock,
        told: Callable[[Look], None],
    ) -> None:
        self._board = board
        self._clock = clock
        self._told = told
        self._watches: dict[TargetKey, Watch] = {}
        self._looking: dict[TargetKey, asyncio.Task[None] | Flight[Finding]] = {}
        self._confirming: dict[TargetKey, asyncio.TimerHandle] = {}
        self._sentinels: dict[TargetKey, asyncio.Task[None]] = {}
        self._cried_s: dict[TargetKey, float] = {}
        self._skipped: dict[TargetKey, int] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._scheduler: Scheduler[TargetKey] = Scheduler(clock, self._due)

    @property
    def in_flight(self) -> int:
        """How many looks are under way."""
        return len(self._looking)

    async def run(self, watches: tuple[Watch, ...]) -> None:
        """Take looks until cancelled, then close every check."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                await self.place(watches)
                await asyncio.get_running_loop().create_future()
        finally:
            self._scheduler.stop()
            for timer in self._confirming.values():
                timer.cancel()
            for looking in tuple(self._looking.values()):
                looking.cancel()
            self._looking.clear()
            for watch in self._watches.values():
                await _close(watch)

    async def place(self, watches: tuple[Watch, ...]) -> None:
        """Take over a new configuration: verdicts stay, unchanged watches keep their connections."""
        wanted = {watch.target.key: watch for watch in watches}
        old = self._watches
        kept = {key: old[key] for key, watch in wanted.items() if key in old and old[key].same_work(watch)}
        self._watches = {key: kept.get(key, watch) for key, watch in wanted.items()}
        self._board.place({key: _row(watch) for key, watch in wanted.items()})
        for key in old.keys() - kept.keys():
            self._forget(key)
        for key, watch in old.items():
            if key not in kept:
                await _close(watch)
        for key in wanted.keys() & kept.keys():
            if wanted[key].check is not kept[key].check:
                await _close(wanted[key])
        self._scheduler.place(
            {key: watch.interval_s for key, watch in self._watches.items()},
            changed=wanted.keys() - kept.keys(),
        )
        self._guard(self._watches)

    def look_now(self, key: TargetKey, occasion: Occasion = Occasion.MANUAL) -> bool:
        """Look at one target at once; False when it is unknown or being looked at."""
        return self._start(key, occasion, lag_s=0.0, missed=0)

    def _guard(self, watches: Mapping[TargetKey, Watch]) -> None:
        assert self._tasks is not None
        for key, watch in watches.items():
            if watch.sentinel is not None and key not in self._sentinels:
                self._sentinels[key] = self._tasks.create_task(self._watch_over(key, watch.sentinel))

    async def _watch_over(self, key: TargetKey, sentinel: Sentinel) -> None:
        try:
            await sentinel.watch(lambda why: self._suspect(key, why))
        except Exception:
            logger.exception("sentinel.defect", extra={"target": str(key)})

    def _suspect(self, key: TargetKey, why: str) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._cried_s.get(key, -_SENTINEL_PAUSE_S) < _SENTINEL_PAUSE_S:
            return
        self._cried_s[key] = now_s
        logger.debug("sentinel.suspects", extra={"target": str(key), "why": why})
        # A look already under way began before the doubt and may hang in what just died.
        running = self._looking.pop(key, None)
        if running is not None:
            running.cancel()
        self._start(key, Occasion.SENTINEL, lag_s=0.0, missed=0)

    def _due(self, due: Due[TargetKey]) -> None:
        missed = due.missed + self._skipped.pop(due.key, 0)
        if not self._start(due.key, Occasion.SCHEDULED, lag_s=due.lag_s, missed=missed):
            # The look before is still under way: its slot is missed as any other that had no turn.
            self._skipped[due.key] = missed + 1
            logger.debug("probe.skipped", extra={"target": str(due.key), "why": "still looking"})

    def _start(self, key: TargetKey, occasion: Occasion, *, lag_s: float, missed: int) -> bool:
        watch = self._watches.get(key)
        if watch is None or key in self._looking or self._tasks is None:
            return False
        timer = self._confirming.pop(key, None)
        if timer is not None:
            timer.cancel()
        if watch.taskless:
            self._fly(watch, occasion, lag_s, missed)
        else:
            self._looking[key] = self._tasks.create_task(self._look(watch, occasion, lag_s, missed))
        return True

    def _fly(self, watch: Watch, occasion: Occasion, lag_s: float, missed: int) -> None:
        """Look without a task."""
        key = watch.target.key

        def told(observation: Observation) -> None:
            if self._looking.get(key) is flight:
                del self._looking[key]
                self._conclude(watch, observation, lag_s, missed)

        flight = observe_in_flight(
            watch.check,
            watch.target,
            told,
            deadline_s=self._deadline_s(watch, occasion),
            clock=self._clock,
            occasion=occasion,
        )
        self._looking[key] = flight
        flight.start()

    async def _look(self, watch: Watch, occasion: Occasion, lag_s: float, missed: int) -> None:
        key = watch.target.key
        task = asyncio.current_task()
        try:
            observation = await observe(
                watch.check,
                watch.target,
                deadline_s=self._deadline_s(watch, occasion),
                clock=self._clock,
                occasion=occasion,
            )
        finally:
            if self._looking.get(key) is task:
                del self._looking[key]
        self._conclude(watch, observation, lag_s, missed)

    def _deadline_s(self, watch: Watch, occasion: Occasion) -> float:
        """A look in doubt takes what any look may take: cut short, a slow target would be told as down.

        Only after a sentinel's cry silence is named sooner, and then it is measured by what is usual here.
        """
        if occasion is not Occasion.SENTINEL:
            return watch.timeout_s
        row = self._board.row(watch.target.key)
        known = row.verdict.observation if row is not None else None
        usual_s = (known.finding.latency_s if known is not None else None) or 0.0
        return min(watch.timeout_s, max(_SENTINEL_LOOK_S, _SENTINEL_PATIENCE * usual_s))

    def _conclude(self, watch: Watch, observation: Observation, lag_s: float, missed: int) -> None:
        key = observation.target.key
        if self._watches.get(key) is not watch:
            return
        try:
            self._judge(watch, observation, lag_s, missed)
        except Exception:
            logger.exception("probe.conclusion_failed", extra={"target": str(key)})

    def _judge(self, watch: Watch, observation: Observation, lag_s: float, missed: int) -> None:
        key = watch.target.key
        row = self._board.row(key)
        if row is None:
            return
        before = row.verdict
        verdict, confirm_after_s = step(before, observation, watch.confirm)
        self._board.record(observation, verdict)
        if confirm_after_s is not None:
            self._confirming[key] = asyncio.get_running_loop().call_later(
                confirm_after_s, self.look_now, key, Occasion.CONFIRMATION
            )
        self._told(
            Look(row=row, observation=observation, before=before, verdict=verdict, lag_s=lag_s, missed=missed)
        )

    def _forget(self, key: TargetKey) -> None:
        for task in (self._looking.pop(key, None), self._sentinels.pop(key, None)):
            if task is not None:
                task.cancel()
        timer = self._confirming.pop(key, None)
        if timer is not None:
            timer.cancel()
        self._cried_s.pop(key, None)
        self._skipped.pop(key, None)


def _row(watch: Watch) -> Row:
    return Row(
        target=watch.target,
        interval_s=watch.interval_s,
        slower_than_s=watch.slower_than_s,
        depends_on=watch.depends_on,
    )


async def _close(watch: Watch) -> None:
    try:
        await watch.check.close()
    except Exception:
        logger.exception("check.close_failed", extra={"target": str(watch.target.key)})
