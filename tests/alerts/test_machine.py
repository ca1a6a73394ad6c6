"""The state machine, cell by cell: every state meets every outcome, and every clock its exact edge."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest

from alerts.machine import Ended, Pace, Phase, Standing, Step, resumed, step
from alerts.reading import Outcome, Reading, Unknown, unknown

NOW_S = 1000.0
PACE = Pace(for_s=60, keep_firing_s=30, interval_s=10)
AT_ONCE = Pace(for_s=0, keep_firing_s=0, interval_s=10)


def bad(at_s: float, looks: int = 1) -> Reading:
    return Reading(outcome=Outcome.BAD, at_s=at_s, looks=looks)


def good(at_s: float, looks: int = 1) -> Reading:
    return Reading(outcome=Outcome.GOOD, at_s=at_s, looks=looks)


def quiet(at_s: float, why: Unknown = Unknown.STALE, *, vouched: bool = False) -> Reading:
    return unknown(why, at_s, vouched=vouched)


def standing(phase: Phase, age_s: float = 5, *, bads: int = 1, goods: int = 0) -> Standing:
    """In this phase for `age_s` seconds, evaluated 5 s ago."""
    began_s = NOW_S - age_s
    fires = phase in (Phase.FIRING, Phase.RECOVERING)
    return Standing(
        phase=phase, active_at_s=began_s, fired_at_s=began_s if fires else 0,
        keep_since_s=began_s if phase is Phase.RECOVERING else 0, last_eval_s=NOW_S - 5, seen_at_s=NOW_S - 5,
        bads=bads, goods=goods,
    )  # fmt: skip


CELLS = {
    "ok, bad": (Standing(), bad(NOW_S), PACE, Phase.PENDING, Step.ACTIVE),
    "ok, bad, for 0": (Standing(), bad(NOW_S), AT_ONCE, Phase.FIRING, Step.FIRED),
    "ok, good": (Standing(), good(NOW_S), PACE, Phase.OK, None),
    "ok, unknown": (Standing(), quiet(NOW_S), PACE, Phase.OK, None),
    "pending, bad, not long enough": (standing(Phase.PENDING, 59), bad(NOW_S), PACE, Phase.PENDING, None),
    "pending, bad, exactly long enough": (
        standing(Phase.PENDING, 60), bad(NOW_S), PACE, Phase.FIRING, Step.FIRED,
    ),
    "pending, bad, only one fresh look": (
        standing(Phase.PENDING, 90), bad(NOW_S - 5), PACE, Phase.PENDING, None,
    ),
    "pending, good": (standing(Phase.PENDING, 59), good(NOW_S), PACE, Phase.OK, Step.DROPPED),
    "pending, unknown": (standing(Phase.PENDING, 59), quiet(NOW_S), PACE, Phase.PENDING, None),
    "firing, bad": (standing(Phase.FIRING), bad(NOW_S), PACE, Phase.FIRING, None),
    "firing, good": (standing(Phase.FIRING), good(NOW_S), PACE, Phase.RECOVERING, Step.RECOVERING),
    "firing, one good, keep 0": (
        standing(Phase.FIRING), good(NOW_S), AT_ONCE, Phase.RECOVERING, Step.RECOVERING,
    ),
    "firing, two good at once, keep 0": (
        standing(Phase.FIRING), good(NOW_S, looks=2), AT_ONCE, Phase.OK, Step.RESOLVED,
    ),
    "firing, unknown": (standing(Phase.FIRING), quiet(NOW_S), PACE, Phase.FIRING, None),
    "recovering, bad": (standing(Phase.RECOVERING), bad(NOW_S), PACE, Phase.FIRING, Step.RELAPSED),
    "recovering, good, not long enough": (
        standing(Phase.RECOVERING, 29, goods=5), good(NOW_S), PACE, Phase.RECOVERING, None,
    ),
    "recovering, good, exactly long enough": (
        standing(Phase.RECOVERING, 30, goods=1), good(NOW_S), PACE, Phase.OK, Step.RESOLVED,
    ),
    "recovering, good, only one fresh look": (
        standing(Phase.RECOVERING, 90), good(NOW_S), PACE, Phase.RECOVERING, None,
    ),
    "recovering, unknown": (
        standing(Phase.RECOVERING, 90, goods=5), quiet(NOW_S), PACE, Phase.RECOVERING, None,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("before", "reading", "pace", "phase", "happened"), CELLS.values(), ids=CELLS.keys())
def test_every_state_meets_every_outcome(
    before: Standing, reading: Reading, pace: Pace, phase: Phase, happened: Step | None
) -> None:
    after, what = step(before, reading, pace, NOW_S)
    assert (after.phase, what) == (phase, happened)
    if happened is Step.RELAPSED:
        assert after.fired_at_s == before.fired_at_s, "the same episode"


def run(pace: Pace, readings: Iterable[tuple[float, Reading]], before: Standing | None = None) -> list[str]:
    """`62 fired`, for each change."""
    now = before or Standing()
    changes = []
    for at_s, reading in readings:
        now, happened = step(now, reading, pace, at_s)
        if happened is not None:
            changes.append(f"{at_s:g} {happened}")
    return changes


def test_for_60_s_at_10_s_is_seven_bad_looks() -> None:
    assert run(PACE, [(at, bad(at)) for at in range(100, 170, 10)]) == ["100 active", "160 fired"]


def test_a_pause_does_not_count_for_the_time_it_must_be_bad() -> None:
    readings = [(at, bad(at)) for at in (100, 110)]
    readings += [(at, quiet(110)) for at in (120, 130)]
    readings += [(at, bad(at)) for at in range(140, 200, 10)]
    # Unknown from 120 until 140: it fires 20 s later than without.
    assert run(PACE, readings) == ["100 active", "180 fired"]


def test_a_pause_does_not_count_for_the_time_it_must_be_good() -> None:
    readings = [(1000, good(1000)), (1010, quiet(1000)), (1020, quiet(1000)), (1030, good(1030))]
    readings += [(at, good(at)) for at in (1040, 1050, 1060)]
    assert run(PACE, readings, standing(Phase.FIRING)) == ["1000 recovering", "1050 resolved"]


@pytest.mark.parametrize(("window_s", "dropped_s"), [(0, 140), (300, 410)])
def test_what_is_pending_is_dropped_after_three_intervals_or_its_window_without_knowledge(
    window_s: float, dropped_s: float
) -> None:
    pace = msgspec.structs.replace(PACE, window_s=window_s)
    readings = [(100, bad(100))] + [(at, quiet(100)) for at in range(110, 500, 10)]
    assert run(pace, readings) == ["100 active", f"{dropped_s:g} dropped"]


def test_missing_data_never_resolves_however_long() -> None:
    readings = [(NOW_S + at, quiet(NOW_S)) for at in range(0, 7 * 86400, 600)]
    wide = msgspec.structs.replace(PACE, interval_s=600)
    assert run(wide, readings, standing(Phase.FIRING)) == []
    assert run(wide, readings, standing(Phase.RECOVERING, goods=9)) == []


@pytest.mark.parametrize(("vouched", "changes"), [(True, ["1900 resolved"]), (False, [])])
def test_no_traffic_resolves_after_a_quarter_of_an_hour_if_probes_vouch(
    *, vouched: bool, changes: list[str]
) -> None:
    readings = [(at, quiet(990, Unknown.NO_TRAFFIC, vouched=vouched)) for at in range(1000, 2000, 10)]
    assert run(PACE, readings, standing(Phase.FIRING)) == changes


def test_a_gap_of_the_agent_counts_for_nothing_and_two_looks_verify_what_was() -> None:
    readings = [(100, bad(100)), (110, bad(110)), (5000, bad(5000)), (5010, bad(5010)), (5020, bad(5020))]
    readings += [(at, bad(at)) for at in range(5030, 5100, 10)]
    fired = [change for change in run(PACE, readings) if "fired" in change]
    assert fired == ["5070 fired"], "ten seconds before the gap, fifty after the two that verify"


def test_good_after_a_gap_resolves_only_when_verified() -> None:
    firing = standing(Phase.FIRING)
    readings = [(at, good(at)) for at in range(5000, 5090, 10)]
    assert run(AT_ONCE, readings, firing) == ["5020 recovering", "5030 resolved"]


def test_a_clock_that_steps_back_pauses_as_a_gap_does() -> None:
    firing = standing(Phase.FIRING)
    readings = [(at, good(at)) for at in range(500, 560, 10)]
    assert run(AT_ONCE, readings, firing) == ["520 recovering", "530 resolved"]


@pytest.mark.parametrize(
    ("phase", "down_s", "kept"),
    [
        (Phase.OK, 1, False), (Phase.PENDING, 3600, True), (Phase.PENDING, 3601, False),
        (Phase.FIRING, 30 * 86400, True), (Phase.RECOVERING, 30 * 86400, True),
    ],
)  # fmt: skip
def test_a_restart_keeps_what_fires_and_what_was_pending_within_the_hour(
    phase: Phase, down_s: float, *, kept: bool
) -> None:
    saved = standing(phase)
    found = resumed(saved, saved.last_eval_s + down_s)
    assert (found is not None) is kept
    if found is not None:
        assert (found.phase, found.fired_at_s, found.paused_s, found.verify) == (
            phase, saved.fired_at_s, down_s, 2,
        )  # fmt: skip


def test_a_restart_neither_waits_again_nor_forgets_how_long_it_was_pending() -> None:
    pending = standing(Phase.PENDING, 50)
    found = resumed(pending, 2000)
    assert found is not None
    changes = run(PACE, [(at, bad(at)) for at in range(2000, 2100, 10)], found)
    assert changes == ["2040 fired"], "45 s before, 15 s after, two looks to verify in between"


def _flaps(times: int, *, every_s: int) -> list[tuple[float, Reading]]:
    readings: list[tuple[float, Reading]] = []
    for number in range(times):
        at_s = number * every_s
        readings += [(at_s + 10, bad(at_s + 10)), (at_s + 20, bad(at_s + 20))]
        readings += [(at_s + 30, good(at_s + 30)), (at_s + 40, good(at_s + 40))]
        readings += [(at, good(at)) for at in range(at_s + 50, at_s + every_s, 10)]
    return readings


def test_the_third_recovery_within_half_an_hour_is_not_believed_until_half_an_hour_is_stable() -> None:
    changes = run(AT_ONCE, _flaps(3, every_s=100) + [(at, good(at)) for at in range(300, 2500, 10)])
    assert [change.split()[1] for change in changes] == [
        "fired", "recovering", "resolved", "fired", "recovering", "resolved", "fired", "recovering",
        "flapping", "resolved",
    ]  # fmt: skip
    assert changes[-1] == "2030 resolved", "half an hour after 230, when it became good"


def test_what_comes_back_rarely_is_not_flapping() -> None:
    changes = run(AT_ONCE, _flaps(5, every_s=1000))
    assert "flapping" not in {change.split()[1] for change in changes}


def test_every_end_says_why() -> None:
    now = standing(Phase.RECOVERING, 60, goods=5)
    after, _ = step(now, good(NOW_S), PACE, NOW_S)
    assert after.ended is Ended.RECOVERED
    after, _ = step(
        msgspec.structs.replace(standing(Phase.FIRING, 2000), unknown_since_s=NOW_S - 900),
        quiet(NOW_S, Unknown.NO_TRAFFIC, vouched=True), PACE, NOW_S,
    )  # fmt: skip
    assert after.ended is Ended.NO_TRAFFIC
