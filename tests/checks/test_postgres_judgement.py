"""What a standby's numbers mean where a real one would have to be waited for."""

from __future__ import annotations

import pytest

from checks.postgres.depth import Depth
from checks.postgres.judge_depth import judge
from checks.postgres.thresholds import Thresholds, effective
from checks.reason import Reason


def standby(**more: object) -> Depth:
    counters = dict.fromkeys(
        (
            "commits",
            "rollbacks",
            "blocks_read",
            "blocks_hit",
            "deadlocks",
            "checksum_failures",
            "temp_bytes",
            "xid_age",
            "mxid_age",
            "checkpoints_timed",
            "checkpoints_requested",
        ),
        0,
    )
    return Depth(**counters, **more)  # type: ignore[arg-type]  # Names of Depth's own fields.


def told(now: Depth, env: str = "production") -> list[tuple[Reason, str]]:
    limits = effective(env, "auto", Thresholds())
    return [(one.reason, one.message) for one in judge(None, now, limits, shown="db:5432/app")]


def test_a_primary_that_is_connected_and_says_nothing_is_told() -> None:
    ((reason, message),) = told(standby(receivers=1, message_age_s=45.0, apply_bytes=0))
    assert reason is Reason.PG_REPLICATION_LAG
    assert "db:5432/app is connected to its primary and has heard nothing from it for 45 s" in message


@pytest.mark.parametrize(
    "now",
    [
        standby(receivers=1, message_age_s=31.0, apply_bytes=0),
        standby(receivers=0, message_age_s=None, apply_bytes=0),
    ],
    ids=["an idle primary", "no receiver, which is told by itself"],
)
def test_a_primary_that_has_nothing_to_say_is_fine(now: Depth) -> None:
    assert told(now) == []


def test_development_does_not_judge_replication() -> None:
    assert told(standby(receivers=1, message_age_s=45.0), "development") == []
