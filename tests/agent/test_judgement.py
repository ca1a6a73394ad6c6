"""What one environment's judgement vouches for."""

from __future__ import annotations

import time
from pathlib import Path

from agent.board import Board, Row
from agent.judgement import Judgement
from agent.platform.load import load
from agent.prober import Look
from agent.watches import watches
from checks.catalog import ProbeKit
from checks.finding import Finding, State
from checks.observation import Observation
from checks.reason import Reason
from checks.resolver import CachingResolver
from checks.verdict import Verdict
from tests.alerts.test_delivery import SteppedClock

FILE = """\
platform: shop
environments:
  production: {alias: prod, check_interval: 10s}
services:
  web: {url: "https://shop.example"}
"""


def test_the_dead_mans_ping_vouches_for_rules_that_are_judged_and_for_looks_that_are_taken(
    tmp_path: Path,
) -> None:
    (tmp_path / "gaia.yaml").write_text(FILE)
    scope = load(tmp_path / "gaia.yaml", environ={}).scopes["production"]
    clock = SteppedClock()
    kit = ProbeKit(clock=clock, resolver=CachingResolver())
    watched = tuple(watches(scope, kit))
    judgement = Judgement(
        scope, watched, path=tmp_path / "judge.db", clock=clock, kit=kit,
        board=Board(), decided=lambda _: None,
    )  # fmt: skip
    row = Row(target=watched[0].target, interval_s=10.0, slower_than_s=None)

    def look() -> None:
        finding = Finding(state=State.UP, reason=Reason.OK, message="well", latency_s=0.01)
        observation = Observation(
            target=watched[0].target, at_s=time.time(), duration_s=0.01, finding=finding
        )
        up = Verdict()
        judgement.looked(Look(row=row, observation=observation, before=up, verdict=up, lag_s=0.0, missed=0))

    judgement.tick()
    assert judgement.vouches()
    clock.ahead_s = 70.0
    judgement.tick()
    assert not judgement.vouches(), "nobody looked for more than a minute"
    look()
    assert judgement.vouches()
    clock.ahead_s = 115.0
    assert not judgement.vouches(), "nobody judged for half a minute"
    judgement.journal.close()
