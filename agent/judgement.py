"""One environment's judgement: its journal, its judge, and the events they make."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from agent.board import Board, EventKind
from agent.canary_looks import CanaryLooks
from agent.platform.scope import Scope
from agent.prober import Look, Watch
from agent.web.source import Change
from alerts.canary import stand_ins, validated
from alerts.channel import channels
from alerts.dispatcher import Dispatcher, Trial
from alerts.isolation import Reach
from alerts.journal import Journal
from alerts.judge import Judge
from alerts.passes import dressed
from alerts.plan import Graph, JudgePlan
from alerts.reporter import Reporter
from alerts.requests import ErrorLog, RequestExample, RequestSample
from alerts.story import Change as ToldChange
from alerts.troubles import Troubles
from alerts.view import Transition
from alerts.waiting import LaneStatus
from checks.catalog import ProbeKit
from checks.clock import Clock
from checks.target import TargetKey

logger = logging.getLogger(__name__)

_HEALTHY_WITHIN_S: Final = 30.0
_LOOKED_WITHIN_S: Final = 60.0
_MOMENT_S: Final = 0.05


class Judgement:
    """Feeds the judge of one environment and tells the board what it decided. Used on the event loop."""

    def __init__(
        self,
        scope: Scope,
        watches: Iterable[Watch],
        *,
        path: Path,
        clock: Clock,
        kit: ProbeKit,
        board: Board,
        decided: Callable[[Transition], None],
    ) -> None:
        plan = plan_of(scope, watches)
        self._canaries_written = bool(scope.alerts.canaries)
        self.env = scope.environment_name
        self.journal = Journal(path, kept_s=float(scope.environment.retention.incidents))
        self.judge = Judge(plan, self.journal, now_s=clock.wall_s())
        self.graph = Graph(plan.dependencies)
        self._dispatcher = Dispatcher(
            self.journal,
            channels(scope.receivers, self.env),
            clock=clock,
            dead_man=scope.alerts.dead_man,
            healthy=self.vouches,
            signed=lambda notice: dressed(notice, scope.agent.token, clock.wall_s()),
        )
        self._canaries = CanaryLooks(
            self.env,
            kit,
            lambda: self.judge.plan.canaries,
            lambda reachable: self._heard(reachable=reachable),
        )
        self._lately: list[TargetKey] = []
        self._looked = clock.monotonic_s()
        self._reporter = Reporter(self.journal)
        self._troubles = Troubles()
        self._clock = clock
        self._board = board
        self._decided = decided

    async def deliver(self) -> None:
        """Take notices to their receivers, and ask the canaries when in doubt, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._dispatcher.run())
            tasks.create_task(self._canaries.run())

    def looked(self, look: Look) -> None:
        """Take in one look; judge what hangs on it at once when its verdict changed."""
        self.judge.observe(look.observation, look.verdict)
        self._looked = self._clock.monotonic_s()
        key = look.observation.target.key
        isolation = self.judge.isolation
        if look.verdict.doubt and isolation.reach is Reach.CLEAR:
            self._ask_canaries()
        if look.verdict.doubt and not look.verdict.doubt_good:
            self._dispatcher.prepare()
        if look.verdict.state is look.before.state:
            return
        if not isolation.may_be_us(key):
            self._tell(self.judge.look(key, self._clock.wall_s()))
            return
        # A cut line shows at every held connection within milliseconds; the first must not call alone.
        if not self._lately:
            asyncio.get_running_loop().call_later(_MOMENT_S, self._look_at_lately)
        self._lately.append(key)

    def _look_at_lately(self) -> None:
        self._ask_canaries()
        lately, self._lately = self._lately, []
        for key in lately:
            self._tell(self.judge.look(key, self._clock.wall_s()))

    def requests(self, sample: RequestSample) -> None:
        """Take in one source's request counters."""
        self.judge.requests(sample)

    def example(self, example: RequestExample) -> None:
        """Take in a request that failed or was slow."""
        self.judge.example(example)

    def logged(self, event: ErrorLog) -> None:
        """Take in ERROR log events."""
        self.judge.logged(event)

    def changed(self, change: Change) -> None:
        """Take in a change of the platform: pages of the next 15 minutes mention it."""
        self.judge.changed(ToldChange(at_s=change.at_s, text=change.text, component=change.service))

    def tick(self) -> None:
        """Evaluate everything due; called about once a second."""
        self._ask_canaries()
        now_s = self._clock.wall_s()
        self._tell(self.judge.tick(now_s))
        self._reporter.tick(self.judge.plan, now_s)
        troubles = self._troubles.tick(self._dispatcher.troubles(), self.env, now_s)
        if troubles:
            self.judge.receive(troubles, now_s)

    def wanted(self) -> tuple[TargetKey, ...]:
        """Targets to look at now: a page waits for them, or the agent was cut off and is back."""
        if self.judge.isolation.reach is Reach.RETURNING:
            return self.judge.isolation.silent()
        return self.judge.suspects()

    def reach(self) -> tuple[str | None, str]:
        """What is wrong with the agent's own reach, None when nothing is; and what it is judged by."""
        isolation = self.judge.isolation
        lacks = isolation.lacks()
        trouble = isolation.said() or (lacks if self._canaries_written else "")
        return trouble or None, lacks or f"judged by {', '.join(map(str, isolation.canaries[:4]))}"

    def reload(self, scope: Scope, watches: Iterable[Watch]) -> None:
        """Take over a new configuration, keeping every state."""
        plan = plan_of(scope, watches)
        self._canaries_written = bool(scope.alerts.canaries)
        self.graph = Graph(plan.dependencies)
        self.journal.kept_s = float(scope.environment.retention.incidents)
        self._tell(self.judge.reload(plan, self._clock.wall_s()))
        self._dispatcher.reload(channels(scope.receivers, self.env))
        self._reporter.reload()

    def lanes(self) -> tuple[LaneStatus, ...]:
        """How each channel does."""
        return self._dispatcher.status()

    def test(self, receiver: str, author: str) -> Trial:
        """Queue a test message for a receiver."""
        return self._dispatcher.test(receiver, author)

    def undelivered(self) -> tuple[int, float | None]:
        """How many notices wait, and for how many seconds the oldest does."""
        lanes = self.lanes()
        count = sum(lane.queued for lane in lanes)
        return count, max(lane.oldest_s for lane in lanes) if count else None

    def vouches(self) -> bool:
        """Whether rules are evaluated, on looks that are taken: what the dead man's ping vouches for."""
        plan = self.judge.plan
        judged = self._clock.wall_s() - self.judge.last_tick_s < _HEALTHY_WITHIN_S
        within_s = max(_LOOKED_WITHIN_S, 3 * plan.interval_s)
        looked = not plan.targets or self._clock.monotonic_s() - self._looked < within_s
        return judged and looked and not self.judge.isolation.blind

    def _ask_canaries(self) -> None:
        if self.judge.asks(self._clock.wall_s()):
            self._canaries.ask()

    def _heard(self, *, reachable: bool) -> None:
        isolation = self.judge.isolation
        before = isolation.reach
        self._tell(self.judge.canary(reachable=reachable, now_s=self._clock.wall_s()))
        if isolation.reach is Reach.CUT_OFF and before is not Reach.CUT_OFF:
            logger.error("agent.cut_off", extra={"environment": self.env, "error": isolation.said()})
        if isolation.reach is Reach.RETURNING:
            self._dispatcher.hurry()

    def _tell(self, transitions: tuple[Transition, ...]) -> None:
        for transition in transitions:
            logger.info(
                "alert.transition",
                extra={
                    "environment": self.env,
                    "rule": transition.alertname,
                    "service": transition.component,
                    "state": transition.what.value,
                    "reason": transition.text,
                },
            )
            self._board.emit(
                EventKind.ALERT,
                at_s=transition.at_s,
                env=self.env,
                subject=transition.component,
                state=transition.what.value,
                text=f"{transition.alertname}: {transition.text}",
                facts={"alertname": transition.alertname, "fingerprint": transition.fingerprint},
            )
            self._decided(transition)


def plan_of(scope: Scope, watches: Iterable[Watch]) -> JudgePlan:
    """What the judge needs to know of an environment."""
    placed = tuple(watches)
    alerts = scope.alerts
    return JudgePlan(
        env=scope.environment_name,
        rules=scope.rules,
        targets=tuple(watch.target for watch in placed),
        interval_s=float(scope.environment.check_interval),
        receivers=scope.receivers,
        services=tuple(scope.services),
        scraped=frozenset(name for name, service in scope.services.items() if service.metrics),
        dependencies=scope.dependencies,
        intervals_s={watch.target.key: watch.interval_s for watch in placed},
        alias=scope.environment.alias,
        settle_s=float(alerts.settle),
        escalation=alerts.escalation,
        maintenance=alerts.maintenance,
        report=alerts.report,
        external_url=alerts.external_url,
        canaries=validated(alerts.canaries) or stand_ins(channels(scope.receivers, scope.environment_name)),
    )
