from __future__ import annotations

import asyncio

from agent.vitals import Gap, Vitals
from tests.virtual_time import VirtualClock, run_virtual


def test_a_quiet_minute_has_no_lag_and_no_gap() -> None:
    async def scenario(clock: VirtualClock) -> tuple[float, list[Gap]]:
        gaps: list[Gap] = []
        vitals = Vitals(clock, gaps.append)
        task = asyncio.create_task(vitals.run())
        await asyncio.sleep(60)
        task.cancel()
        return round(vitals.loop_lag_s, 6), gaps

    assert run_virtual(scenario) == (0.0, [])


def test_a_machine_that_slept_is_noticed_by_its_wall_clock() -> None:
    async def scenario(clock: VirtualClock) -> list[Gap]:
        gaps: list[Gap] = []
        task = asyncio.create_task(Vitals(clock, gaps.append).run())
        await asyncio.sleep(1.1)
        clock.wall_offset_s += 3600
        await asyncio.sleep(1)
        task.cancel()
        return gaps

    (gap,) = run_virtual(scenario)
    assert (round(gap.lost_s), round(gap.stepped_s)) == (3600, 3600)


def test_late_looks_are_ranked_and_missed_ones_counted() -> None:
    async def scenario(clock: VirtualClock) -> tuple[float, int]:
        vitals = Vitals(clock, lambda _: None)
        for lag_ms in range(100):
            vitals.looked(lag_ms / 1000, missed=lag_ms // 98)
        return vitals.look_lag_p99_s, vitals.missed_looks

    assert run_virtual(scenario) == (0.098, 2)
