"""Choosing instances: least busy, not ejected, never none for fear of all."""

from __future__ import annotations

from services.gateway.pool import Instance, InstancePool
from services.instrumentation.breaker import Breaker
from services.instrumentation.client import Upstream


def pool_of(count: int) -> InstancePool:
    pool = InstancePool("asset")
    pool.replace([Upstream("asset", f"http://asset-{number}:80", Breaker()) for number in range(count)])
    return pool


def fail(pool: InstancePool, instance: Instance, times: int, now: float = 0.0) -> None:
    for _ in range(times):
        pool.failed(instance, now)


def test_equals_take_turns_and_the_less_busy_goes_first() -> None:
    pool = pool_of(3)
    assert {id(pool.choose(0, set())) for _ in range(3)} == {id(i) for i in pool.instances}
    pool.instances[0].in_flight = pool.instances[2].in_flight = 4
    assert pool.choose(0, set()) is pool.instances[1]


def test_five_failures_in_a_row_eject_for_thirty_seconds_then_longer() -> None:
    pool = pool_of(3)
    bad = pool.instances[0]
    fail(pool, bad, 4)
    pool.succeeded(bad)
    fail(pool, bad, 4)
    assert bad.ejected_until_s == 0
    fail(pool, bad, 1)
    assert bad.ejected_until_s == 30
    assert bad not in {pool.choose(29, set()) for _ in range(10)}
    assert bad in {pool.choose(31, set()) for _ in range(10)}
    fail(pool, bad, 5, now=40)
    assert bad.ejected_until_s == 100


def test_at_most_a_tenth_but_one_is_ejected() -> None:
    pool = pool_of(3)
    for instance in pool.instances:
        fail(pool, instance, 5)
    assert sum(instance.ejected_until_s > 0 for instance in pool.instances) == 1


def test_a_single_instance_is_never_ejected() -> None:
    pool = pool_of(1)
    fail(pool, pool.instances[0], 50)
    assert pool.choose(0, set()) is pool.instances[0]


def test_an_unready_instance_gets_nothing_unless_all_are() -> None:
    pool = pool_of(2)
    pool.instances[0].ready = False
    assert {pool.choose(0, set()) for _ in range(4)} == {pool.instances[1]}
    pool.instances[1].ready = False
    assert {pool.choose(0, set()) for _ in range(4)} == set(pool.instances)


def test_an_instance_with_an_open_breaker_is_passed_over() -> None:
    pool = pool_of(2)
    breaker = pool.instances[0].upstream.breaker
    for _ in range(10):
        breaker.fail(breaker.acquire(0), 0, 0)
    assert {pool.choose(1, set()) for _ in range(4)} == {pool.instances[1]}


def test_an_unready_instance_is_the_last_resort_of_a_retry() -> None:
    pool = pool_of(2)
    pool.instances[0].ready = False
    assert pool.choose(0, {pool.instances[1]}) is pool.instances[0]


def test_what_was_tried_is_not_tried_again_and_what_stays_is_remembered() -> None:
    pool = pool_of(2)
    first = pool.choose(0, set())
    assert first is not None
    assert pool.choose(0, {first}) is not first
    assert pool.choose(0, set(pool.instances)) is None
    kept = pool.instances[1]
    pool.replace([Upstream("asset", "http://asset-1:80", Breaker())])
    assert pool.instances == [kept]
