from __future__ import annotations

import asyncio

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agent.board import Board, Event, EventKind, Recent, Row
from checks.finding import Finding, State
from checks.observation import Observation
from checks.reason import Reason
from checks.target import Kind, Target, TargetKey
from checks.verdict import Verdict

KEY = TargetKey(env="production", service="auth", check="http", vantage="public")
TARGET = Target(key=KEY, kind=Kind.SERVICE, address="auth:80")


def board_with_row() -> Board:
    board = Board()
    board.place({KEY: Row(target=TARGET, interval_s=10.0, slower_than_s=2.0)})
    return board


def seen(at_s: float, state: State = State.UP) -> tuple[Observation, Verdict]:
    finding = Finding(state=state, reason=Reason.OK, message="m", latency_s=0.01)
    observation = Observation(target=TARGET, at_s=at_s, duration_s=0.01, finding=finding)
    return observation, Verdict(state=state, reason=Reason.OK, message="m", since_s=at_s)


def emit(board: Board, text: str) -> Event:
    return board.emit(EventKind.CHANGE, at_s=1.0, env="production", subject="auth", state="", text=text)


def test_a_row_is_never_green_without_a_fresh_look() -> None:
    board = board_with_row()
    row = board.record(*seen(100.0))
    assert row is not None
    assert row.shown(130.0).state is State.UP
    stale = row.shown(136.0)
    assert (stale.state, stale.reason) == (State.UNKNOWN, Reason.STALE)
    assert stale.message == "last look 36 s ago, due every 10 s; it was up"


def test_a_row_counts_every_look_and_remembers_the_last() -> None:
    board = board_with_row()
    for second in range(201):
        board.record(*seen(2.0 + second))
    row = board.row(KEY)
    assert row is not None
    assert (row.looks, len(row.recent)) == (201, 90)


def test_a_look_at_a_target_that_was_removed_changes_nothing() -> None:
    board = board_with_row()
    board.place({})
    assert board.record(*seen(1.0)) is None


@given(st.lists(st.tuples(st.sampled_from(State), st.none() | st.floats(0, 10, width=32)), max_size=200))
def test_the_last_looks_are_kept_in_order(looks: list[tuple[State, float | None]]) -> None:
    recent = Recent()
    for second, (state, latency_s) in enumerate(looks):
        recent.add(float(second), state, latency_s)
    kept = [(point.at_s, point.state, point.latency_s) for point in recent]
    assert kept == [(float(s), *look) for s, look in enumerate(looks)][-90:]


async def test_a_subscriber_gets_what_it_missed_and_then_what_happens() -> None:
    board = Board()
    first, second = emit(board, "one"), emit(board, "two")
    events = board.subscribe(after_seq=first.seq)
    assert await anext(events) == second
    third = emit(board, "three")
    assert await anext(events) == third


async def test_a_subscriber_that_missed_too_much_is_told_to_start_again() -> None:
    board = Board()
    for number in range(1100):
        emit(board, str(number))
    assert await anext(board.subscribe(after_seq=5)) is None
    assert await anext(board.subscribe(after_seq=99999)) is None, "a number from before a restart"


async def test_a_subscriber_that_does_not_read_costs_a_bounded_queue() -> None:
    board = Board()
    events = board.subscribe()
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    for number in range(400):
        emit(board, str(number))
    received = [await waiting]
    while received[-1] is not None and len(received) < 400:
        received.append(await anext(events))
    assert None in received
    assert len(received) < 300


def test_one_instance_that_falls_is_not_the_service() -> None:
    board = Board()
    keys = [
        TargetKey(env="production", service="auth", check="http", vantage=f"instance_{n}") for n in (1, 2)
    ]
    rows = {
        key: Row(
            target=Target(key=key, kind=Kind.SERVICE, address="auth:80"), interval_s=10.0, slower_than_s=2.0
        )
        for key in keys
    }
    board.place(rows)
    for key, state in zip(keys, (State.DOWN, State.UP), strict=True):
        observation, verdict = seen(100.0, state)
        board.record(msgspec.structs.replace(observation, target=rows[key].target), verdict)
    told = board.verdict(keys[0])
    assert told is not None
    assert (told.state, told.message) == (
        State.DEGRADED,
        "1 of 2 instances does not answer: auth:80: m",
    )
    assert board.verdict(KEY) is None
