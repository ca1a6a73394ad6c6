from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable

import msgspec

from agent.board import Board
from agent.prober import Look, Prober, Watch
from checks.catalog import ProbeKit, kind
from checks.clock import SystemClock
from checks.finding import Finding, State
from checks.observation import Occasion
from checks.reason import Reason
from checks.resolver import CachingResolver
from checks.target import Kind, Target, TargetKey
from checks.units import Duration
from checks.verdict import ConfirmPolicy
from tests.virtual_time import VirtualClock, run_virtual
from tests.waiting import until

UP = Finding(state=State.UP, reason=Reason.OK, message="answered")
REFUSED = Finding(state=State.DOWN, reason=Reason.CONNECTION_REFUSED, message="refused", hard=True)
SLOW = Finding(state=State.DEGRADED, reason=Reason.SLOW, message="slow", latency_s=3.5)
BROKEN = Finding(state=State.DOWN, reason=Reason.STATUS, message="503")


class Options(msgspec.Struct, frozen=True):
    url: str = "http://127.0.0.1"


class Patient:
    """A target whose health is set by the test; looks take 10 ms, or for ever while `hangs`."""

    def __init__(self) -> None:
        self.finding = UP
        self.hangs = False
        self.takes_s = 0.01
        self.looks = 0
        self.at_once = 0
        self.most_at_once = 0
        self.closed = 0

    async def probe(self) -> Finding:
        self.looks += 1
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            if self.hangs:
                await asyncio.get_running_loop().create_future()
            await asyncio.sleep(self.takes_s)
        finally:
            self.at_once -= 1
        return self.finding

    async def close(self) -> None:
        self.closed += 1


class Alarm:
    """A sentinel the test can make cry."""

    def __init__(self) -> None:
        self.cry: Callable[[str], None] = lambda _: None
        self.watching = False

    async def watch(self, suspect: Callable[[str], None]) -> None:
        self.cry, self.watching = suspect, True
        await asyncio.get_running_loop().create_future()


def watch(
    name: str,
    check: Patient,
    *,
    alarm: Alarm | None = None,
    url: str = "http://127.0.0.1",
    confirm: ConfirmPolicy | None = None,
) -> Watch:
    key = TargetKey(env="production", service=name, check="http", vantage="public")
    return Watch(
        target=Target(key=key, kind=Kind.SERVICE, address=name),
        kind="http",
        options=Options(url=url),
        check=check,
        sentinel=alarm,
        interval_s=10.0,
        timeout_s=5.0,
        slower_than_s=2.0,
        confirm=confirm or ConfirmPolicy(),
    )


class Told:
    """Everything the prober reported, and when."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.looks: list[tuple[float, Look]] = []

    def __call__(self, look: Look) -> None:
        self.looks.append((round(self._clock.monotonic_s(), 3), look))

    def changes(self) -> list[tuple[float, str, State]]:
        return [
            (at_s, look.row.target.key.service, look.verdict.state)
            for at_s, look in self.looks
            if look.before.state is not look.verdict.state
        ]


async def started(clock: VirtualClock, *watches: Watch) -> tuple[Prober, Told, asyncio.Task[None]]:
    told = Told(clock)
    prober = Prober(Board(), clock, told)
    task = asyncio.create_task(prober.run(watches))
    await asyncio.sleep(0.1)
    return prober, told, task


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def test_hard_evidence_is_confirmed_within_100_ms_and_soft_within_one_and_a_half_seconds() -> None:
    async def scenario(clock: VirtualClock) -> list[tuple[float, str, State]]:
        hard, soft = Patient(), Patient()
        _, told, task = await started(clock, watch("hard", hard), watch("soft", soft))
        hard.finding, soft.finding = REFUSED, BROKEN
        await asyncio.sleep(20)
        await ended(task)
        first_bad = {
            look.row.target.key.service: at_s
            for at_s, look in reversed(told.looks)
            if look.observation.finding.state is State.DOWN
        }
        return [(round(at_s - first_bad[name], 3), name, state) for at_s, name, state in told.changes()[2:]]

    changes = {name: (after_s, state) for after_s, name, state in run_virtual(scenario)}
    assert changes == {"hard": (0.06, State.DOWN), "soft": (1.02, State.DOWN)}


def test_each_watch_confirms_by_its_own_policy_and_a_reload_brings_another() -> None:
    patient = ConfirmPolicy(soft_failures=3, soft_after=(Duration(4),))
    hasty = ConfirmPolicy(soft_failures=1)

    async def scenario(clock: VirtualClock) -> list[tuple[float, str, State]]:
        one, other = Patient(), Patient()
        prober, told, task = await started(
            clock, watch("one", one, confirm=patient), watch("other", other, confirm=hasty)
        )
        one.finding = other.finding = BROKEN
        prober.look_now(told.looks[0][1].row.target.key, Occasion.SCHEDULED)
        prober.look_now(told.looks[1][1].row.target.key, Occasion.SCHEDULED)
        await asyncio.sleep(4.5)
        assert [look.verdict.doubt for _, look in told.looks if look.row.target.key.service == "one"][-1] == 2
        await prober.place((watch("one", one, confirm=hasty), watch("other", other, confirm=hasty)))
        await asyncio.sleep(0.1)
        await ended(task)
        return told.changes()[2:]

    assert run_virtual(scenario) == [(0.11, "other", State.DOWN), (4.61, "one", State.DOWN)]


def test_slots_left_out_because_a_look_was_still_under_way_are_counted_as_missed() -> None:
    async def scenario(clock: VirtualClock) -> tuple[int, list[tuple[float, int]]]:
        endless = Patient()
        endless.takes_s = 24.0
        slow = msgspec.structs.replace(watch("report", endless), timeout_s=30.0)
        _, told, task = await started(clock, slow)
        await asyncio.sleep(200)
        await ended(task)
        return endless.most_at_once, [
            (look.observation.at_s, look.missed)
            for _, look in told.looks
            if look.observation.occasion is Occasion.SCHEDULED
        ]

    most_at_once, looks = run_virtual(scenario)
    assert most_at_once == 1
    assert len(looks) > 4
    # From the second on it is on the grid of 10 s, and a look of 24 s covers two further slots.
    assert [missed for _, missed in looks[2:]] == [2] * (len(looks) - 2)
    assert {round(later[0] - before[0]) for before, later in itertools.pairwise(looks[1:])} == {30}


def test_a_slow_target_is_confirmed_as_slow_and_not_cut_off_as_down() -> None:
    async def scenario(clock: VirtualClock) -> list[tuple[float, str, State]]:
        patient = Patient()
        _, told, task = await started(clock, watch("report", patient))
        patient.takes_s, patient.finding = 3.5, SLOW
        await asyncio.sleep(40)
        patient.finding = UP  # it may take long and be right, as a plug-in does
        await asyncio.sleep(40)
        await ended(task)
        return told.changes()[1:]

    assert [state for _, _, state in run_virtual(scenario)] == [State.DEGRADED, State.UP]


def test_a_lost_connection_to_a_target_that_always_takes_long_is_no_freeze() -> None:
    async def scenario(clock: VirtualClock) -> list[State]:
        patient, alarm = Patient(), Alarm()
        patient.takes_s = 1.5
        patient.finding = msgspec.structs.replace(UP, latency_s=1.5)
        _, told, task = await started(clock, watch("report", patient, alarm=alarm))
        await asyncio.sleep(2)
        alarm.cry("end of file")
        await asyncio.sleep(20)
        await ended(task)
        return [state for _, _, state in told.changes()]

    assert run_virtual(scenario) == [State.UP]


def test_a_sentinels_cry_is_looked_into_at_once_and_decides_with_hard_evidence() -> None:
    async def scenario(clock: VirtualClock) -> list[tuple[float, str, State]]:
        patient, alarm = Patient(), Alarm()
        _, told, task = await started(clock, watch("auth", patient, alarm=alarm))
        patient.finding = REFUSED
        alarm.cry("end of file")
        await asyncio.sleep(0.2)
        await ended(task)
        return told.changes()

    assert run_virtual(scenario) == [(0.01, "auth", State.UP), (0.11, "auth", State.DOWN)]


def test_a_frozen_target_is_named_one_second_after_its_sentinel_cried_even_during_a_hanging_look() -> None:
    async def scenario(clock: VirtualClock) -> list[tuple[float, str, State]]:
        patient, alarm = Patient(), Alarm()
        prober, told, task = await started(clock, watch("auth", patient, alarm=alarm))
        patient.hangs = True
        prober.look_now(next(iter(told.looks))[1].row.target.key, Occasion.SCHEDULED)
        await asyncio.sleep(0.5)
        alarm.cry("heartbeat missed")
        await asyncio.sleep(3)
        await ended(task)
        return told.changes()

    assert run_virtual(scenario) == [(0.01, "auth", State.UP), (1.6, "auth", State.DOWN)]


def test_a_target_is_never_looked_at_twice_at_once_and_a_hang_costs_others_nothing() -> None:
    async def scenario(clock: VirtualClock) -> tuple[int, int, list[float]]:
        hanging, healthy = Patient(), Patient()
        hanging.hangs = True
        _, told, task = await started(clock, watch("hanging", hanging), watch("healthy", healthy))
        await asyncio.sleep(60)
        await ended(task)
        lags = [look.lag_s for _, look in told.looks if look.row.target.key.service == "healthy"]
        return hanging.most_at_once, healthy.looks, lags

    at_once, looks, lags = run_virtual(scenario)
    assert at_once == 1
    assert looks >= 6
    assert max(lags) < 0.001


def test_a_reload_keeps_unchanged_checks_and_closes_the_others_once() -> None:
    async def scenario(clock: VirtualClock) -> tuple[int, int, int, int]:
        same, replacement_of_same, changed, new = Patient(), Patient(), Patient(), Patient()
        prober, told, task = await started(clock, watch("a", same), watch("b", changed))
        await prober.place((watch("a", replacement_of_same), watch("b", new, url="http://other")))
        await asyncio.sleep(0.1)
        states = [state for _, _, state in told.changes()]
        assert states == [State.UP, State.UP], "verdicts survive a reload"
        before = same.closed
        await ended(task)
        assert (before, same.closed, new.closed) == (0, 1, 1)
        return replacement_of_same.closed, changed.closed, new.looks, replacement_of_same.looks

    assert run_virtual(scenario) == (1, 1, 1, 0)


def test_manual_looks_at_something_unknown_say_so() -> None:
    async def scenario(clock: VirtualClock) -> bool:
        prober, _, task = await started(clock, watch("a", Patient()))
        known = prober.look_now(TargetKey(env="x", service="x", check="x", vantage="x"))
        await ended(task)
        return known

    assert run_virtual(scenario) is False


def silent_watch(listener: socket.socket, alarm: Alarm) -> Watch:
    """A look in flight at a server that takes connections and says nothing."""
    found = kind("http")
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    key = TargetKey(env="production", service="auth", check="http", vantage="public")
    target = Target(key=key, kind=Kind.SERVICE, address=url)
    kit = ProbeKit(clock=SystemClock(), resolver=CachingResolver())
    options = found.options(url=url)
    return Watch(
        target=target, kind="http", options=options, check=found.build(target, options, kit),
        sentinel=alarm, interval_s=10.0, timeout_s=5.0, slower_than_s=2.0, taskless=found.taskless,
    )  # fmt: skip


async def test_a_look_in_flight_gives_way_to_a_sentinels_cry_and_ends_with_the_prober() -> None:
    loop, alarm = asyncio.get_running_loop(), Alarm()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        prober = Prober(Board(), SystemClock(), lambda _: None)
        task = asyncio.create_task(prober.run((silent_watch(listener, alarm),)))
        async with asyncio.timeout(10):
            first, _ = await loop.sock_accept(listener)
            await until(lambda: alarm.watching, what="the sentinel")
            alarm.cry("end of file")
            second, _ = await loop.sock_accept(listener)
            with first, second:
                assert await read_to_end(first) == await read_to_end_after(task, second)
    assert prober.in_flight == 0


async def read_to_end(peer: socket.socket) -> str:
    """The request line that came before the other side closed."""
    peer.setblocking(False)
    data = b""
    while more := await asyncio.get_running_loop().sock_recv(peer, 65536):
        data += more
    return data.partition(b"\r\n")[0].decode()


async def read_to_end_after(task: asyncio.Task[None], peer: socket.socket) -> str:
    await ended(task)
    return await read_to_end(peer)
