from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import msgspec
import pytest

from agent import past_failures
from agent.history import History, Kept, PastDay, PastLook
from alerts.requests import RequestSample
from checks.clock import SystemClock
from checks.finding import Evidence, Finding, State
from checks.observation import Observation
from checks.reason import Reason
from checks.target import Kind, Target, TargetKey

KEY = TargetKey(env="production", service="auth", check="http", vantage="public")
TARGET = Target(key=KEY, kind=Kind.SERVICE, address="auth:80")


def look(
    at_s: float, state: State, reason: Reason, latency_s: float | None = None, *, target: Target = TARGET
) -> Observation:
    finding = Finding(
        state=state,
        reason=reason,
        message="m",
        latency_s=latency_s,
        evidence=(Evidence(name="status", value="503"),),
    )
    return Observation(target=target, at_s=at_s, duration_s=0.1, finding=finding)


async def test_what_was_added_is_read_back_also_by_the_next_process(tmp_path: Path) -> None:
    now_s = SystemClock().wall_s()
    day = int(now_s // 86400)
    first = History(tmp_path / "history.db", SystemClock())
    running = asyncio.create_task(first.run())
    first.add(look(now_s - 2, State.UP, Reason.OK, 0.012))
    first.add(look(now_s - 1, State.DOWN, Reason.STATUS))
    sample = RequestSample(
        env="production", service="auth", source="s", at_s=now_s, incarnation="1", total=9, errors=1,
        buckets=((2.0, 8), (float("inf"), 9)),
    )  # fmt: skip
    first.add_requests(sample)
    assert len(await first.looks(KEY, since_s=0, limit=10)) == 2
    running.cancel()
    await asyncio.wait([running])

    second = History(tmp_path / "history.db", SystemClock())
    running = asyncio.create_task(second.run())
    looks = await second.looks(KEY, since_s=now_s - 1.5, limit=10)
    assert [(past.state, past.reason, past.latency_s) for past in looks] == [(State.DOWN, "status", None)]
    assert (await second.looks(KEY, since_s=0, limit=1)) == looks
    assert await second.days(KEY, days=2) == (PastDay(day=day, looks={State.DOWN: 1, State.UP: 1}),)
    failures = await second.failures(KEY, limit=5)
    assert [(one.first_s, one.at_s, one.looks) for one in failures] == [(looks[0].at_s, looks[0].at_s, 1)]
    assert msgspec.json.decode(failures[0].detail)["evidence"] == [{"name": "status", "value": "503"}]
    assert await second.requests("production", "auth", since_s=0) == (sample,)
    running.cancel()
    await asyncio.wait([running])


async def test_changes_are_kept_newest_first(tmp_path: Path) -> None:
    history = History(tmp_path / "history.db", SystemClock())
    running = asyncio.create_task(history.run())
    now_s = SystemClock().wall_s()
    for ago_s, change in ((2.0, "before"), (3.0, "long before"), (1.0, "now")):
        await history.add_change(now_s - ago_s, change)
    assert await history.changes(limit=2) == ("now", "before")
    running.cancel()
    await asyncio.wait([running])


async def test_an_unknown_target_has_no_past(tmp_path: Path) -> None:
    history = History(tmp_path / "history.db", SystemClock())
    running = asyncio.create_task(history.run())
    nobody = TargetKey(env="x", service="x", check="x", vantage="x")
    assert await history.looks(nobody, since_s=0, limit=10) == tuple[PastLook, ...]()
    running.cancel()
    await asyncio.wait([running])


async def test_a_disk_that_refuses_drops_and_says_so_and_recovers(tmp_path: Path) -> None:
    place = tmp_path / "gone"
    history = History(place / "history.db", SystemClock())
    running = asyncio.create_task(history.run())
    history.add(look(1.0, State.UP, Reason.OK))
    with pytest.raises(Exception, match="unable to open"):
        await history.looks(KEY, since_s=0, limit=10)
    assert history.dropped == 1
    assert "gone" in (history.trouble or "")
    place.mkdir()
    history.add(look(2.0, State.UP, Reason.OK))
    assert len(await history.looks(KEY, since_s=0, limit=10)) == 1
    assert history.trouble is None
    running.cancel()
    await asyncio.wait([running])


async def test_failures_that_follow_each_other_alike_are_one_and_outlive_a_long_outage(
    tmp_path: Path,
) -> None:
    history = History(tmp_path / "history.db", SystemClock())
    running = asyncio.create_task(history.run())
    begun_s = float(int(SystemClock().wall_s()) - 3000)
    seen = [(State.DOWN, Reason.TIMEOUT), (State.UP, Reason.OK), (State.DOWN, Reason.TIMEOUT)]
    seen += [(State.DOWN, Reason.STATUS)] * 900 + [
        (State.UNKNOWN, Reason.CONFIG),
        (State.DEGRADED, Reason.SLOW),
    ]
    for number, (state, reason) in enumerate(seen):
        history.add(look(begun_s + number, state, reason))
        if number % 100 == 0:
            await history.failures(KEY, limit=1)  # written in several batches
    kept = await history.failures(KEY, limit=200)
    told = [(msgspec.json.decode(one.detail)["reason"], one.first_s - begun_s, one.looks) for one in kept]
    assert told == [
        ("slow", 904.0, 1),
        ("config", 903.0, 1),
        ("status", 3.0, 900),
        ("timeout", 2.0, 1),
        ("timeout", 0.0, 1),
    ]
    assert kept[2].at_s == begun_s + 902
    running.cancel()
    await asyncio.wait([running])


def test_of_each_target_the_newest_failures_are_kept_and_none_for_ever() -> None:
    database = sqlite3.connect(":memory:")
    database.executescript("CREATE TABLE targets (id INTEGER, env TEXT);" + past_failures.SCHEMA)
    database.executemany("INSERT INTO targets VALUES (?, ?)", [(1, "prod"), (2, "prod"), (3, "dev")])
    runs = past_failures.FailureRuns()
    reasons = (Reason.TIMEOUT, Reason.STATUS)
    old = [(1, look(float(number), State.DOWN, reasons[number % 2])) for number in range(300)]
    runs.write(database, [*old, *((target, look(5.0, State.DOWN, Reason.DNS)) for target in (2, 3))])

    def left() -> list[int]:
        return [len(runs.read(database, target, limit=1000)) for target in (1, 2, 3)]

    runs.thin_out(database)
    assert left() == [200, 1, 1]
    assert runs.read(database, 1, limit=1)[0].at_s == 299.0
    runs.prune(database, "prod", oldest_ms=250_000)
    assert left() == [50, 0, 1]


async def test_each_environment_keeps_its_past_as_long_as_it_says(tmp_path: Path) -> None:
    now_s = SystemClock().wall_s()
    path = tmp_path / "history.db"
    first = History(path, SystemClock())
    running = asyncio.create_task(first.run())
    other = TargetKey(env="development", service="api", check="http", vantage="local")
    for key in (KEY, other):
        target = Target(key=key, kind=Kind.SERVICE, address="auth:80")
        for ago_s in (10.0, 7200.0):
            first.add(look(now_s - ago_s, State.DOWN, Reason.TIMEOUT, target=target))
    assert len(await first.looks(other, since_s=0, limit=10)) == 2
    running.cancel()
    await asyncio.wait([running])

    second = History(path, SystemClock(), {"development": Kept(looks_s=3600.0, failures_s=3600.0)})
    running = asyncio.create_task(second.run())

    async def counts() -> list[int]:
        return [len(await second.looks(key, since_s=0, limit=10)) for key in (KEY, other)]

    async with asyncio.timeout(10):
        while await counts() != [2, 1]:
            """It is pruned soon after the start."""
    running.cancel()
    await asyncio.wait([running])
