from __future__ import annotations

import asyncio
import itertools

from hypothesis import given
from hypothesis import strategies as st

from agent.scheduler import SLOT_S, Due, Scheduler, Wheel
from tests.virtual_time import VirtualClock, run_virtual


def _starts(wheel: Wheel[str], until_s: float) -> list[tuple[float, str]]:
    """Every start until `until_s`, the clock always exactly at the next slot."""
    starts: list[tuple[float, str]] = []
    while (next_s := wheel.next_s()) is not None and next_s <= until_s:
        starts += [(round(next_s, 6), due.key) for due in wheel.due(next_s)]
    return starts


def test_everything_is_looked_at_at_once_and_then_on_its_grid_for_ever() -> None:
    wheel: Wheel[str] = Wheel(0.0)
    for key in ("a", "b", "c"):
        wheel.add(key, 10.0, now_s=0.0)
    starts = _starts(wheel, 1000.0)
    assert [key for at_s, key in starts if at_s == 0.0] == ["a", "b", "c"]
    for key in ("a", "b", "c"):
        later = [at_s for at_s, of in starts if of == key][1:]
        assert {round(after - before, 6) for before, after in itertools.pairwise(later)} == {10.0}
        assert 5.0 <= later[0] <= 15.0


def test_phases_are_spread_over_the_interval() -> None:
    wheel: Wheel[int] = Wheel(0.0)
    for key in range(500):
        wheel.add(key, 10.0, now_s=0.0)
    fullest = 0
    while (next_s := wheel.next_s()) is not None and next_s <= 40.0:
        found = wheel.due(next_s)
        fullest = max(fullest, len(found) if next_s > 20.0 else 0)
    assert 1 <= fullest <= 4


def test_the_first_pass_of_many_targets_starts_25_at_a_time() -> None:
    wheel: Wheel[int] = Wheel(0.0)
    for key in range(60):
        wheel.add(key, 10.0, now_s=0.0)
    assert [len(wheel.due(slot * SLOT_S)) for slot in range(3)] == [25, 25, 10]


def test_slots_lost_in_a_stall_are_counted_and_not_made_up_for() -> None:
    wheel: Wheel[str] = Wheel(0.0)
    wheel.add("a", 1.0, now_s=0.0)
    wheel.due(0.0)
    grid_s = wheel.next_s()
    assert grid_s is not None
    assert wheel.due(grid_s + 3.5) == [Due(key="a", lag_s=3.5, missed=3)]
    assert wheel.next_s() == grid_s + 4.0


def test_a_removed_key_is_never_due_again() -> None:
    wheel: Wheel[str] = Wheel(0.0)
    wheel.add("a", 1.0, now_s=0.0)
    wheel.remove("a")
    assert wheel.due(100.0) == []


@given(
    st.lists(st.floats(min_value=0.02, max_value=60.0), min_size=1, max_size=30),
    st.lists(st.floats(min_value=0.0, max_value=20.0), min_size=1, max_size=50),
)
def test_each_key_starts_at_most_once_a_call_and_started_plus_missed_is_what_was_due(
    intervals_s: list[float], steps_s: list[float]
) -> None:
    wheel: Wheel[int] = Wheel(0.0)
    for key, interval_s in enumerate(intervals_s):
        wheel.add(key, interval_s, now_s=0.0)
    now_s = 0.0
    for step_s in steps_s:
        now_s += step_s
        found = wheel.due(now_s)
        assert len({due.key for due in found}) == len(found)
        next_s = wheel.next_s()
        assert next_s is not None
        assert next_s > now_s - SLOT_S
        assert len(wheel) == len(intervals_s)


def test_after_a_stall_what_is_due_starts_in_parts_and_nothing_is_left_out_or_started_twice() -> None:
    wheel: Wheel[int] = Wheel(0.0)
    for key in range(10_000):
        wheel.add(key, 10.0, now_s=0.0)
    parts: list[list[int]] = []
    while part := wheel.due(60.0, about=250):
        parts.append([due.key for due in part])
    assert sorted(key for part in parts for key in part) == list(range(10_000))
    assert max(len(part) for part in parts) < 250 + 25


def test_a_loop_that_was_held_up_serves_others_between_the_starts_it_owes() -> None:
    async def scenario(clock: VirtualClock) -> tuple[int, int]:
        started: list[int] = []
        scheduler: Scheduler[int] = Scheduler(clock, lambda due: started.append(due.key))
        scheduler.place(dict.fromkeys(range(10_000), 10.0))
        await asyncio.sleep(20)
        started.clear()
        clock.stall(30)
        served = most = 0
        while len(started) < 10_000:
            before = len(started)
            await asyncio.sleep(0)
            served += 1
            most = max(most, len(started) - before)
        scheduler.stop()
        return served, most

    served, most = run_virtual(scenario)
    assert served >= 35
    assert most < 300


def test_the_timer_follows_the_grid_and_keeps_it_over_a_reload() -> None:
    async def scenario(clock: VirtualClock) -> list[tuple[float, str]]:
        started: list[tuple[float, str]] = []
        scheduler: Scheduler[str] = Scheduler(
            clock, lambda due: started.append((round(clock.monotonic_s(), 6), due.key))
        )
        scheduler.place({"a": 2.0, "b": 2.0})
        await asyncio.sleep(10)
        scheduler.place({"a": 2.0, "c": 4.0})
        await asyncio.sleep(10)
        scheduler.stop()
        await asyncio.sleep(100)
        return started

    started = run_virtual(scenario)
    grid = [at_s for at_s, key in started if key == "a"][1:]
    assert {round(after - before, 6) for before, after in itertools.pairwise(grid)} == {2.0}
    assert max(at_s for at_s, _ in started) <= 20.0
    assert max(at_s for at_s, key in started if key == "b") <= 10.0
    assert min(at_s for at_s, key in started if key == "c") == 10.0


def test_few_keys_share_slots_at_most_a_second_apart_and_many_need_not() -> None:
    def due_slots(keys: int, interval_s: float) -> list[tuple[int, int]]:
        """Each slot of one interval in which something is due, after the first pass, with how much."""
        wheel: Wheel[int] = Wheel(0.0)
        wheel.expect([interval_s] * keys)
        for key in range(keys):
            wheel.add(key, interval_s, now_s=0.0)
        first, slots = round(interval_s / SLOT_S), round(interval_s / SLOT_S)
        wheel.due(first * SLOT_S)
        found = [(slot, len(wheel.due(slot * SLOT_S))) for slot in range(first + 1, first + slots + 1)]
        return [(slot, count) for slot, count in found if count]

    few = due_slots(20, 10.0)
    assert len(few) <= 10
    assert sum(count for _, count in few) == 20
    middle = due_slots(1000, 5.0)
    assert len(middle) <= 63
    assert all(6 <= count <= 25 for _, count in middle)
    many = due_slots(10_000, 10.0)
    assert len(many) >= 499
    assert max(count for _, count in many) <= 25
