"""The ledger, looked at and judged: what is said of a destination, and when somebody is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.judgement import plan_of
from agent.settings import Settings
from agent.telemetry.destination_check import DestinationCheck
from agent.telemetry.figures import Figures
from agent.telemetry.ledger import Account
from agent.telemetry.signals import Signal
from agent.watching import Watching
from alerts.journal import Journal
from alerts.judge import Judge
from checks.clock import SystemClock
from checks.finding import State
from checks.observation import Observation
from checks.reason import Reason
from checks.verdict import ConfirmPolicy, Verdict, step
from tests.agent.telemetry.backend import ACCEPT, backend
from tests.agent.telemetry.backend import Verdict as Answered
from tests.agent.telemetry.otlp import post, running, traces
from tests.agent.telemetry.test_figures import figures
from tests.agent.telemetry.test_forwarder import options_for
from tests.waiting import until

ADDRESS = "https://tempo.internal:4318"
HOURS_S = 3600.0


class Ticking:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def wall_s(self) -> float:
        return self.now_s

    def monotonic_s(self) -> float:
        return self.now_s


class Destination:
    """The check of `tempo`, and the figures that it sees."""

    def __init__(self) -> None:
        self.clock = Ticking()
        self.shown: Figures | None = None
        self.check = DestinationCheck(
            "tempo", address=ADDRESS, late_after_s=300, figures=lambda: self.shown, clock=self.clock
        )

    async def say(self, **counts: object) -> tuple[State, Reason, str]:
        account = {"received": 10, "delivered": 8, "queued": 2, "dead": 0, "evicted": 0}
        mine = {name: counts.pop(name) for name in tuple(counts) if name in account}
        self.shown = figures(
            accounts={
                ("tempo", Signal.TRACES): Account(**(account | mine)),  # type: ignore[arg-type]  # as above
                ("loki", Signal.LOGS): Account(received=9, delivered=0, queued=0, dead=5, evicted=0),
            },
            **counts,
        )
        finding = await self.check.probe()
        return finding.state, finding.reason, finding.message


async def test_before_the_ledger_is_open_nothing_is_said() -> None:
    destination = Destination()
    assert (await destination.check.probe()).state is State.STARTING


async def test_a_ledger_that_balances_is_up() -> None:
    said = await Destination().say()
    assert said == (State.UP, Reason.OK, f"tempo ({ADDRESS}) gets everything, 2 items wait")


@pytest.mark.parametrize(
    ("shown", "state", "reason", "words"),
    [
        ({"delivered": 7}, State.DEGRADED, Reason.TELEMETRY_UNACCOUNTED, "1 items of traces for tempo"),
        (
            {"destinations": {"tempo": "HTTP 401: check the credentials", "loki": ""}},
            State.DOWN,
            Reason.TELEMETRY_REFUSED,
            "answers HTTP 401: check the credentials under telemetry.destinations.tempo; nothing is sent, 2",
        ),
        (
            {"oldest_unsent_s": {("tempo", Signal.TRACES): 720.0}, "away": {"tempo": "HTTP 503"}},
            State.DEGRADED,
            Reason.TELEMETRY_LATE,
            "waits for 12m (HTTP 503): see whether it runs",
        ),
        ({"oldest_unsent_s": {("tempo", Signal.TRACES): 299.0}}, State.UP, Reason.OK, "gets everything"),
    ],
    ids=["unaccounted", "refused", "late", "not late yet"],
)
async def test_what_is_wrong_is_said_with_the_destination_and_the_remedy(
    shown: dict[str, object], state: State, reason: Reason, words: str
) -> None:
    found = await Destination().say(**shown)
    assert found[:2] == (state, reason)
    assert words in found[2]
    assert "tempo" in found[2]


async def test_what_was_given_up_or_put_aside_is_said_for_an_hour() -> None:
    destination = Destination()
    assert (await destination.say())[0] is State.UP
    destination.clock.now_s += 10
    given_up = await destination.say(delivered=5, evicted=3)
    assert given_up[:2] == (State.DEGRADED, Reason.TELEMETRY_GIVEN_UP)
    assert given_up[2].startswith("3 items for tempo")
    assert "telemetry.disk" in given_up[2]
    destination.clock.now_s += HOURS_S + 1
    put_aside = await destination.say(delivered=4, evicted=3, dead=1)
    destination.clock.now_s += 10
    put_aside = await destination.say(delivered=3, evicted=3, dead=2)
    assert put_aside[:2] == (State.DEGRADED, Reason.TELEMETRY_PUT_ASIDE)
    assert "`gaia dlq ls`" in put_aside[2]
    destination.clock.now_s += HOURS_S + 1
    assert (await destination.say(delivered=3, evicted=3, dead=2))[0] is State.UP


async def test_a_refused_destination_is_told_of_with_its_remedy_and_resolved(tmp_path: Path) -> None:
    """The real intake, a real backend that answers 401, and the strategy's own rule."""
    async with backend() as tempo:
        file = tmp_path / "gaia.yaml"
        file.write_text(
            "platform: shop\nenvironments: {production: {alias: prod, alerts: comprehensive}}\n"
            f'telemetry: {{destinations: {{tempo: {{url: "{tempo.url}"}}}}}}\n'
            "alerts: {receivers: {desk: {console: {}}}}\n"
        )
        scope = Settings(config=file).scopes()[1][0]
        watching = Watching((scope,), SystemClock())
        [watch] = watching.watches
        judge = Judge(plan_of(scope, watching.watches), Journal(None), now_s=0.0)
        verdict, now_s = Verdict(), 0.0

        async def look() -> str:
            nonlocal verdict, now_s
            now_s += 30
            finding = await watch.check.probe()
            seen = Observation(target=watch.target, at_s=now_s, duration_s=0.0, finding=finding)
            verdict, _ = step(verdict, seen, ConfirmPolicy())
            judge.observe(seen, verdict)
            judge.tick(now_s)
            return ", ".join(f"{one.alertname} {one.state}" for one in judge.active())

        tempo.decide = lambda _path, _body: Answered(401)
        async with running(tmp_path / "data", options_for(tempo)) as intake:
            watching.figures = intake.figures
            await post(intake.port, "/v1/traces", traces(5))
            await until(lambda: (shown := intake.figures()) is not None and shown.destinations.get("tempo"))
            await until(lambda: intake._accounts.get(("tempo", Signal.TRACES)), within_s=15)
            for _ in range(5):
                told = await look()
            assert told == "telemetry_stuck firing"
            [alert] = judge.active()
            assert "answers HTTP 401: check the address and the credentials" in alert.evidence
            tempo.decide = lambda _path, _body: ACCEPT
            done = Account(received=5, delivered=5, queued=0, dead=0, evicted=0)
            await until(lambda: intake._accounts.get(("tempo", Signal.TRACES)) == done, within_s=30)
            for _ in range(20):
                told = await look()
            assert told == ""
